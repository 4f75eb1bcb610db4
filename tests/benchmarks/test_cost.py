"""The arithmetic of benchmarks/cost.py: by hand, and against what evaluations plan."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from evaluate.tone_corpus import make_cut, write_manifest

from speechft.encoders import random_encoder
from speechft.evaluate import plan_evaluation
from speechft.recipes import SUPERB_RECIPES
from speechft.tasks.sid import SpeakerIdentification

SAMPLES = 8000
CROP_SECONDS = 0.25
SHORT = {"steps": 7, "batch_size": 4, "accumulate": 2, "eval_every": 3}


@pytest.fixture
def cost(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import cost

    return cost


def test_er_by_hand(cost):
    of_a_run = 30_000 * 8 * 4 + 30 * (0.16 + 0.2) * 5531
    theirs = cost.s3prl_passes("er", learning_rates=4)
    assert theirs.utterances == pytest.approx(4 * 5 * of_a_run)
    assert theirs.hours == pytest.approx(theirs.utterances * 4.5 / 3600)
    assert cost.our_passes("er") == cost.Passes(pytest.approx(5531), pytest.approx(5531 * 4.5 / 3600))
    assert cost.epochs("er") == pytest.approx(960_000 / 3539.84)


def test_pr_by_hand(cost):
    theirs, ours = cost.s3prl_passes("pr", 7), cost.our_passes("pr", cache_gb=0.0)
    one = 100_000 * 2 * 16 + 100 * 2703
    assert (theirs.utterances, ours.utterances) == (pytest.approx(7 * one + 2620), pytest.approx(one + 2620))
    assert ours.hours == pytest.approx(3_200_000 / 28_539 * 100.6 + 100 * 5.4 + 5.4)


def test_real_batches_of_asr_are_half_as_large(cost):
    assert cost.visits("asr") == 200_000 * 16


def test_searches_and_trials(cost):
    documents = cost.QBE_DOCUMENTS
    assert cost.s3prl_passes("qbe").utterances == 14 * documents.utterances
    assert cost.our_passes("qbe", cache_gb=1e9).utterances == documents.utterances
    # Without trials of dev, test chooses: scored at each of ten evaluations and once more in the end.
    asv = cost.our_passes("asv", cache_gb=0.0)
    assert asv.utterances == pytest.approx(200_000 * 5 * 10 + 11 * 4715)
    assert cost.s3prl_passes("asv", 4).utterances == pytest.approx(4 * (200_000 * 5 * 10 + 10 * 4715))


def test_crops_of_sid(cost):
    """`superb` draws a new crop at every access, which no cache can hold; with a fixed number each is encoded once."""
    scored = 6904 + 8251
    assert cost.our_passes("sid").utterances == pytest.approx(200_000 * 4 * 8 + scored)
    assert cost.our_passes("sid", crops_anew=False).utterances == 138_361 + scored
    assert cost.our_passes("sid").hours > 200_000 * 4 * 8 * 8 / 3600


@pytest.fixture
def small(cost, monkeypatch):
    """PR, KS and SID with short trainings on a few utterances of half a second; sizes of their splits."""
    sizes = {"train": 12, "dev": 4, "test": 3}
    parts = {split: cost.Part(size, SAMPLES / 16_000) for split, size in sizes.items()}
    for task in ("pr", "ks", "sid"):
        monkeypatch.setitem(SUPERB_RECIPES, task, {**SUPERB_RECIPES[task], **SHORT})
        monkeypatch.setitem(cost.TASKS, task, replace(cost.TASKS[task], **parts))
    monkeypatch.setattr(SpeakerIdentification, "train_crop_seconds", CROP_SECONDS)
    monkeypatch.setitem(cost.TASKS, "sid", replace(cost.TASKS["sid"], train=cost.Part(12, CROP_SECONDS)))
    return sizes


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("pr", {"cache_gb": 0.0}),
        ("pr", {"cache_gb": 1.0}),
        ("ks", {}),
        ("sid", {"crop_draws": 1}),
        ("sid", {"crop_draws": "every"}),
    ],
)
def test_ours_is_what_an_evaluation_plans(cost, small, task, changes, tmp_path):
    for split, size in small.items():
        names = [("anna", "up"), ("ben", "down")]
        cuts = [make_cut(tmp_path / "wav", f"{split}{index}", np.zeros(SAMPLES), "one", *names[index % 2]) for index in range(size)]
        write_manifest(tmp_path / f"{split}.jsonl.gz", cuts)
    model = random_encoder("hubert", tmp_path / "encoder")
    plan = plan_evaluation(model, task, tmp_path, {**SHORT, "protocol": "quick", **changes})
    ours = cost.our_passes(task, changes.get("cache_gb", 1.0), changes.get("crop_draws") == "every")
    assert (ours.utterances, ours.hours) == (pytest.approx(plan.encoder_passes), pytest.approx(plan.encoder_hours))


@pytest.mark.usefixtures("small")
def test_what_does_not_fit_is_computed_again(cost):
    train, dev = cost.gigabytes(cost.TASKS["pr"].train), cost.gigabytes(cost.TASKS["pr"].dev)
    # Half of train is visited as often as before, 7 * 2 * 4 times in all; or all of train is kept and half of dev is scored three times.
    assert cost.our_passes("pr", train / 2).utterances == pytest.approx(56 / 2 + 6 + 3 * 4 + 3)
    assert cost.our_passes("pr", train + dev / 2).utterances == pytest.approx(12 + 3 * 2 + 2 + 3)


def test_times_are_hours_over_throughput():
    command = [sys.executable, "benchmarks/cost.py", "--throughput", "10", "--gpu-throughput", "1000", "--learning-rates", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    cells = next(line for line in done.stdout.splitlines() if line.startswith("| KS |")).strip("| ").split(" | ")
    # 6.4 million clips of 1 s in training, 40 times 9879 in scoring, 4 times all of that; ours: 60 973 clips once.
    assert cells == ["KS", "27.2 M", "0.061 M", "7,550", "16.9", "446", "755", "1.69", "7.55", "0.0169"]
