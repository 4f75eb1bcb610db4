"""Hidden states: against those recorded from s3prl 0.4.18, in batches, with gradients, in bf16."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft.encoders import load_encoder, random_encoder
from speechft.encoders.filterbank import decoar2_features
from speechft.encoders.waveforms import length_groups
from speechft.errors import AudioError, ConfigError

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


def test_filterbank_of_decoar2(golden):
    recorded = np.load(golden / "upstream" / "waveforms.npz")
    expected = np.load(golden / "upstream" / "decoar2.outputs.npz")
    for index in range(4):
        features = decoar2_features(torch.from_numpy(recorded[f"wav_{index}"]))
        assert (features - torch.from_numpy(expected[f"frontend_{index}"])).abs().max() < 2e-4


def test_decoar2_of_transformers_takes_the_filterbank(tmp_path, waveforms_of):
    encoder, (waveform,) = load_encoder(random_encoder("decoar2", tmp_path / "encoder")), waveforms_of([4000])
    with torch.inference_mode():
        found = encoder.backbone(decoar2_features(waveform)[None]).last_hidden_state
        torch.testing.assert_close(found, encoder.encode([waveform]).hidden_states[-1], atol=1e-4, rtol=0)


@pytest.fixture(scope="session")
def encoder(tiny_dir):
    return load_encoder(tiny_dir)


@given(lengths=st.lists(st.integers(640, 4000), min_size=1, max_size=3), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_any_batch_gives_the_features_of_each_utterance_alone(encoder, waveforms_of, lengths, seed):
    # A neighbor of similar length, so that some utterances always share a padded batch.
    lengths = [encoder.min_samples, *lengths, lengths[0] - lengths[0] // 8]
    waveforms = waveforms_of(lengths, seed)
    with torch.inference_mode():
        together = encoder.encode(waveforms)
        assert together.lengths.tolist() == [encoder.frame_count(length) for length in lengths]
        for index, waveform in enumerate(waveforms):
            alone = encoder.encode([waveform])
            frames = int(alone.lengths[0])
            assert frames >= 1
            for batched, single in zip(together.hidden_states, alone.hidden_states, strict=True):
                assert batched.shape == (len(lengths), int(together.lengths.max()), encoder.hidden_size)
                assert single.shape[1] == frames
                torch.testing.assert_close(batched[index, :frames], single[0], atol=1e-4, rtol=0)
                assert not batched[index, frames:].any()


def test_groups_of_similar_length():
    assert length_groups([1000, 390, 900, 400, 800, 100]) == [[0, 2, 4], [3, 1], [5]]
    assert length_groups([5]) == [[0]]


def test_gradients_reach_everything_but_the_extractor_unless_it_is_trained(encoder, waveforms_of):
    for train_extractor in (False, True):
        model = copy.deepcopy(encoder).train()
        model.train_extractor = train_extractor
        extractor = set(model.extractor_parameter_names())
        assert bool(extractor) == (model.family != "decoar2")
        sum((state**2).sum() for state in model.encode(waveforms_of([3000, 2700])).hidden_states).backward()
        gradients = {name: parameter.grad for name, parameter in model.backbone.named_parameters()}
        # The mask embedding is not used, because nothing is masked.
        without = {name for name, gradient in gradients.items() if gradient is None} - {"masked_spec_embed"}
        assert without == (set() if train_extractor else extractor)
        assert all(gradient.isfinite().all() for gradient in gradients.values() if gradient is not None)
        assert all(gradients[name].any() for name in extractor - without)


def test_training_mode_has_dropout_but_neither_layerdrop_nor_masking(encoder, waveforms_of):
    waveforms = waveforms_of([3000])
    model = copy.deepcopy(encoder).train()
    model.backbone.config.layerdrop = 1.0
    first, second = (model.encode(waveforms).hidden_states[-1] for _ in range(2))
    assert not torch.equal(first, second)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    with torch.inference_mode():
        found, expected = (either.encode(waveforms).hidden_states[-1] for either in (model, encoder))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_gradients_do_not_depend_on_padding(encoder, waveforms_of):
    """A loss over valid frames gives each parameter the sum of the gradients of the utterances by themselves."""
    waveforms = waveforms_of([4000, 3500, 1500])
    together = _gradients(encoder, [waveforms])
    apart = _gradients(encoder, [[waveform] for waveform in waveforms])
    torch.testing.assert_close(together, apart, atol=2e-3, rtol=1e-3)


def _gradients(encoder, batches):
    model = copy.deepcopy(encoder)
    for batch in batches:
        output = model.encode(batch)
        for state, length in zip(output.hidden_states[-1], output.lengths.tolist(), strict=True):
            state[:length].mean(dim=0).square().sum().backward(retain_graph=True)
    return {name: parameter.grad for name, parameter in model.backbone.named_parameters() if parameter.grad is not None}


GOOD = torch.zeros(2000)


@pytest.mark.parametrize(
    ("waveforms", "message"),
    [
        ([GOOD, torch.zeros(2, 2000)], r"waveforms\[1\].*shape \(2, 2000\).*channel"),
        ([GOOD, torch.zeros(2000, dtype=torch.int16)], r"waveforms\[1\].*int16.*32768"),
        ([GOOD, torch.full((2000,), float("nan"))], r"waveforms\[1\].*NaN"),
        ([GOOD, torch.tensor([0.0] * 1999 + [float("inf")])], r"waveforms\[1\].*Inf"),
        ([GOOD, torch.zeros(0)], r"waveforms\[1\].*0 samples"),
        ([GOOD, torch.zeros(399)], r"waveforms\[1\].*399 samples.*400"),
        ([GOOD, np.zeros(2000, dtype=np.float32)], r"waveforms\[1\].*ndarray"),
        (GOOD, "list"),
        ([], "empty"),
    ],
)
def test_unusable_waveforms_are_named(tiny_hubert, waveforms, message):
    with pytest.raises(AudioError, match=message):
        load_encoder(tiny_hubert).encode(waveforms)


def test_padding_is_checked(tiny_hubert):
    with pytest.raises(ConfigError, match="alone, reference"):
        load_encoder(tiny_hubert).encode([GOOD], padding="zero")


def test_half_precision_waveforms_are_widened(tiny_hubert):
    waveform = torch.randn(2000).half()
    encoder = load_encoder(tiny_hubert)
    with torch.inference_mode():
        assert torch.equal(encoder.encode([waveform]).hidden_states[0], encoder.encode([waveform.float()]).hidden_states[0])


@pytest.mark.parametrize("kernel", [16, 128])
def test_grouped_convolutions_are_computed_in_float32_on_a_cpu(kernel, tmp_path):
    """oneDNN gets those with few channels a group wrong in bf16 on some processors."""
    sizes = {"encoder_embed_dim": 192, "conv_pos": kernel, "conv_pos_groups": 16}
    layer = load_encoder(random_encoder("hubert", tmp_path / "encoder", **sizes)).backbone.encoder.pos_conv_embed.conv
    waves = torch.randn(2, 192, 200)
    with torch.no_grad():
        expected = layer(waves)
        with torch.autocast("cpu", torch.bfloat16):
            for module in (layer, copy.deepcopy(layer)):
                assert torch.equal(module(waves), expected)
