"""An evaluation that was killed resumes and gives the cell of one that was not."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from evaluate.corpora import QUICK
from evaluate.test_cells import without_times

from speechft.evaluate import evaluate
from speechft.evaluate.data.features import FrameFeatures, mean_vectors
from speechft.evaluate.probes import training
from speechft.evaluate.probes.bank import isolated_rng
from speechft.evaluate.probes.checkpoints import TrainingFile
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.evaluate.probes.stacked import StackedProbes
from speechft.evaluate.probes.training import train_probes
from speechft.evaluate.protocols.default import SplitTraining
from speechft.tasks import get_task

ROOT = Path(__file__).parents[2]


@pytest.fixture
def killed(model_dir, corpus_of, tmp_path, kill_after):
    """Kill an evaluation after some steps, then run it again; its cell and the steps of the second run."""

    def run(task, recipe, steps, second_recipe=None, between=lambda: None, corpus=None):
        manifests, out = corpus_of(corpus or getattr(task, "name", task)), tmp_path / "cell.json"
        kill_after(steps)
        with pytest.raises(KeyboardInterrupt):
            evaluate(model_dir, task, manifests, out, recipe)
        between()
        made = kill_after()
        return evaluate(model_dir, task, manifests, out, second_recipe or recipe), made["steps"]

    return run


TWO = {"seeds": [1, 2]}


# Evaluations at 20, 40 and 60 of 60 steps (ks), at 10 and 20 of 20 (pr, er); at 2, 4, 6 and 8 of 8 (asr, which has dropout).
@pytest.mark.parametrize(
    ("task", "corpus", "changes", "killed_at", "left"),
    [
        ("ks", None, TWO, 50, 80),
        ("ks", None, TWO, 110, 20),
        ("ks", None, TWO, 5, 120),
        ("pr", None, {**TWO, "learning_rates": [1e-4, 1e-3]}, 15, 30),
        ("pr", None, {**TWO, "cache_gb": 0.0}, 35, 10),
        ("asr", None, {"eval_every": 2}, 5, 4),
        ("asv", None, {}, 3, 2),
        ("er", "folds", {"steps": 20, "eval_every": 10}, 35, 30),
    ],
)
def test_a_killed_evaluation_gives_the_same_cell(task, corpus, changes, killed_at, left, cell_of, killed, tmp_path):
    cell, steps = killed(task, {**QUICK[task], **changes}, killed_at, corpus=corpus)
    assert without_times(cell) == without_times(cell_of(task, corpus, **changes))
    assert steps == left
    assert not list((tmp_path / ".work").glob("*/*"))


@pytest.mark.parametrize("task", ["ks", "pr", "asr"])
def test_a_resumed_training_has_the_same_parameters(task, prepare, tmp_path, kill_after):
    """Bit-equal, with the moments of the optimizer and the dropout of ASR, which scores on a small corpus do not show."""
    made = prepare(task, **{**QUICK[task], "steps": 20, "eval_every": 5})
    features = {name: FrameFeatures(made.encoder, split.clips) for name, split in made.splits.items()}
    for name, frames in features.items():
        frames.keep(1e9, name)
    bank_type = SeparateProbes
    if task == "ks":
        bank_type = StackedProbes
        features = {name: mean_vectors(made.encoder, split.clips, tmp_path / "means", name) for name, split in made.splits.items()}

    def train(file=None):
        bank = bank_type(made.setting, made.states, made.head)
        with isolated_rng(0, made.encoder.device):
            trials = train_probes(bank, SplitTraining(made.setting.task, made.setting.recipe, made.splits, features), 0, file)
        return bank.training_state(), trials

    expected, expected_trials = train()
    file = TrainingFile(tmp_path / "state.safetensors", made.encoder)
    kill_after(13)
    with pytest.raises(KeyboardInterrupt):
        train(file)
    kill_after()
    found, trials = train(file)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    for trial, other in zip(trials, expected_trials, strict=True):
        assert (trial.best_step, trial.dev) == (other.best_step, other.dev)
        assert all(torch.equal(trial.best_state[name], value) for name, value in other.best_state.items())


def test_a_diverged_rate_stays_diverged(killed, monkeypatch):
    task = get_task("pr")
    original, batches = task.loss, []

    def loss(logits, lengths, targets):
        # Only the first of the two learning rates sees this, at its first batch.
        batches.append(1)
        return original(logits, lengths, targets) * (float("nan") if len(batches) == 41 else 1.0)

    monkeypatch.setattr(task, "loss", loss)
    cell, _ = killed(task, {**QUICK["pr"], "eval_every": 5}, 17)
    assert [trial["diverged"] for trial in cell["trials"]] == [True, False]
    assert cell["trials"][0]["best_step"] <= 10


def test_another_recipe_starts_again(killed):
    assert killed("ks", QUICK["ks"], 45, {**QUICK["ks"], "learning_rates": [1e-2, 1e-3]})[1] == 60


def test_a_finished_training_is_not_found_again(model_dir, manifests, tmp_path, kill_after):
    made = kill_after()
    for _ in range(2):
        evaluate(model_dir, "ks", manifests, tmp_path / "cell.json", QUICK["ks"], keep_features=True)
    assert made["steps"] == 120


@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda content: content[:-1] + bytes([content[-1] ^ 1])])
def test_a_damaged_state_is_not_used(damage, cell_of, tmp_path, killed):
    def damaged():
        (file,) = (tmp_path / ".work").glob("*/training-*.safetensors")
        file.write_bytes(damage(file.read_bytes()))

    cell, steps = killed("ks", QUICK["ks"], 45, between=damaged)
    assert without_times(cell) == without_times(cell_of("ks"))
    assert steps == 60


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


def test_a_killed_process_leaves_what_the_next_one_needs(model_dir, manifests, cell_of, tmp_path, kill_after):
    arguments = [str(model_dir), str(manifests), str(tmp_path / "cell.json"), json.dumps(QUICK["ks"])]
    done = subprocess.run([sys.executable, "-c", KILLED_AT, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    made = kill_after()
    cell = evaluate(model_dir, "ks", manifests, tmp_path / "cell.json", QUICK["ks"])
    assert without_times(cell) == without_times(cell_of("ks"))
    assert made["steps"] == 20


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: data[:-4] + b"\0\0\x80\x3f"])
def test_an_interrupted_evaluation_reuses_its_features(damage, model_dir, manifests, cell_of, tmp_path, monkeypatch, count_passes):
    expected = cell_of("ks")
    count_passes.clear()

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_probes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(model_dir, "ks", manifests, tmp_path / "ks.json", QUICK["ks"])
    assert not (tmp_path / "ks.json").exists()
    assert count_passes["clips"] == 30
    # Of one split the features were damaged: these are made again.
    (damaged,) = (tmp_path / ".work").glob("*/test-*.safetensors")
    damaged.write_bytes(damage(damaged.read_bytes()))
    cell = evaluate(model_dir, "ks", manifests, tmp_path / "ks.json", QUICK["ks"])
    assert count_passes["clips"] == 30 + 6
    assert without_times(cell) == without_times(expected)
