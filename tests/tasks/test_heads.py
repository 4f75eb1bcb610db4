import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tasks.recorded_steps import train_as_recorded
from torch.nn.utils.rnn import pad_sequence

from speechft.tasks import get_task
from speechft.tasks.base import LabelSet, WeightedSum
from speechft.tasks.heads import FrameHead, SlotHead, UtteranceHead, masked_mean

REFERENCE_NAMES = {
    "ks": {"projector": "projector", "classifier": "model.post_net.linear"},
    "sid": {"projector": "projector", "classifier": "model.post_net.linear"},
    "er": {"projector": "projector", "classifier": "model.post_net.linear"},
    "ic": {"projector": "projector", "classifier": "model.post_net.linear"},
    "pr": {"projector": "projector", "classifier": "model.linear"},
}


class Recorded:
    """A head as the reference trained it for three steps."""

    def __init__(self, folder, name):
        self.name, self.folder = name, folder / "heads" / name
        self.meta = json.loads((self.folder / "meta.json").read_text())
        self.io = np.load(self.folder / "io.npz")

    def weights(self, file):
        tensors = load_file(self.folder / file)
        return {
            f"{ours}.{part}": tensors[f"{theirs}.{part}"]
            for ours, theirs in REFERENCE_NAMES[self.name].items()
            for part in ("weight", "bias")
        }

    def reference_name(self, ours):
        module, part = ours.split(".")
        return f"{REFERENCE_NAMES[self.name][module]}.{part}"

    def head(self):
        weights = self.weights("init.safetensors")
        projected, feature_dim = weights["projector.weight"].shape
        if self.name == "ic":
            head = SlotHead(feature_dim, self.meta["model_config"]["values_per_slot"], projected)
            head.load_state_dict(weights)
            return head
        head_type = FrameHead if self.name == "pr" else UtteranceHead
        head = head_type(feature_dim, len(weights["classifier.bias"]), projected)
        head.load_state_dict(weights)
        return head

    def batch(self, k):
        features = []
        while f"b{k}_feat_{len(features)}" in self.io:
            features.append(torch.from_numpy(self.io[f"b{k}_feat_{len(features)}"]))
        lengths = torch.tensor([len(feature) for feature in features])
        if self.name == "pr":
            targets = [torch.from_numpy(self.io[f"b{k}_label_{i}"]).long() for i in range(len(features))]
        else:
            targets = list(torch.from_numpy(self.io[f"b{k}_labels"]).long())
        return pad_sequence(features, batch_first=True), lengths, targets


@pytest.fixture(params=["ks", "sid", "er", "ic", "pr"])
def recorded(request, golden):
    return Recorded(golden, request.param)


def test_logits_and_losses_equal_the_reference(recorded):
    head, task = recorded.head(), get_task(recorded.name)
    for k in range(3):
        features, lengths, targets = recorded.batch(k)
        logits, logit_lengths = head(features, lengths)
        if recorded.name == "ic":
            means = masked_mean(features, lengths)
            torch.testing.assert_close(head.from_means(means), logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            task.loss(logits, logit_lengths, targets), torch.tensor(recorded.io[f"b{k}_eval_loss"]), atol=5e-5, rtol=0
        )
        expected = torch.from_numpy(recorded.io[f"b{k}_eval_logits"])
        if recorded.name == "ic":
            # Ours are by slot, with -inf past the values of a slot.
            logits = logits[torch.isfinite(logits)].view(len(expected), -1)
        for i, length in enumerate(lengths.tolist() if recorded.name == "pr" else [None] * len(lengths)):
            torch.testing.assert_close(logits[i][:length], expected[i][:length], atol=5e-5, rtol=0)


def test_three_optimizer_steps_equal_the_reference(recorded):
    head, task = recorded.head(), get_task(recorded.name)
    train_as_recorded(head, task, recorded, recorded.reference_name)
    for name, expected in recorded.weights("after_3_steps.safetensors").items():
        torch.testing.assert_close(head.state_dict()[name], expected, atol=3e-4 if recorded.name == "pr" else 3e-5, rtol=0)


@pytest.mark.parametrize("recorded", ["ks", "sid", "er", "ic"], indirect=True)
def test_accuracy_equals_the_reference(recorded):
    head, task = recorded.head(), get_task(recorded.name)
    labels = LabelSet(tuple(map(str, range(len(head.classifier.bias)))))
    for k, record in enumerate(recorded.meta["eval_records"]):
        features, lengths, targets = recorded.batch(k)
        counts = task.statistics(*head(features, lengths), targets, labels)
        assert counts == {"correct": sum(record["acc"]), "utterances": len(record["acc"])}


@pytest.mark.parametrize(("name", "classes"), [("ks", 12), ("sid", 5), ("er", 4), ("pr", 74)])
def test_published_widths(name, classes):
    head = get_task(name).build_head(768, LabelSet(tuple(map(str, range(classes)))))
    assert [tuple(value.shape) for value in head.state_dict().values()] == [(256, 768), (256,), (classes, 256), (classes,)]


def test_mean_vectors_give_the_logits_of_the_frames():
    torch.manual_seed(0)
    head, weighted_sum = UtteranceHead(8, 5), WeightedSum(3)
    torch.nn.init.normal_(weighted_sum.weights)
    states, lengths = torch.randn(3, 4, 11, 8), torch.tensor([11, 1, 7, 4])
    by_frames, ones = head(weighted_sum(states), lengths)
    torch.testing.assert_close(head.from_means(weighted_sum(masked_mean(states, lengths))), by_frames, atol=1e-6, rtol=1e-5)
    assert ones.tolist() == [1, 1, 1, 1]


def test_padding_has_no_influence_on_the_mean():
    features, lengths = torch.ones(2, 4, 3), torch.tensor([4, 2])
    features[1, 2:] = float("nan")
    assert masked_mean(features, lengths).tolist() == [[1.0] * 3] * 2
