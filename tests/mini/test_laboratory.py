"""mini/laboratory.py: alpha by dev, gains on test, paired differences and their correction, on made-up cells."""

import json
import sys

import numpy as np
import pytest
from conftest import ROOT
from scipy.stats import ttest_1samp
from tables.conftest import cell_json

from speechft.errors import TableError
from speechft.tables.metrics import METRICS


@pytest.fixture
def laboratory(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "mini"))
    import laboratory

    yield laboratory
    sys.modules.pop("laboratory")


@pytest.fixture
def write(tmp_path):
    """Write a cell with an accuracy on dev and one on test, or with what is right on test."""

    def make(model, task, dev, test, right=None):
        key = task.upper()
        if right is not None:
            test = 100 * float(np.mean(right))
        content = cell_json(f"e/{model}", task, {key: test if isinstance(test, list) else [test]})
        content["trials"][0]["dev"] = {key: dev}
        content["described"] = [{field: getattr(METRICS[key], field) for field in METRICS[key].__dataclass_fields__}]
        if right is not None:
            ids, ones, parts = [f"{task}{place}" for place in range(len(right))], " ".join("1" * len(right)), " ".join(map(str, right))
            content["items"] = {"unit": "utterance", "ids": ids, "totals": {key: ones}, "parts": {key: [parts]}}
        path = tmp_path / f"e/{model}/{task}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    return make


def test_scores_and_differences(laboratory, write, tmp_path, monkeypatch):
    for name, value in {"TUNINGS": ("asr",), "TASKS": ("ks", "sid"), "ALPHAS": (0.25, 0.5), "METHODS": ("linear",)}.items():
        monkeypatch.setattr(laboratory, name, value)
    ends = np.random.default_rng(0).uniform(70, 90, 3)
    for task in ("ks", "sid"):
        write("none/pretrained", task, 80, 80)
    for seed, end in zip((1, 2, 3), ends, strict=True):
        for task, dev in (("ks", (85, 90)), ("sid", (82, 70))):
            write(f"asr_{seed}/linear@0.25", task, dev[0], 84)
            write(f"asr_{seed}/linear@0.50", task, dev[1], 60 + 10 * (task == "ks"))
            write(f"asr_{seed}/stable_ft", task, 80, end)
    found = laboratory.Laboratory("e", tmp_path)
    # Mean gains on dev: 0.25 gives (0.25 + 0.1) / 2, 0.5 gives (0.5 - 0.5) / 2. SID alone takes 0.25, KS alone 0.5.
    assert found.choice("asr_1", "linear") == ("linear@0.25", {"ks": "linear@0.25", "sid": "linear@0.50"})
    assert found.score("linear chosen").mean == pytest.approx(0.2)
    assert found.score("linear left out").mean == pytest.approx((0.2 - 1.0) / 2)
    assert found.score("none/pretrained").mean == 0
    difference = found.difference("linear chosen", "stable_ft")
    of_seeds = 0.2 - (1 - (100 - ends) / 20)
    assert difference.samples[0] == pytest.approx(of_seeds)
    assert difference.p_value == pytest.approx(ttest_1samp(of_seeds, 0).pvalue)
    rows = list(laboratory.lines([found], [("linear chosen", "stable_ft"), ("linear chosen", "none/pretrained")]))
    assert rows[-1] == "| e | linear chosen | none/pretrained | **+20.00 ± 0.00** | 0 | 0 |"


def test_all_runs_share_the_heads_of_theta0(laboratory, write, tmp_path, monkeypatch):
    for name, value in {"TUNINGS": ("asr",), "TASKS": ("ks", "sid")}.items():
        monkeypatch.setattr(laboratory, name, value)
    write("none/pretrained", "ks", 80, [70, 80, 90])
    write("none/pretrained", "sid", 80, 80)  # such as QbE, which has no head
    for seed in (1, 2, 3):
        for task in ("ks", "sid"):
            write(f"asr_{seed}/stable_ft", task, 80, 90)
    difference = laboratory.Laboratory("e", tmp_path).difference("stable_ft", "none/pretrained")
    gains = np.array([1 - 10 / 30, 1 - 10 / 20, 1 - 10 / 10]) / 2 + 0.5 / 2
    assert difference.samples == (pytest.approx((0.5, 0.5, 0.5)), pytest.approx(gains - gains.mean()))
    assert difference.mean == pytest.approx(0.5)
    assert difference.p_value == pytest.approx(ttest_1samp(gains - gains.mean() + 0.5, 0).pvalue)


def test_correction_for_several_comparisons(laboratory):
    assert laboratory.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert laboratory.holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_fine_tuning_is_not_scored_by_recordings_that_it_heard(laboratory):
    assert [task for task in laboratory.TASKS if not laboratory.counts("er_2", task)] == ["er"]
    assert all(laboratory.counts("sid_1", task) for task in laboratory.TASKS)


def test_differences_are_paired_by_test_item(laboratory, write, tmp_path, monkeypatch):
    for name, value in {"TUNINGS": ("asr",), "TASKS": ("ks", "sid"), "SEEDS": (1,)}.items():
        monkeypatch.setattr(laboratory, name, value)
    generator = np.random.default_rng(0)
    first = generator.integers(0, 2, 300)
    second = np.where(generator.random(300) < 0.1, 1 - first, first)
    # theta0 is wrong about everything, on drawn items too: gains are shares of right answers.
    for task, of_stable in (("ks", first), ("sid", second)):
        write("none/pretrained", task, 80, None, np.zeros(300, int))
        write("asr_1/linear@0.25", task, 80, None, first)
        write("asr_1/stable_ft", task, 80, None, of_stable)
    found = laboratory.Laboratory("e", tmp_path)
    difference = found.difference("linear@0.25", "stable_ft")
    # Of two tasks one is the same: half of the difference of the other is left.
    assert difference.mean == pytest.approx(np.mean(first - second) / 2)
    assert difference.deviation[0] == pytest.approx(np.std(first - second) / 2 / 300**0.5, rel=0.1)
    score = found.score("linear@0.25")
    assert score.deviation[0] == pytest.approx(np.std(first) / 300**0.5 / 2**0.5, rel=0.1)
    assert found.difference("linear@0.25", "none/pretrained").deviation[0] == pytest.approx(score.deviation[0])


def test_a_missing_cell_is_one_sentence(laboratory, tmp_path):
    with pytest.raises(TableError, match=r"e/asr_1/stable_ft/qbe|e/none/pretrained/qbe: this cell is missing. Run `snakemake"):
        laboratory.Laboratory("e", tmp_path).score("stable_ft")
