"""mini/laboratory.py: alpha by dev, gains on test, paired differences and their correction, on made-up cells."""

import json
import sys

import numpy as np
import pytest
from conftest import ROOT
from scipy.stats import ttest_1samp
from tables.conftest import cell_json

from speechft.tables.metrics import METRICS


@pytest.fixture
def laboratory(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "mini"))
    import laboratory

    yield laboratory
    sys.modules.pop("laboratory")


@pytest.fixture
def write(tmp_path):
    """Write a cell with an accuracy on dev and one on test."""

    def make(model, task, dev, test):
        key = task.upper()
        content = cell_json(f"e/{model}", task, {key: [test]})
        content["trials"][0]["dev"] = {key: dev}
        content["described"] = [{field: getattr(METRICS[key], field) for field in METRICS[key].__dataclass_fields__}]
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
    rows = list(
        laboratory.lines([found], [("linear chosen", "stable_ft"), ("linear chosen", "none/pretrained")], laboratory.Laboratory.difference)
    )
    assert rows[-1] == "| e | linear chosen | none/pretrained | **+20.00 ± 0.00** | 0 | 0 |"


def test_correction_for_several_comparisons(laboratory):
    assert laboratory.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert laboratory.holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_fine_tuning_is_not_scored_by_recordings_that_it_heard(laboratory):
    assert [task for task in laboratory.TASKS if not laboratory.counts("er_2", task)] == ["er"]
    assert all(laboratory.counts("sid_1", task) for task in laboratory.TASKS)
