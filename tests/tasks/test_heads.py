"""Sizes of heads, and their behavior on padding and in training mode."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from speechft.tasks import get_task, heads
from speechft.tasks.base import LabelSet
from speechft.tasks.heads import RecurrentHead
from speechft.tasks.xvector import LOST_FRAMES, mean_and_deviation


def labels(symbols, **extra):
    return LabelSet(tuple(map(str, range(symbols))), extra)


def shapes(name, label_set, feature_dim=768, **options):
    head = get_task(name, **options).build_head(feature_dim, label_set)
    return {name: tuple(value.shape) for name, value in head.state_dict().items()}


@pytest.mark.parametrize(("name", "outputs"), [("ks", 12), ("sid", 5), ("er", 4), ("pr", 74), ("pc", 39), ("ic", 24)])
def test_published_sizes_of_linear_heads(name, outputs):
    found = shapes(name, labels(outputs, values_per_slot=[6, 14, 4]))
    assert list(found.values()) == [(256, 768), (256,), (outputs, 256), (outputs,)]


@pytest.mark.parametrize(("name", "symbols"), [("asr", 32), ("sf", 109)])
def test_published_sizes_of_recurrent_heads(name, symbols):
    head = get_task(name).build_head(768, labels(symbols))
    assert [tuple(head.projector.weight.shape), tuple(head.classifier.weight.shape)] == [(1024, 768), (symbols, 2048)]
    assert [(rnn.input_size, rnn.hidden_size, rnn.bidirectional) for rnn in head.rnns] == [(1024, 1024, True), (2048, 1024, True)]
    assert head.dropout.p == 0.2
    assert head.augment is not None
    other = get_task(name, projected=256, hidden=256, layers=3).build_head(8, labels(symbols))
    assert [rnn.hidden_size for rnn in other.rnns] == [256] * 3


def test_published_sizes_of_diarization():
    weights = {"weight_ih_l0": (2048, 768), "weight_hh_l0": (2048, 512), "bias_ih_l0": (2048,), "bias_hh_l0": (2048,)}
    expected = {f"rnn.{name}": shape for name, shape in weights.items()} | {"classifier.weight": (2, 512), "classifier.bias": (2,)}
    assert shapes("sd", labels(2)) == expected
    assert shapes("sd", labels(2), hidden=8)["classifier.weight"] == (2, 8)


def test_published_sizes_of_verification():
    found = shapes("asv", labels(3))
    assert [found[f"tdnn.{i}.weight"] for i in range(5)] == [(512, 512, 5), (512, 512, 3), (512, 512, 3), (512, 512, 1), (1500, 512, 1)]
    assert [found[f"{name}.weight"] for name in ("projector", "utterance1", "utterance2")] == [(512, 768), (512, 3000), (512, 512)]
    assert found["speaker_vectors"] == (512, 3)
    assert LOST_FRAMES == 14
    small = shapes("asv", labels(2), 16, width=8, pooled_width=12)
    assert (small["tdnn.4.weight"], small["utterance1.weight"]) == ((12, 8, 1), (8, 24))


def small_head(**options):
    torch.manual_seed(0)
    return RecurrentHead(6, 5, projected=7, hidden=(4, 3), **options)


def test_dropout_follows_every_lstm_in_training_only(monkeypatch):
    features, lengths = torch.randn(2, 6, 6), torch.tensor([6, 4])
    head = small_head(dropout=0.5, spec_augment=False)
    zeros, run = [], heads.run_bidirectional

    def listening(rnn, states, lengths):
        zeros.append((states == 0).float().mean().item())
        return run(rnn, states, lengths)

    monkeypatch.setattr(heads, "run_bidirectional", listening)
    head.classifier.register_forward_pre_hook(lambda module, inputs: zeros.append((inputs[0] == 0).float().mean().item()))
    head.train()(features, lengths)
    first, inside, outside = zeros
    assert first == 0
    assert 0.3 < inside < 0.7
    assert 0.3 < outside < 0.7
    head.eval()(features, lengths)
    assert zeros[3:] == [0.0, 0.0, 0.0]


def test_whole_batches_give_what_packed_sequences_give():
    torch.manual_seed(3)
    rnn = torch.nn.LSTM(7, 5, batch_first=True, bidirectional=True)
    lengths = torch.tensor([4, 9, 1, 6])
    padded = torch.arange(9) >= lengths[:, None]
    features = torch.randn(4, 9, 7).masked_fill(padded[..., None], 100.0).requires_grad_()
    packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(rnn(packed)[0], batch_first=True)[0]
    factors = torch.randn_like(expected).masked_fill(padded[..., None], 0.0)
    wanted = torch.autograd.grad((expected * factors).sum(), [features, *rnn.parameters()])
    found = heads.run_bidirectional(rnn, features, lengths)
    torch.testing.assert_close(found[~padded], expected[~padded])
    for gradient, other in zip(torch.autograd.grad((found * factors).sum(), [features, *rnn.parameters()]), wanted, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-5)


def test_augmentation_in_training_only():
    features, lengths = torch.randn(2, 30, 6), torch.tensor([30, 24])
    plain, augmented = small_head(dropout=0.0, spec_augment=False), small_head(dropout=0.0)
    torch.testing.assert_close(augmented.eval()(features, lengths), plain.eval()(features, lengths))
    assert not torch.equal(augmented.train()(features, lengths)[0], plain.train()(features, lengths)[0])


def test_recurrent_layers_stay_in_float32_under_autocast():
    head, features, lengths = small_head().eval(), torch.randn(2, 6, 6), torch.tensor([6, 4])
    expected, _ = head(features, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, _ = head(features, lengths)
        from_half, _ = head(features.bfloat16(), lengths)
    assert logits.dtype == from_half.dtype == torch.float32
    assert torch.equal(logits, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_frames_in_half_precision_are_pooled_in_float32(dtype):
    """Neither format holds the sum of so many frames, and bf16 not even their number."""
    features, lengths = (3 + torch.randn(2, 1203, 4)).to(dtype), torch.tensor([1203, 771])
    own = [frames[:length].float() for frames, length in zip(features, lengths, strict=True)]
    means, deviations = (torch.stack([of(frames, dim=0) for frames in own]) for of in (torch.mean, torch.std))
    torch.testing.assert_close(heads.masked_mean(features, lengths), means)
    torch.testing.assert_close(mean_and_deviation(features, lengths), torch.cat([means, deviations], dim=1))
