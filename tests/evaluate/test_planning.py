import json
from collections import Counter

import pytest
from evaluate.test_cross_validation import folded_cuts
from evaluate.test_evaluate import QUICK
from evaluate.tone_corpus import write_splits
from typer.testing import CliRunner

from speechft.cli import app
from speechft.encoders import load_encoder
from speechft.errors import CheckpointError, ConfigError, TaskError
from speechft.evaluate import evaluate, plan_evaluation
from speechft.evaluate.data import features
from speechft.evaluate.data.features import FrozenEncoder
from speechft.evaluate.probes import checkpoints


@pytest.fixture
def heard(monkeypatch):
    """Clips and samples that went through an encoder."""
    counted = Counter()
    original = FrozenEncoder.__call__

    def counting(self, clips):
        counted["clips"] += len(clips)
        counted["samples"] += sum(clip.num_samples for clip in clips)
        return original(self, clips)

    monkeypatch.setattr(FrozenEncoder, "__call__", counting)
    return counted


@pytest.mark.parametrize(
    ("task", "changes", "share"),
    [
        ("ks", {"seeds": [1, 2]}, 1.0),
        ("sid", {}, 1.0),
        ("pr", {}, 1.0),
        ("pr", {"seeds": [1, 2]}, 0.0),
        # Some of train and nothing of dev is kept; all of train and some of dev.
        ("pr", {"steps": 7, "eval_every": 2, "seeds": [1, 2]}, 0.4),
        ("pr", {"eval_every": 3}, 0.9),
    ],
)
def test_the_plan_is_what_is_done(task, changes, share, model_dir, manifests, tmp_path, heard, monkeypatch):
    monkeypatch.setitem(features.BATCH_SECONDS, "cpu", 2)
    recipe = {**QUICK[task], **changes}
    recipe["cache_gb"] = share * plan_evaluation(model_dir, task, manifests, recipe).memory_gb_to_keep_all
    plan = plan_evaluation(model_dir, task, manifests, recipe)
    assert not heard
    cell = evaluate(model_dir, task, manifests, tmp_path / "a.json", recipe)
    assert plan.encoder_passes == cell["counts"]["encoder_passes"] == heard["clips"]
    assert plan.encoder_hours == pytest.approx(heard["samples"] / 16000 / 3600)
    assert (plan.encoder_passes > plan.clips) == (share < 1)
    assert plan.clips == 30
    assert plan.head_steps == recipe["steps"] * len(recipe.get("seeds", [0]))


def test_folds_are_encoded_once(model_dir, tmp_path, heard):
    folds = write_splits(tmp_path, {"train": folded_cuts(tmp_path)})
    plan = plan_evaluation(model_dir, "er", folds, QUICK["er"])
    evaluate(model_dir, "er", folds, tmp_path / "a.json", QUICK["er"])
    assert (plan.clips, plan.encoder_passes, plan.head_steps) == (31, 31, 3 * 60)
    assert heard["clips"] == 31


def test_sizes_are_those_of_the_files(model_dir, manifests, tmp_path):
    plan = plan_evaluation(model_dir, "ks", manifests, QUICK["ks"])
    evaluate(model_dir, "ks", manifests, tmp_path / "a.json", QUICK["ks"], keep_features=True)
    written = sum(path.stat().st_size for path in (tmp_path / ".work").glob("*/*.safetensors"))
    assert plan.disk_gb == plan.memory_gb
    # Three files with a header each.
    assert plan.disk_gb * 1e9 <= written <= plan.disk_gb * 1e9 + 3 * 200
    encoder = load_encoder(model_dir)
    assert plan.disk_gb * 1e9 == 30 * encoder.num_states * encoder.hidden_size * 4


@pytest.mark.parametrize("task", ["ks", "pr"])
def test_the_state_of_the_heads_has_its_size(task, model_dir, manifests, tmp_path, monkeypatch):
    sizes = []
    original = checkpoints.TrainingFile.save

    def save(self, *args):
        original(self, *args)
        sizes.append(self.path.stat().st_size)

    monkeypatch.setattr(checkpoints.TrainingFile, "save", save)
    evaluate(model_dir, task, manifests, tmp_path / "a.json", QUICK[task])
    expected = plan_evaluation(model_dir, task, manifests, QUICK[task]).state_gb * 1e9
    # Besides: the state of a random generator and names.
    assert expected <= max(sizes) <= expected + 12_000


def test_a_budget_of_the_disk(model_dir, manifests, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "SHARD_CLIPS", 4)
    encoder = load_encoder(model_dir)
    clip_gb = encoder.num_states * encoder.hidden_size * 4 / 1e9
    recipe = {**QUICK["ks"], "disk_gb": 21 * clip_gb}
    whole = evaluate(model_dir, "ks", manifests, tmp_path / "whole.json", QUICK["ks"])
    cell = evaluate(model_dir, "ks", manifests, tmp_path / "a.json", recipe, keep_features=True, work_dir=tmp_path / "work")
    names = sorted(path.name[:-12] for path in (tmp_path / "work").glob("*/*.safetensors"))
    # All 18 clips of train in shards of 4; of dev and test, 6 each, no shard of 4 fits into what is left.
    assert names == [f"train-{number:05d}" for number in range(5)]
    assert plan_evaluation(model_dir, "ks", manifests, recipe).disk_gb == pytest.approx(18 * clip_gb)
    assert cell["values"] == whole["values"]


def test_frames_in_memory(model_dir, manifests):
    plan = plan_evaluation(model_dir, "pr", manifests, QUICK["pr"])
    assert plan.memory_gb == plan.memory_gb_to_keep_all > 0
    assert plan.disk_gb == 0
    assert "cache_gb" not in str(plan)
    less = plan_evaluation(model_dir, "pr", manifests, {**QUICK["pr"], "cache_gb": plan.memory_gb / 2})
    assert 0 < less.memory_gb <= plan.memory_gb / 2
    assert less.memory_gb_to_keep_all == plan.memory_gb
    # Rounded up, so that what is shown is enough.
    assert "`cache_gb: 0.01`" in str(less)


def test_weights_are_not_read(model_dir, manifests, tmp_path):
    (tmp_path / "config.json").write_bytes((model_dir / "config.json").read_bytes())
    assert plan_evaluation(tmp_path, "ks", manifests, QUICK["ks"]) == plan_evaluation(model_dir, "ks", manifests, QUICK["ks"])


def test_errors_are_those_of_the_evaluation(model_dir, manifests, tmp_path):
    with pytest.raises(CheckpointError):
        plan_evaluation(tmp_path / "none", "ks", manifests, QUICK["ks"])
    with pytest.raises(TaskError, match="classes='loud'"):
        plan_evaluation(model_dir, "ks", manifests, {**QUICK["ks"], "task_options": {"classes": "loud"}})
    with pytest.raises(ConfigError, match="stepz"):
        plan_evaluation(model_dir, "ks", manifests, {"stepz": 1})


def test_command_line(model_dir, manifests, tmp_path):
    recipe = tmp_path / "ks.json"
    recipe.write_text(json.dumps({**QUICK["ks"], "task": "ks"}))
    arguments = ["evaluate", str(model_dir), "ks", str(manifests), "--recipe", str(recipe)]
    runner = CliRunner()
    shown = runner.invoke(app, [*arguments, "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert "encoder: 30 passes" in shown.stdout
    values = json.loads(runner.invoke(app, [*arguments, "--dry-run", "--json"]).stdout)
    assert values["encoder_passes"] == 30
    assert runner.invoke(app, arguments).exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ks.json"]
