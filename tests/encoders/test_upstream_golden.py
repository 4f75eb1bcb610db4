"""Features against those recorded from s3prl 0.4.18."""

import pytest
import torch

from speechft.encoders.filterbank import decoar2_features

TOLERANCE = {"decoar2": 2e-4}


def largest_difference(hidden_states, index, expected):
    frames = expected.shape[1]
    return max(
        (state[index, :frames] - torch.from_numpy(values)).abs().max().item() for state, values in zip(hidden_states, expected, strict=True)
    )


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1], [2]])
def test_alone_features_do_not_depend_on_the_batch(upstream, order):
    with torch.inference_mode():
        output = upstream.encoder.encode([upstream.waveforms[index] for index in order])
    assert len(output.hidden_states) == upstream.encoder.num_states
    for position, index in enumerate(order):
        expected = upstream.outputs[f"alone_hidden_states_{index}"]
        assert output.lengths[position] == expected.shape[1] == upstream.outputs["alone_kept_lengths"][index]
        assert largest_difference(output.hidden_states, position, expected) < TOLERANCE.get(upstream.name, 1e-4)
        assert all((state[position, expected.shape[1] :] == 0).all() for state in output.hidden_states)


def test_reference_padding_gives_the_batched_features(upstream):
    with torch.inference_mode():
        output = upstream.encoder.encode(upstream.waveforms, padding="reference")
    expected = torch.from_numpy(upstream.outputs["hidden_states"])
    assert output.lengths.tolist() == upstream.outputs["kept_lengths"].tolist()
    # Frames behind the kept ones agree too: they come from the same zeros.
    assert (torch.stack(output.hidden_states) - expected).abs().max() < TOLERANCE.get(upstream.name, 1e-4)


def test_group_norm_over_padding_is_really_different(hubert):
    """Guards the two tests above: were both modes the same, one of them would be vacuous."""
    with torch.inference_mode():
        alone = hubert.encoder.encode(hubert.waveforms)
        reference = hubert.encoder.encode(hubert.waveforms, padding="reference")
    assert (alone.hidden_states[-1][0, :36] - reference.hidden_states[-1][0, :36]).abs().max() > 0.1


def test_filterbank_of_decoar2(golden):
    import numpy as np

    recorded = np.load(golden / "upstream" / "waveforms.npz")
    expected = np.load(golden / "upstream" / "decoar2.outputs.npz")
    for index in range(4):
        features = decoar2_features(torch.from_numpy(recorded[f"wav_{index}"]))
        assert (features - torch.from_numpy(expected[f"frontend_{index}"])).abs().max() < 2e-4


def test_frame_count_is_the_number_of_frames(upstream):
    for waveform in upstream.waveforms:
        with torch.inference_mode():
            frames = upstream.encoder.encode([waveform]).hidden_states[0].shape[1]
        assert upstream.encoder.frame_count(len(waveform)) == frames
