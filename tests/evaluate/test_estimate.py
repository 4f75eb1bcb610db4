"""Estimates against evaluations whose passes were counted: within a fifth, exact where every utterance goes through the encoder once."""

import json

import pytest
from evaluate.corpora import QUICK
from typer.testing import CliRunner

from speechft.cli import app
from speechft.encoders import load_encoder
from speechft.evaluate import evaluate, plan_evaluation
from speechft.evaluate.data import features
from speechft.evaluate.probes import checkpoints


@pytest.mark.parametrize(
    ("task", "changes", "share"),
    [
        ("ks", {"seeds": [1, 2]}, 1.0),
        ("pr", {"seeds": [1, 2]}, 0.0),
        # Some of train and nothing of dev is kept; all of train and some of dev.
        ("pr", {"steps": 7, "eval_every": 2, "seeds": [1, 2]}, 0.4),
        ("pr", {"eval_every": 3}, 0.9),
    ],
)
def test_the_estimate_is_what_is_done(task, changes, share, model_dir, manifests, tmp_path, monkeypatch):
    monkeypatch.setitem(features.BATCH_SECONDS, "cpu", 2)
    recipe = {**QUICK[task], **changes}
    recipe["cache_gb"] = share * plan_evaluation(model_dir, task, manifests, recipe).memory_gb_to_keep_all
    plan = plan_evaluation(model_dir, task, manifests, recipe)
    counted = evaluate(model_dir, task, manifests, tmp_path / "a.json", recipe)["counts"]["encoder_passes"]
    assert plan.encoder_passes == pytest.approx(counted, rel=0.2)
    assert (plan.encoder_passes == counted == 30) == (share == 1)
    assert plan.head_steps == recipe["steps"] * len(recipe.get("seeds", [0]))


def test_means_and_the_state_of_heads_have_their_size(model_dir, manifests, tmp_path, monkeypatch):
    sizes = []
    original = checkpoints.TrainingFile.save

    def save(self, *args):
        original(self, *args)
        sizes.append(self.path.stat().st_size)

    monkeypatch.setattr(checkpoints.TrainingFile, "save", save)
    plan = plan_evaluation(model_dir, "ks", manifests, QUICK["ks"])
    evaluate(model_dir, "ks", manifests, tmp_path / "a.json", QUICK["ks"], keep_features=True)
    written = sum(path.stat().st_size for path in (tmp_path / ".work").glob("*/*.safetensors"))
    encoder = load_encoder(model_dir)
    assert plan.disk_gb * 1e9 == plan.memory_gb * 1e9 == 30 * encoder.num_states * encoder.hidden_size * 4
    # Three files with a header each.
    assert plan.disk_gb * 1e9 <= written <= plan.disk_gb * 1e9 + 3 * 200
    # Besides: biases, the layer weights, the state of a random generator.
    assert 0.8 * max(sizes) - 12_000 <= plan.state_gb * 1e9 <= 1.2 * max(sizes)
    assert plan_evaluation(model_dir, "ks", manifests, {**QUICK["ks"], "disk_gb": plan.disk_gb / 2}).disk_gb == plan.disk_gb / 2


def test_frames_in_memory(model_dir, manifests):
    plan = plan_evaluation(model_dir, "pr", manifests, QUICK["pr"])
    assert plan.memory_gb == plan.memory_gb_to_keep_all > plan.disk_gb == 0
    assert "cache_gb" not in str(plan)
    less = plan_evaluation(model_dir, "pr", manifests, {**QUICK["pr"], "cache_gb": plan.memory_gb / 2})
    assert 0 < less.memory_gb <= plan.memory_gb / 2
    # Rounded up, so that what is shown is enough.
    assert "`cache_gb: 0.01`" in str(less)


def test_command_line_reads_no_weights(model_dir, manifests, tmp_path):
    recipe = tmp_path / "ks.json"
    recipe.write_text(json.dumps({**QUICK["ks"], "task": "ks"}))
    (tmp_path / "config.json").write_bytes((model_dir / "config.json").read_bytes())
    arguments = ["evaluate", str(tmp_path), "ks", str(manifests), "--recipe", str(recipe)]
    runner = CliRunner()
    shown = runner.invoke(app, [*arguments, "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert "encoder: about 30 passes" in shown.stdout
    assert "Estimated from the recipe" in shown.stdout
    assert json.loads(runner.invoke(app, [*arguments, "--dry-run", "--json"]).stdout)["encoder_passes"] == 30
    assert runner.invoke(app, arguments).exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "ks.json"]
