"""Whole training runs of the reference, replayed: padding and batches as it made them."""

import json

import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch import nn

from speechft.encoders import import_checkpoint, load_encoder
from speechft.evaluate.probes import Setting
from speechft.evaluate.separate import SeparateProbes
from speechft.recipes import evaluation_recipe
from speechft.tasks import get_task
from speechft.tasks.heads import FrameHead

NAMES = {
    "weighted_sum.weights": "Featurizer.weights",
    "head.projector.weight": "Downstream.projector.weight",
    "head.projector.bias": "Downstream.projector.bias",
    "head.classifier.weight": "Downstream.model.linear.weight",
    "head.classifier.bias": "Downstream.model.linear.bias",
}


class ReferenceFrames:
    """Features whose padding depends on the batch, as in the reference."""

    def __init__(self, encoder, waveforms):
        self.encoder, self.waveforms = encoder, waveforms

    def __getitem__(self, names):
        with torch.no_grad():
            output = self.encoder.encode([self.waveforms[name] for name in names], padding="reference")
        return torch.stack(output.hidden_states), output.lengths


def test_phoneme_recognition(golden, tmp_path, monkeypatch):
    trace = json.loads((golden / "replay" / "pr.trace.json").read_text())
    import_checkpoint(golden / "upstream" / "hubert.pt", tmp_path / "hubert")
    encoder = load_encoder(tmp_path / "hubert")
    waveforms = {path.stem: torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in (golden / "replay" / "pr_wav").iterdir()}
    task = get_task("pr")
    runner = trace["config"]["runner"]
    recipe = evaluation_recipe(
        "pr",
        {"protocol": "quick", "steps": runner["total_steps"], "clip_norm": runner["gradient_clipping"], "learning_rates": [0.01]},
    )
    initial, final = (load_file(golden / "replay" / f"pr.{when}.safetensors") for when in ("init", "final"))
    projected, feature_dim = initial["Downstream.projector.weight"].shape
    bank = SeparateProbes(
        Setting(task, task.label_set([]), recipe, torch.device("cpu")), encoder.num_states, FrameHead(feature_dim, 74, projected)
    )
    bank.load_state(0, {ours: initial[theirs] for ours, theirs in NAMES.items()})
    norms = []
    clip = nn.utils.clip_grad_norm_
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *args: norms.append(clip(*args)) or norms[-1])

    frames = ReferenceFrames(encoder, waveforms)
    for step in trace["optimizer_steps"]:
        micro_batches = [batch for batch in trace["micro_batches"] if batch["step"] == step["step"]]
        assert len(micro_batches) == runner["gradient_accumulate_steps"]
        batches = [(batch["utterances"], [torch.tensor(ids) for ids in batch["label_ids"]]) for batch in micro_batches]
        assert [frames[rows][1].tolist() for rows, _ in batches] == [batch["feature_lengths"] for batch in micro_batches]
        (loss,) = bank.train_step(frames, batches)
        assert loss == pytest.approx(sum(batch["loss"] for batch in micro_batches) / len(micro_batches), abs=1e-4)
        assert norms[-1].item() == pytest.approx(step["grad_norm_before_clip"], rel=1e-3)
        for evaluation in trace["evaluations"]:
            if evaluation["step"] == step["step"]:
                references = [text.split() for text in evaluation["groundtruth"]]
                targets = [torch.tensor([*(bank.setting.labels.symbols.index(phone) for phone in text), 1]) for text in references]
                alone = [([batch["utterances"][0]], [target]) for batch, target in zip(evaluation["batches"], targets, strict=True)]
                assert bank.scores(frames, alone, [0]) == [{"PR": evaluation["per"]}]
    for ours, theirs in NAMES.items():
        torch.testing.assert_close(bank.state(0)[ours], final[theirs], atol=1e-3, rtol=0)
