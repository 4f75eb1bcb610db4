"""The torch-free registry of metrics agrees with the tasks; tables work where there is no torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from speechft.errors import TableError
from speechft.tables.metrics import METRICS, task_metrics
from speechft.tasks import TASK_NAMES, get_task

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", TASK_NAMES)
def test_registry_agrees_with_the_task(name):
    ours = [(metric.key, metric.higher_is_better, metric.unit == "%") for metric in task_metrics([name])]
    assert ours == [(metric.key, metric.higher_is_better, metric.percent) for metric in get_task(name).metrics]


def test_registry_holds_all_metrics_of_the_benchmark():
    lower = {"PR", "ASR", "ASV", "SD", "SF_CER", "ASR_ZH_CER"}
    higher = {"KS", "QbE", "SID", "ER", "IC", "PC", "SF_F1", "SUPERB_S", "SUPERB_FULL"}
    assert {key for key, metric in METRICS.items() if metric.higher_is_better} == higher
    assert METRICS.keys() == lower | higher


def test_titles_show_metric_unit_and_direction():
    assert METRICS["PR"].title == "PR PER % ↓"
    assert METRICS["SF_F1"].title == "SF F1 % ↑"
    assert METRICS["QbE"].title == "QbE MTWV ↑"
    assert METRICS["SUPERB_S"].title == "SUPERB_S ↑"


def test_decimals_and_signs():
    assert METRICS["QbE"].shown(0.06872) == "0.0687"
    assert METRICS["PR"].shown(-0.001) == "0.00"
    assert METRICS["PR"].shown_difference(-0.001) == "+0.00"
    assert METRICS["PR"].shown_difference(-0.5) == "-0.50"


def test_unknown_tasks_are_listed():
    with pytest.raises(TableError, match=r"task 'xy', 'zz'. Tasks with metrics: pr, asr"):
        task_metrics(["pr", "xy", "zz"])


WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "fairseq", "lhotse"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocked())
from pathlib import Path
from speechft.recipes.tables import TableRecipe
from speechft.tables import superb_score
from speechft.tables.build import build_table
from speechft.tables.figure import build_figure

cells, out = [Path(path) for path in sys.argv[2:]], Path(sys.argv[1])
rows = [{"encoder": "e", "finetuning": "none", "method": "pretrained", "label": "Pre-trained"}]
recipe = TableRecipe(title="t", rows=rows, tasks=("ks",), published="baselines")
build_table(recipe, cells, "config/published.csv", out, "t")
build_figure(recipe, cells, out / "t.png")
superb_score({"PR": 5.17, "SID": 81.86, "ER": 64.99, "SF_F1": 88.54, "SF_CER": 24.70})
assert not {"torch", "transformers"} & set(sys.modules)
"""


def test_tables_and_figures_are_made_without_torch(write_cell, tmp_path):
    cell = write_cell("e", "none", "pretrained", "ks", {"KS": [50.0, 51.0]})
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "out"), str(cell)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["t.csv", "t.html", "t.md", "t.png", "t.svg", "t.tex"]
