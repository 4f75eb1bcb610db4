"""Features against those recorded from s3prl 0.4.18."""

import numpy as np
import pytest
import torch

from speechft.encoders.filterbank import decoar2_features

TOLERANCE = {"decoar2": 2e-4}


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1], [2]])
def test_alone_features_do_not_depend_on_the_batch(upstream, order):
    with torch.inference_mode():
        output = upstream.encoder.encode([upstream.waveforms[index] for index in order])
    assert len(output.hidden_states) == upstream.encoder.num_states
    for position, index in enumerate(order):
        expected = torch.from_numpy(upstream.outputs[f"alone_hidden_states_{index}"])
        frames = expected.shape[1]
        assert output.lengths[position] == frames == upstream.outputs["alone_kept_lengths"][index]
        assert upstream.encoder.frame_count(len(upstream.waveforms[index])) == frames
        states = torch.stack([state[position] for state in output.hidden_states])
        assert (states[:, :frames] - expected).abs().max() < TOLERANCE.get(upstream.name, 1e-4)
        assert not states[:, frames:].any()


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
    recorded = np.load(golden / "upstream" / "waveforms.npz")
    expected = np.load(golden / "upstream" / "decoar2.outputs.npz")
    for index in range(4):
        features = decoar2_features(torch.from_numpy(recorded[f"wav_{index}"]))
        assert (features - torch.from_numpy(expected[f"frontend_{index}"])).abs().max() < 2e-4
