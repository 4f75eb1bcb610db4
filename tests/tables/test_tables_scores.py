"""Metrics as tables show them, SUPERB scores against the published ones, and refusals."""

import numpy as np
import pytest
from conftest import ROOT

from speechft.errors import TableError
from speechft.tables import partial_score, superb_full_score, superb_score
from speechft.tables.metrics import METRICS, task_metrics
from speechft.tables.published import load_published
from speechft.tables.scores import Normalizer, partial_title
from speechft.tasks import TASK_NAMES, get_task

FOUR_TASKS = ("PR", "SID", "ER", "SF_F1", "SF_CER")
HUBERT = dict(zip(FOUR_TASKS, (5.17, 81.86, 64.99, 88.54, 24.70), strict=True))


def test_every_complete_row_of_the_published_file():
    published = load_published(ROOT / "config/published.csv")
    models = {key[:4] for key in published.values}
    complete = [row for row in (published.row(*model) for model in models) if {*FOUR_TASKS, "SUPERB_S"} <= row.keys()]
    # The six rows, those of HuBERT twice more, and the pre-trained one in four further tables.
    assert len(complete) >= 6 + 2 * 3 + 4
    for row in complete:
        assert superb_score({key: row[key] for key in FOUR_TASKS}) == pytest.approx(row["SUPERB_S"], abs=0.01)


def test_other_metrics_are_not_used_and_numpy_numbers_are_numbers():
    assert superb_score({**HUBERT, "KS": 96.59, "QbE": 0.0687}) == superb_score(HUBERT)
    assert superb_score({key: np.float32(value) for key, value in HUBERT.items()}) == pytest.approx(superb_score(HUBERT), abs=1e-3)


def test_superb_full_uses_all_eleven_metrics():
    full = {**HUBERT, "ASR": 6.38, "KS": 96.59, "QbE": 0.0687, "ASV": 5.56, "SD": 6.32, "IC": 98.02}
    score = superb_full_score(full)
    # Public scales: between this and the published 815.47 there is no more than the unknown scales of six metrics.
    assert 815 < score < 845
    for key, value in full.items():
        assert superb_full_score({**full, key: value + 0.001}) != score
    with pytest.raises(TableError, match="missing: QbE"):
        superb_full_score({key: value for key, value in full.items() if key != "QbE"})


def test_the_scale_is_from_0_to_1000_and_slot_filling_is_one_task():
    scale = {key: Normalizer(fbank=10.0, sota=20.0 + place, source="made up") for place, key in enumerate(FOUR_TASKS)}
    floor, best = dict.fromkeys(FOUR_TASKS, 10.0), {key: end.sota for key, end in scale.items()}
    assert superb_score(floor, scale) == 0.0
    assert superb_score(best, scale) == pytest.approx(1000.0)
    assert superb_score({**floor, "PR": best["PR"]}, scale) == pytest.approx(250.0)
    assert superb_score({**floor, "SF_F1": best["SF_F1"]}, scale) == pytest.approx(125.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({key: ...}, f"missing: {key}") for key in FOUR_TASKS),
        *(({key: 1.0}, f"'{key}' is not a metric") for key in ("PER", "sid", "SUPERB_S", "")),
        *(({"SID": value}, "SID is") for value in (float("nan"), float("inf"), None, "81.86", True)),
    ],
)
def test_a_metric_that_is_missing_unknown_or_no_number_is_named(changes, message):
    with pytest.raises(TableError, match=message):
        superb_score({key: value for key, value in {**HUBERT, **changes}.items() if value is not ...})


def test_incomplete_normalizers():
    with pytest.raises(TableError, match="no scale for SID, ER, SF_F1, SF_CER"):
        superb_score(HUBERT, {"PR": Normalizer(0.0, 1.0, "made up")})
    with pytest.raises(TableError, match="are equal"):
        superb_score(HUBERT, dict.fromkeys(FOUR_TASKS, Normalizer(1.0, 1.0, "made up")))


def test_a_partial_score_names_its_tasks():
    value, tasks = partial_score({"PR": 5.17, "SID": 81.86, "KS": 96.59})
    assert tasks == ("PR", "SID")
    phi_pr, phi_sid = (5.17 - 82.01) / (2.422902 - 82.01), (81.86 - 8.5e-4) / (95.113419 - 8.5e-4)
    assert value == pytest.approx(500 * (phi_pr + phi_sid))
    assert partial_title(tasks) == "score over PR, SID (of PR, SID, ER, SF) ↑"
    assert partial_score(HUBERT) == (superb_score(HUBERT), ("PR", "SID", "ER", "SF"))
    assert partial_score({"SF_F1": 88.54, "KS": 96.59}) is None  # half of a task
    with pytest.raises(TableError, match="is not a metric"):
        partial_score({"XY": 1.0})


@pytest.mark.parametrize("name", TASK_NAMES)
def test_registry_agrees_with_the_task(name):
    ours = [(metric.key, metric.higher_is_better, metric.unit == "%") for metric in task_metrics([name])]
    assert ours == [(metric.key, metric.higher_is_better, metric.unit == "%") for metric in get_task(name).metrics]


def test_registry_holds_all_metrics_of_the_benchmark():
    lower = {"PR", "ASR", "ASV", "SD", "SF_CER", "ASR_ZH_CER"}
    higher = {"KS", "QbE", "SID", "ER", "IC", "PC", "SF_F1", "SUPERB_S", "SUPERB_FULL"}
    assert {key for key, metric in METRICS.items() if metric.higher_is_better} == higher
    assert METRICS.keys() == lower | higher


def test_titles_decimals_and_signs():
    titles = {"PR": "PR PER % ↓", "SF_F1": "SF F1 % ↑", "QbE": "QbE MTWV ↑", "SUPERB_S": "SUPERB_S ↑"}
    assert {key: METRICS[key].title for key in titles} == titles
    assert METRICS["QbE"].shown(0.06872) == "0.0687"
    assert METRICS["PR"].shown(-0.001) == "0.00"
    assert [METRICS["PR"].shown_difference(value) for value in (-0.001, -0.5)] == ["+0.00", "-0.50"]


def test_unknown_tasks_are_listed():
    with pytest.raises(TableError, match=r"task 'xy', 'zz'. Tasks with metrics: pr, asr"):
        task_metrics(["pr", "xy", "zz"])
