"""The torch-free registry of metrics agrees with the tasks; what is shown of a metric."""

import pytest

from speechft.errors import TableError
from speechft.tables.metrics import METRICS, task_metrics
from speechft.tasks import TASK_NAMES, get_task


@pytest.mark.parametrize("name", TASK_NAMES)
def test_registry_agrees_with_the_task(name):
    ours = [(metric.key, metric.higher_is_better, metric.unit == "%") for metric in task_metrics([name])]
    assert ours == [(metric.key, metric.higher_is_better, metric.percent) for metric in get_task(name).metrics]


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
