import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from evaluate.killing import Killed
from evaluate.test_cross_validation import folded_cuts
from evaluate.test_evaluate import QUICK, without_times
from evaluate.tone_corpus import write_splits

from speechft.encoders import load_encoder
from speechft.evaluate import evaluate
from speechft.evaluate.data.features import FrameFeatures, FrozenEncoder, mean_vectors
from speechft.evaluate.data.splits import load_splits
from speechft.evaluate.probes.bank import ProbeBank, Setting, new_head
from speechft.evaluate.probes.checkpoints import TrainingFile
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.evaluate.probes.stacked import StackedProbes
from speechft.evaluate.probes.training import train_probes
from speechft.evaluate.protocols.default import SplitTraining
from speechft.recipes.evaluation import evaluation_recipe
from speechft.tasks import get_task

ROOT = Path(__file__).parents[2]


# Evaluations at 20, 40 and 60 of 60 steps (ks) and at 10 and 20 of 20 (pr), for each of two seeds.
@pytest.mark.parametrize(
    ("task", "changes", "killed_at", "left"),
    [
        ("ks", {}, 50, 80),
        ("ks", {}, 110, 20),
        ("ks", {}, 5, 120),
        ("pr", {"learning_rates": [1e-4, 1e-3]}, 15, 30),
        ("pr", {"cache_gb": 0.0}, 35, 10),
    ],
)
def test_a_killed_evaluation_gives_the_same_cell(task, changes, killed_at, left, model_dir, manifests, tmp_path, kill_after):
    recipe = {**QUICK[task], **changes, "seeds": [1, 2]}
    expected = evaluate(model_dir, task, manifests, tmp_path / "whole.json", recipe)
    kill_after(killed_at)
    with pytest.raises(Killed):
        evaluate(model_dir, task, manifests, tmp_path / "cell.json", recipe)
    made = kill_after()
    cell = evaluate(model_dir, task, manifests, tmp_path / "cell.json", recipe)
    assert without_times(cell) == without_times(expected)
    assert made["steps"] == left
    assert [path.suffix for path in (tmp_path / ".work").iterdir()] == [".lock"]


@pytest.mark.parametrize("task", ["ks", "pr"])
def test_a_resumed_training_has_the_same_parameters(task, model_dir, manifests, tmp_path, kill_after):
    """Bit-equal, with the moments of the optimizer, which scores on a small corpus do not show."""
    recipe = evaluation_recipe(task, {**QUICK[task], "steps": 20, "eval_every": 5})
    encoder = FrozenEncoder(load_encoder(model_dir), torch.device("cpu"))
    labels, splits = load_splits(get_task(task), manifests, encoder.encoder, 1)
    setting = Setting(get_task(task), labels, recipe, encoder.device)
    frames = {name: FrameFeatures(encoder, split.clips) for name, split in splits.items()}
    bank_type, features = SeparateProbes, frames
    for name in frames:
        frames[name].keep(1e9, name)
    if task == "ks":
        bank_type = StackedProbes
        features = {name: mean_vectors(encoder, split.clips, tmp_path / "means", name) for name, split in splits.items()}

    def train(file=None):
        bank = bank_type(setting, encoder.encoder.num_states, new_head(setting.task, encoder.encoder.hidden_size, labels, 0))
        trials = train_probes(bank, SplitTraining(setting.task, recipe, splits, features), 0, file)
        return bank.training_state(), trials

    expected, expected_trials = train()
    file = TrainingFile(tmp_path / "state.safetensors", encoder)
    kill_after(13)
    with pytest.raises(Killed):
        train(file)
    kill_after()
    found, trials = train(file)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    for trial, other in zip(trials, expected_trials, strict=True):
        assert (trial.best_step, trial.dev) == (other.best_step, other.dev)
        assert all(torch.equal(trial.best_state[name], value) for name, value in other.best_state.items())


def test_every_fold_goes_on(model_dir, tmp_path, kill_after):
    folds = write_splits(tmp_path, {"train": folded_cuts(tmp_path, {"a": 8, "b": 8})})
    recipe = {"protocol": "quick", "steps": 20, "eval_every": 10, "learning_rates": [1e-2]}
    expected = evaluate(model_dir, "er", folds, tmp_path / "whole.json", recipe)
    kill_after(35)
    with pytest.raises(Killed):
        evaluate(model_dir, "er", folds, tmp_path / "cell.json", recipe)
    made = kill_after()
    cell = evaluate(model_dir, "er", folds, tmp_path / "cell.json", recipe)
    assert without_times(cell) == without_times(expected)
    assert made["steps"] == 10


def test_a_diverged_rate_stays_diverged(model_dir, manifests, tmp_path, kill_after, monkeypatch):
    task = get_task("pr")
    original, broken = task.loss, {"at": 0}

    def loss(logits, lengths, targets):
        # Only the first of the two learning rates sees this, at its first batch.
        broken["at"] += 1
        return original(logits, lengths, targets) * (float("nan") if broken["at"] == 41 else 1.0)

    monkeypatch.setattr(task, "loss", loss)
    recipe = {**QUICK["pr"], "eval_every": 5}
    kill_after(17)
    with pytest.raises(Killed):
        evaluate(model_dir, task, manifests, tmp_path / "cell.json", recipe)
    kill_after()
    cell = evaluate(model_dir, task, manifests, tmp_path / "cell.json", recipe)
    assert [trial["diverged"] for trial in cell["trials"]] == [True, False]
    assert cell["trials"][0]["best_step"] <= 10


def test_another_recipe_starts_again(model_dir, manifests, tmp_path, kill_after):
    kill_after(45)
    with pytest.raises(Killed):
        evaluate(model_dir, "ks", manifests, tmp_path / "cell.json", QUICK["ks"])
    made = kill_after()
    evaluate(model_dir, "ks", manifests, tmp_path / "cell.json", {**QUICK["ks"], "learning_rates": [1e-2, 1e-3]})
    assert made["steps"] == 60


def test_a_finished_training_is_not_found_again(model_dir, manifests, tmp_path, kill_after):
    made = kill_after()
    for _ in range(2):
        evaluate(model_dir, "ks", manifests, tmp_path / "cell.json", QUICK["ks"], keep_features=True)
    assert made["steps"] == 120


@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda content: content[:-1] + bytes([content[-1] ^ 1])])
def test_a_damaged_state_is_not_used(damage, model_dir, manifests, tmp_path, kill_after):
    expected = evaluate(model_dir, "ks", manifests, tmp_path / "whole.json", QUICK["ks"])
    kill_after(45)
    with pytest.raises(Killed):
        evaluate(model_dir, "ks", manifests, tmp_path / "cell.json", QUICK["ks"])
    (file,) = (tmp_path / ".work").glob("*/training-*.safetensors")
    file.write_bytes(damage(file.read_bytes()))
    made = kill_after()
    cell = evaluate(model_dir, "ks", manifests, tmp_path / "cell.json", QUICK["ks"])
    assert without_times(cell) == without_times(expected)
    assert made["steps"] == 60


KILLED_AT = """
import os, signal, sys, torch
torch.set_num_threads(1)
from speechft.evaluate import evaluate
from speechft.evaluate.probes.stacked import StackedProbes

original, steps = StackedProbes.train_step, 0

def train_step(self, features, batches):
    global steps
    steps += 1
    if steps == 50:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, features, batches)

StackedProbes.train_step = train_step
evaluate(sys.argv[1], "ks", sys.argv[2], sys.argv[3], __import__("json").loads(sys.argv[4]))
"""


def test_a_killed_process_leaves_what_the_next_one_needs(model_dir, manifests, tmp_path, kill_after):
    expected = evaluate(model_dir, "ks", manifests, tmp_path / "whole.json", QUICK["ks"])
    arguments = [str(model_dir), str(manifests), str(tmp_path / "cell.json"), json.dumps(QUICK["ks"])]
    done = subprocess.run([sys.executable, "-c", KILLED_AT, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    made = kill_after()
    cell = evaluate(model_dir, "ks", manifests, tmp_path / "cell.json", QUICK["ks"])
    assert without_times(cell) == without_times(expected)
    assert made["steps"] == 20


def test_dropout_goes_on_where_it_was(tmp_path):
    """Heads draw their dropout from torch's global generator."""

    class Bank(ProbeBank):
        frame_level = True

        def __init__(self):
            self.alive = [True]

        def training_state(self):
            return {"x": torch.ones(2)}

        def load_training_state(self, state):
            assert state["x"].tolist() == [1.0, 1.0]

        train_step = _statistics = state = load_state = None

    class Encoder:
        device, passes = torch.device("cpu"), 7

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        torch.rand(3)
        TrainingFile(tmp_path / "state.safetensors", Encoder()).save(Bank(), [], 4)
        expected = torch.rand(5)
        torch.manual_seed(0)
        other = Encoder()
        other.passes = 0
        assert TrainingFile(tmp_path / "state.safetensors", other).load(Bank(), []) == 4
        assert torch.equal(torch.rand(5), expected)
        assert other.passes == 7
