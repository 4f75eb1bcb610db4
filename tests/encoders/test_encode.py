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


def test_shortest_waveform_is_the_shortest_possible(encoder):
    assert encoder.frame_count(encoder.min_samples) == 1
    if encoder.family != "decoar2":
        assert encoder.min_samples == 400
        assert encoder.frame_count(encoder.min_samples - 1) == 0


def test_features_are_those_of_the_transformers_model(encoder, waveforms_of):
    """The forward pass written out here against the one of transformers."""
    (waveform,) = waveforms_of([4000])
    if encoder.normalize:
        waveform = torch.nn.functional.layer_norm(waveform, waveform.shape)
    with torch.inference_mode():
        expected = encoder.backbone((decoar2_features(waveform) if encoder.family == "decoar2" else waveform)[None])
        found = encoder.encode([waveform])
    torch.testing.assert_close(found.hidden_states[-1], expected.last_hidden_state, atol=1e-4, rtol=0)


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


def test_inference_mode_of_the_caller_is_respected(encoder, waveforms_of):
    with torch.inference_mode():
        assert not encoder.encode(waveforms_of([2000])).hidden_states[-1].requires_grad
    assert encoder.encode(waveforms_of([2000])).hidden_states[-1].requires_grad


def test_normalized_encoders_ignore_offset_and_loudness(tmp_path, waveforms_of):
    encoder = load_encoder(random_encoder("hubert", tmp_path / "n", normalize=True, extractor_mode="layer_norm"))
    (waveform,) = waveforms_of([3000])
    with torch.inference_mode():
        plain, changed = (encoder.encode([x]).hidden_states[-1] for x in (waveform, 3 * waveform + 1))
    torch.testing.assert_close(plain, changed, atol=1e-2, rtol=0)


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
