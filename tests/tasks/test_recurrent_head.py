"""The head of ASR and SF against recorded trainings of the reference, and its behavior on padding and in training mode."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tasks.recorded_steps import train_as_recorded
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from speechft.errors import TaskError
from speechft.tasks import get_task, heads
from speechft.tasks.base import LabelSet
from speechft.tasks.heads import RecurrentHead
from speechft.tasks.vocabularies import slot_filling_vocabulary


def reference_name(ours):
    module, _, part = ours.partition(".")
    if module == "rnns":
        layer, _, weight = part.partition(".")
        return f"model.rnns.{layer}.layer.{weight}"
    return {"projector": f"projector.{part}", "classifier": f"model.linear.{part}"}[module]


class Recorded:
    """A head as the reference trained it for three steps, without dropout and augmentation."""

    def __init__(self, golden, name):
        self.name, self.folder = name, golden / "heads" / name
        self.meta = json.loads((self.folder / "meta.json").read_text())
        self.io = np.load(self.folder / "io.npz")
        config = self.meta["model_config"]
        self.head = RecurrentHead(32, config["vocab_size"], config["project_dim"], config["lstm_dim"], dropout=0.0, spec_augment=False)
        self.head.load_state_dict(self.weights("init.safetensors"))

    def weights(self, file):
        tensors = load_file(self.folder / file)
        assert {reference_name(ours) for ours in self.head.state_dict()} == set(tensors) - {"best_score"}
        return {ours: tensors[reference_name(ours)] for ours in self.head.state_dict()}

    def batch(self, k):
        count = sum(name.startswith(f"b{k}_feat_") for name in self.io)
        features = [torch.from_numpy(self.io[f"b{k}_feat_{i}"]) for i in range(count)]
        targets = [torch.from_numpy(self.io[f"b{k}_label_{i}"]).long() for i in range(count)]
        return pad_sequence(features, batch_first=True), torch.tensor([len(feature) for feature in features]), targets


@pytest.fixture(params=["asr", "sf"])
def recorded(request, golden):
    return Recorded(golden, request.param)


def test_logits_and_losses_equal_the_reference(recorded):
    task = get_task(recorded.name)
    for k in range(3):
        features, lengths, targets = recorded.batch(k)
        logits, logit_lengths = recorded.head.eval()(features, lengths)
        assert logit_lengths.tolist() == recorded.io[f"b{k}_eval_logits_len"].tolist()
        torch.testing.assert_close(
            task.loss(logits, logit_lengths, targets), torch.tensor(recorded.io[f"b{k}_eval_loss"]), atol=5e-5, rtol=0
        )
        expected = torch.from_numpy(recorded.io[f"b{k}_eval_logits"])
        for i, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(logits[i, :length], expected[i, :length], atol=5e-5, rtol=0)


def test_three_optimizer_steps_equal_the_reference(recorded):
    head, task = recorded.head.train(), get_task(recorded.name)
    train_as_recorded(head, task, recorded, reference_name)
    for name, expected in recorded.weights("after_3_steps.safetensors").items():
        torch.testing.assert_close(head.state_dict()[name], expected, atol=3e-5, rtol=0)


def test_decoding_of_logits_equals_the_reference(recorded):
    """The recorded batches decode to the recorded words and slots.

    In its record of a batch the reference decodes SF over padded frames too, so its own padded logits are decoded here. Its scores come
    from batches of one; ours are cut to their lengths.
    """
    task = get_task(recorded.name)
    slot_types = [f"slot_{first}{second}" for first in "ab" for second in "abcdefghijklmnopqrstuvwxyz"][:39]
    for k, record in enumerate(recorded.meta["eval_records"]):
        features, lengths, targets = recorded.batch(k)
        padded = torch.from_numpy(recorded.io[f"b{k}_eval_logits"]).argmax(dim=-1)
        paths = recorded.head.eval()(features, lengths)[0].argmax(dim=-1)
        for i, length in enumerate(lengths.tolist()):
            assert torch.equal(paths[i, :length], padded[i, :length])
            path = padded[i].tolist() if recorded.name == "sf" else paths[i, :length].tolist()
            if recorded.name == "asr":
                symbols = task.spelling.symbols(path)
                assert " ".join(symbols) == record["pred_tokens"][i]
                assert task.spelling.words(symbols) == record["pred_words"][i]
            else:
                labels = LabelSet(slot_filling_vocabulary(slot_types))
                assert len(labels) == 109
                assert task.decode(path, labels) == record["hypothesis"][i]
                assert task.text(targets[i].tolist(), labels) == record["groundtruth"][i]


def test_published_sizes():
    for name, symbols in (("asr", 32), ("sf", 109)):
        head = get_task(name).build_head(768, LabelSet(tuple(map(str, range(symbols)))))
        assert [tuple(head.projector.weight.shape), tuple(head.classifier.weight.shape)] == [(1024, 768), (symbols, 2048)]
        assert [(rnn.input_size, rnn.hidden_size, rnn.bidirectional) for rnn in head.rnns] == [(1024, 1024, True), (2048, 1024, True)]
        assert head.dropout.p == 0.2
        assert head.augment is not None


def small_head(**options):
    torch.manual_seed(0)
    return RecurrentHead(6, 5, projected=7, hidden=(4, 3), **options)


def test_padding_and_batch_mates_have_no_influence():
    head = small_head().eval()
    features, lengths = torch.randn(3, 9, 6), torch.tensor([4, 9, 1])
    alone = [head(features[i : i + 1, :length], lengths[i : i + 1])[0][0] for i, length in enumerate(lengths.tolist())]
    for i, length in enumerate(lengths.tolist()):
        features[i, length:] = 1e6
    together, kept = head(features, lengths)
    assert kept.tolist() == [4, 9, 1]
    for i, expected in enumerate(alone):
        torch.testing.assert_close(together[i, : len(expected)], expected, atol=1e-6, rtol=1e-5)


def test_dropout_follows_every_lstm_in_training_only(monkeypatch):
    features, lengths = torch.randn(2, 6, 6), torch.tensor([6, 4])
    head = small_head(dropout=0.5, spec_augment=False)
    seen, run = [], heads.run_bidirectional

    def listening(rnn, states, lengths):
        seen.append((states == 0).float().mean().item())
        return run(rnn, states, lengths)

    monkeypatch.setattr(heads, "run_bidirectional", listening)
    head.classifier.register_forward_pre_hook(lambda module, inputs: seen.append((inputs[0] == 0).float().mean().item()))
    head.train()(features, lengths)
    first, inside, outside = seen
    assert first == 0
    assert 0.3 < inside < 0.7
    assert 0.3 < outside < 0.7
    head.eval()(features, lengths)
    assert seen[3:] == [0.0, 0.0, 0.0]


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


@pytest.mark.parametrize("name", ["asr", "sf"])
@pytest.mark.parametrize("wrong", [{"projected": 0}, {"hidden": 1.5}, {"layers": True}, {"dropout": 1.0}, {"spec_augment": "no"}])
def test_wrong_sizes_are_named(name, wrong):
    with pytest.raises(TaskError, match=f"{name}: {next(iter(wrong))}="):
        get_task(name, **wrong)


def test_impossible_and_empty_targets_of_ctc():
    task = get_task("sf")
    assert task.without_gradient(torch.tensor([5, 5, 1]), 3) is not None
    assert task.without_gradient(torch.zeros(0, dtype=torch.int64), 3) is None
    logits = torch.zeros(2, 3, 41, requires_grad=True)
    loss = task.loss(logits, torch.tensor([3, 3]), [torch.tensor([5, 5, 1]), torch.zeros(0, dtype=torch.int64)])
    # Only the empty target counts: three blanks, over a length of at least 1, over two utterances.
    assert loss.item() == pytest.approx(3 * np.log(41) / 2, abs=1e-5)
    assert task.loss(logits[:1], torch.tensor([3]), [torch.zeros(0, dtype=torch.int64)]).item() == pytest.approx(3 * np.log(41), abs=1e-5)
