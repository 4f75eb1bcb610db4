"""Every head as the reference trained it for three steps, without dropout and augmentation."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.utils.rnn import pad_sequence

from speechft.tasks import get_task
from speechft.tasks.base import LabelSet
from speechft.tasks.heads import DiarizationHead, FrameHead, RecurrentHead, SlotHead, UtteranceHead, fit_frames, masked_mean
from speechft.tasks.sd import best_assignment, frame_errors
from speechft.tasks.vocabularies import slot_filling_vocabulary
from speechft.tasks.xvector import XVectorHead

POOLED = ("ks", "sid", "er", "ic")
FEATURES = 32
HEADS = {
    **dict.fromkeys(("ks", "sid", "er"), lambda c: UtteranceHead(FEATURES, c["classes"], c["projector_dim"])),
    "ic": lambda c: SlotHead(FEATURES, c["values_per_slot"], c["projector_dim"]),
    "pr": lambda c: FrameHead(FEATURES, c["vocab_size"], c["project_dim"]),
    **dict.fromkeys(("asr", "sf"), lambda c: RecurrentHead(FEATURES, c["vocab_size"], c["project_dim"], c["lstm_dim"], 0.0, False)),
    "sd": lambda c: DiarizationHead(FEATURES, c["speakers"], c["hidden_size"]),
    "asv": lambda c: XVectorHead(FEATURES, c["speakers"], c["input_dim"], c["agg_dim"]),
}
LINEAR = {"classifier": "model.linear"}
# Ours, a regular expression -> the reference's name of a parameter; all others have the same name.
RENAMED = {
    **{name: {"classifier": "model.post_net.linear"} for name in POOLED},
    "pr": LINEAR,
    **{name: LINEAR | {r"rnns\.(\d)": r"model.rnns.\1.layer"} for name in ("asr", "sf")},
    "sd": LINEAR | {"rnn": "model.rnn"},
    "asv": {
        "projector": "connector",
        r"tdnn\.(\d)": r"model.framelevel_feature_extractor.module.\1.kernel",
        "utterance": "model.utterancelevel_feature_extractor.linear",
        "speaker_vectors": "objective.W",
    },
}


def close(found, expected, tolerance=5e-5):
    torch.testing.assert_close(found, torch.as_tensor(expected), atol=tolerance, rtol=0)


class Recorded:
    def __init__(self, folder, name):
        self.folder, self.name, self.task = folder, name, get_task(name)
        self.meta = json.loads((folder / "meta.json").read_text())
        self.io = np.load(folder / "io.npz")
        self.head = HEADS[name](self.meta["model_config"])
        self.head.load_state_dict(self.weights("init"))

    def reference_name(self, ours):
        for pattern, replacement in RENAMED[self.name].items():
            ours = re.sub(f"^{pattern}", replacement, ours)
        return ours

    def weights(self, file):
        found, ours = load_file(self.folder / f"{file}.safetensors"), self.head.state_dict()
        assert {self.reference_name(name) for name in ours} == set(found) - {"best_score"}
        return {name: self._in_our_layout(found[self.reference_name(name)], value) for name, value in ours.items()}

    @staticmethod
    def _in_our_layout(weight, like):
        """The reference unfolds the context frames of a convolution into the input of a linear layer, frame by frame."""
        return weight.view(like.shape[0], like.shape[2], like.shape[1]).transpose(1, 2) if like.dim() == 3 else weight

    def tensors(self, k, kind):
        count = sum(name.startswith(f"b{k}_{kind}_") and name[-1].isdigit() for name in self.io)
        return [torch.from_numpy(self.io[f"b{k}_{kind}_{i}"]) for i in range(count)]

    def batch(self, k):
        features = self.tensors(k, "feat")
        lengths, padded = torch.tensor(list(map(len, features))), pad_sequence(features, batch_first=True)
        if self.name in (*POOLED, "asv"):
            return padded, lengths, list(torch.from_numpy(self.io[f"b{k}_labels"]))
        targets = self.tensors(k, "label")
        if self.name != "sd":
            return padded, lengths, [target.long() for target in targets]
        # The reference brings the padded batch to the frames of the labels, so that every item counts as long as the longest.
        lengths = torch.tensor(self.io[f"b{k}_label_lengths"])
        assert lengths.tolist() == list(map(len, targets))
        longest, wanted = (torch.full((len(targets),), frames) for frames in (padded.shape[1], int(lengths.max())))
        return fit_frames(padded, longest, wanted), lengths, targets


@pytest.fixture(params=HEADS)
def recorded(request, golden):
    return Recorded(golden / "heads" / request.param, request.param)


def test_logits_and_losses_equal_the_reference(recorded):
    head, name = recorded.head.eval(), recorded.name
    for k in range(3):
        features, lengths, targets = recorded.batch(k)
        logits, logit_lengths = head(features, lengths)
        close(recorded.task.loss(logits, logit_lengths, targets), recorded.io[f"b{k}_eval_loss"])
        assert logit_lengths.tolist() == ([1] * len(targets) if name in (*POOLED, "asv") else lengths.tolist())
        if name == "ic":
            close(head.from_means(masked_mean(features, lengths)), logits, 1e-5)
            # Ours are by slot, with -inf past the values of a slot.
            logits = logits[torch.isfinite(logits)].view(len(targets), -1)
        if name == "asv":
            logits = head.utterance_vectors(features, lengths)
        for found, expected, length in zip(logits, recorded.io[f"b{k}_eval_logits"], lengths.tolist(), strict=True):
            valid = length if name in ("pr", "asr", "sf") else len(found)
            close(found[:valid], expected[:valid])


def test_three_optimizer_steps_equal_the_reference(recorded):
    head, meta = recorded.head.train(), recorded.meta
    assert len(meta["steps"]) == 3
    optimizer = getattr(torch.optim, meta["optimizer_class"])(head.parameters(), lr=meta["steps"][0]["lr"])
    for step in meta["steps"]:
        features, lengths, targets = recorded.batch(step["batch"])
        loss = recorded.task.loss(*head(features, lengths), targets)
        assert loss.item() == pytest.approx(step["loss"], abs=5e-5)
        loss.backward()
        for name, parameter in head.named_parameters():
            expected = step["grad_norm_per_tensor_before_clip"][recorded.reference_name(name)]
            assert parameter.grad.norm().item() == pytest.approx(expected, rel=1e-3)
        total = torch.nn.utils.clip_grad_norm_(head.parameters(), meta["gradient_clipping"])
        assert total.item() == pytest.approx(step["grad_norm_total_before_clip"], rel=1e-3)
        optimizer.step()
        optimizer.zero_grad()
    for name, expected in recorded.weights("after_3_steps").items():
        close(head.state_dict()[name], expected, 3e-4 if recorded.name == "pr" else 3e-5)


@pytest.mark.parametrize("recorded", POOLED, indirect=True)
def test_accuracy_equals_the_reference(recorded):
    labels = LabelSet(tuple(map(str, range(len(recorded.head.classifier.bias)))))
    for k, record in enumerate(recorded.meta["eval_records"]):
        features, lengths, targets = recorded.batch(k)
        counts = recorded.task.statistics(*recorded.head(features, lengths), targets, labels)
        assert counts == {"correct": sum(record["acc"]), "utterances": len(record["acc"])}


@pytest.mark.parametrize("recorded", ["sd"], indirect=True)
def test_frame_accuracies_equal_the_reference(recorded):
    for k, record in enumerate(recorded.meta["eval_records"]):
        features, lengths, targets = recorded.batch(k)
        errors = frame_errors(best_assignment(*recorded.head(features, lengths), targets))
        wrong = errors.missed + errors.false_alarm + errors.confused
        assert (errors.correct.sum() / lengths.sum()).item() == pytest.approx(record["acc"][0], abs=1e-9)
        assert (wrong.sum() / errors.scored.sum()).item() == pytest.approx(record["der"][0], abs=1e-9)


@pytest.mark.parametrize("recorded", ["asv"], indirect=True)
def test_embeddings_equal_the_reference(recorded):
    head = recorded.head
    for k in range(3):
        features, lengths, _ = recorded.batch(k)
        close(head.embed(features, lengths, padded_frames=1), recorded.io[f"b{k}_test_embedding_batched"])
        alone = torch.cat([head.embed(feature[None], torch.tensor([len(feature)])) for feature in recorded.tensors(k, "feat")])
        close(alone, recorded.io[f"b{k}_test_embedding_alone"])
        # What evaluation compares does not depend on the batch.
        close(head.embed(features, lengths), alone, 1e-5)


@pytest.mark.parametrize("recorded", ["asr", "sf"], indirect=True)
def test_decoding_equals_the_reference(recorded):
    """In its record of a batch the reference decodes SF over padded frames too, so its own padded logits are decoded here.

    Its scores come from batches of one; ours are cut to their lengths.
    """
    task, slot_types = recorded.task, [f"slot_{first}{second}" for first in "ab" for second in "abcdefghijklmnopqrstuvwxyz"][:39]
    labels = LabelSet(slot_filling_vocabulary(slot_types))
    assert len(labels) == 109
    for k, record in enumerate(recorded.meta["eval_records"]):
        features, lengths, targets = recorded.batch(k)
        padded = torch.from_numpy(recorded.io[f"b{k}_eval_logits"]).argmax(dim=-1)
        paths = recorded.head.eval()(features, lengths)[0].argmax(dim=-1)
        for i, length in enumerate(lengths.tolist()):
            assert torch.equal(paths[i, :length], padded[i, :length])
            if recorded.name == "asr":
                symbols = task.spelling.symbols(paths[i, :length].tolist())
                assert (" ".join(symbols), task.spelling.words(symbols)) == (record["pred_tokens"][i], record["pred_words"][i])
            else:
                assert task.decode(padded[i].tolist(), labels) == record["hypothesis"][i]
                assert task.text(targets[i].tolist(), labels) == record["groundtruth"][i]
