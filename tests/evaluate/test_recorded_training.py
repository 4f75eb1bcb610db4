"""Whole training runs of the reference, replayed: padding and batches as it made them."""

import json

import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch import nn

from speechft.encoders import import_checkpoint, load_encoder
from speechft.evaluate.probes.bank import Setting
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.recipes.evaluation import evaluation_recipe
from speechft.tasks import get_task
from speechft.tasks.base import LabelSet
from speechft.tasks.heads import FrameHead, UtteranceHead

COMMON = {
    "weighted_sum.weights": "Featurizer.weights",
    "head.projector.weight": "Downstream.projector.weight",
    "head.projector.bias": "Downstream.projector.bias",
}
CLASSIFIERS = {"pr": "Downstream.model.linear", "er": "Downstream.model.post_net.linear"}
NAMES = {
    task: {**COMMON, **{f"head.classifier.{part}": f"{classifier}.{part}" for part in ("weight", "bias")}}
    for task, classifier in CLASSIFIERS.items()
}


class ReferenceFrames:
    """Features whose padding depends on the batch, as in the reference."""

    def __init__(self, encoder, waveforms):
        self.encoder, self.waveforms = encoder, waveforms

    def __getitem__(self, names):
        with torch.no_grad():
            output = self.encoder.encode([self.waveforms[name] for name in names], padding="reference")
        return torch.stack(output.hidden_states), output.lengths


class Replay:
    """A recorded training: the encoder, the recordings, and a bank with one probe of the recorded initial weights."""

    def __init__(self, golden, folder, name, feature_dim_to_head, labels=None):
        self.trace = json.loads((golden / "replay" / f"{name}.trace.json").read_text())
        import_checkpoint(golden / "upstream" / "hubert.pt", folder / "hubert")
        encoder = load_encoder(folder / "hubert")
        recordings = {path.stem: soundfile.read(path, dtype="float32")[0] for path in (golden / "replay" / f"{name}_audio").iterdir()}
        self.frames = ReferenceFrames(encoder, {stem: torch.from_numpy(samples) for stem, samples in recordings.items()})
        self.task = get_task(name)
        runner, self.names = self.trace["config"]["runner"], NAMES[name]
        self.accumulate = runner["gradient_accumulate_steps"]
        changes = {"protocol": "quick", "steps": runner["total_steps"], "clip_norm": runner["gradient_clipping"]}
        recipe = evaluation_recipe(name, {**changes, "learning_rates": [self.trace["optimizer"]["lr"]]})
        initial, self.final = (load_file(golden / "replay" / f"{name}.{when}.safetensors") for when in ("init", "final"))
        projected, feature_dim = initial["Downstream.projector.weight"].shape
        setting = Setting(self.task, labels or self.task.label_set([]), recipe, torch.device("cpu"))
        self.bank = SeparateProbes(setting, encoder.num_states, feature_dim_to_head(feature_dim, projected))
        self.bank.load_state(0, {ours: initial[theirs] for ours, theirs in self.names.items()})

    def check_steps(self, targets_of, monkeypatch):
        """Repeat every optimizer step; yields its number."""
        norms = []
        clip = nn.utils.clip_grad_norm_
        monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *args: norms.append(clip(*args)) or norms[-1])
        for step in self.trace["optimizer_steps"]:
            micro_batches = [batch for batch in self.trace["micro_batches"] if batch["step"] == step["step"]]
            assert len(micro_batches) == self.accumulate
            batches = [(batch["utterances"], targets_of(batch)) for batch in micro_batches]
            assert [self.frames[rows][1].tolist() for rows, _ in batches] == [batch["feature_lengths"] for batch in micro_batches]
            (loss,) = self.bank.train_step(self.frames, batches)
            assert loss == pytest.approx(sum(batch["loss"] for batch in micro_batches) / len(micro_batches), abs=1e-4)
            assert norms[-1].item() == pytest.approx(step["grad_norm_before_clip"], rel=1e-3)
            yield step["step"]
        assert len(norms) == 20

    def check_weights(self, tolerance):
        for ours, theirs in self.names.items():
            torch.testing.assert_close(self.bank.state(0)[ours], self.final[theirs], atol=tolerance, rtol=0)


def test_phoneme_recognition(golden, tmp_path, monkeypatch):
    replay = Replay(golden, tmp_path, "pr", lambda feature_dim, projected: FrameHead(feature_dim, 74, projected))
    symbols = replay.bank.setting.labels.symbols
    for step in replay.check_steps(lambda batch: [torch.tensor(ids) for ids in batch["label_ids"]], monkeypatch):
        for evaluation in replay.trace["evaluations"]:
            if evaluation["step"] == step:
                references = [text.split() for text in evaluation["groundtruth"]]
                targets = [torch.tensor([*(symbols.index(phone) for phone in text), 1]) for text in references]
                alone = [([batch["utterances"][0]], [target]) for batch, target in zip(evaluation["batches"], targets, strict=True)]
                assert replay.bank.scores(replay.frames, alone, [0]) == [{"PR": evaluation["per"]}]
    replay.check_weights(1e-3)


def test_emotion_recognition(golden, tmp_path, monkeypatch):
    classes = ("neu", "hap", "ang", "sad")
    replay = Replay(
        golden, tmp_path, "er", lambda feature_dim, projected: UtteranceHead(feature_dim, len(classes), projected), LabelSet(classes)
    )
    for step in replay.check_steps(lambda batch: [torch.tensor(label) for label in batch["labels"]], monkeypatch):
        for evaluation in replay.trace["evaluations"]:
            if evaluation["step"] == step:
                targets = [torch.tensor(classes.index(name)) for name in evaluation["truth"]]
                (batch,) = evaluation["batches"]
                assert replay.bank.scores(replay.frames, [(batch["utterances"], targets)], [0]) == [{"ER": evaluation["acc"]}]
    replay.check_weights(1e-4)
