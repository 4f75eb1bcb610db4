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

EMOTIONS = ("neu", "hap", "ang", "sad")
# Head, the reference's name of its classifier, outputs, tolerance of the final weights.
REPLAYED = {
    "pr": (FrameHead, "Downstream.model.linear", get_task("pr").label_set([]), 1e-3),
    "er": (UtteranceHead, "Downstream.model.post_net.linear", LabelSet(EMOTIONS), 1e-4),
}


class ReferenceFrames:
    """Features whose padding depends on the batch, as in the reference."""

    def __init__(self, encoder, folder):
        self.encoder = encoder
        self.waveforms = {path.stem: torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in folder.iterdir()}

    def __getitem__(self, names):
        with torch.no_grad():
            output = self.encoder.encode([self.waveforms[name] for name in names], padding="reference")
        return torch.stack(output.hidden_states), output.lengths


def scored(task, evaluation, labels):
    """Batches of an evaluation on dev, and the recorded score."""
    if task == "er":
        (batch,) = evaluation["batches"]
        targets = [torch.tensor(EMOTIONS.index(name)) for name in evaluation["truth"]]
        return [(batch["utterances"], targets)], {"ER": evaluation["acc"]}
    targets = [torch.tensor([*map(labels.symbols.index, text.split()), 1]) for text in evaluation["groundtruth"]]
    batches = zip(evaluation["batches"], targets, strict=True)
    return [([batch["utterances"][0]], [target]) for batch, target in batches], {"PR": evaluation["per"]}


@pytest.mark.parametrize("task", REPLAYED)
def test_a_training_equals_the_reference(task, golden, tmp_path, monkeypatch):
    head, classifier, labels, tolerance = REPLAYED[task]
    trace = json.loads((golden / "replay" / f"{task}.trace.json").read_text())
    import_checkpoint(golden / "upstream" / "hubert.pt", tmp_path / "hubert")
    encoder = load_encoder(tmp_path / "hubert")
    frames = ReferenceFrames(encoder, golden / "replay" / f"{task}_audio")
    initial, final = (load_file(golden / "replay" / f"{task}.{when}.safetensors") for when in ("init", "final"))
    names = {"weighted_sum.weights": "Featurizer.weights"}
    for part in ("weight", "bias"):
        names |= {f"head.projector.{part}": f"Downstream.projector.{part}", f"head.classifier.{part}": f"{classifier}.{part}"}
    runner = trace["config"]["runner"]
    changes = {"protocol": "quick", "steps": runner["total_steps"], "clip_norm": runner["gradient_clipping"]}
    recipe = evaluation_recipe(task, {**changes, "learning_rates": [trace["optimizer"]["lr"]]})
    projected, feature_dim = initial["Downstream.projector.weight"].shape
    setting = Setting(get_task(task), labels, recipe, torch.device("cpu"))
    bank = SeparateProbes(setting, encoder.num_states, head(feature_dim, len(labels), projected))
    bank.load_state(0, {ours: initial[theirs] for ours, theirs in names.items()})
    norms, clip = [], nn.utils.clip_grad_norm_
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *args: norms.append(clip(*args)) or norms[-1])
    for step in trace["optimizer_steps"]:
        recorded = [batch for batch in trace["micro_batches"] if batch["step"] == step["step"]]
        assert len(recorded) == runner["gradient_accumulate_steps"]
        targets = [list(map(torch.tensor, batch["label_ids" if task == "pr" else "labels"])) for batch in recorded]
        assert [frames[batch["utterances"]][1].tolist() for batch in recorded] == [batch["feature_lengths"] for batch in recorded]
        (loss,) = bank.train_step(frames, list(zip((batch["utterances"] for batch in recorded), targets, strict=True)))
        assert loss == pytest.approx(sum(batch["loss"] for batch in recorded) / len(recorded), abs=1e-4)
        assert norms[-1].item() == pytest.approx(step["grad_norm_before_clip"], rel=1e-3)
        for evaluation in trace["evaluations"]:
            if evaluation["step"] == step["step"]:
                batches, expected = scored(task, evaluation, labels)
                assert bank.scores(frames, batches, [0]) == [expected]
    assert len(norms) == 20
    for ours, theirs in names.items():
        torch.testing.assert_close(bank.state(0)[ours], final[theirs], atol=tolerance, rtol=0)
