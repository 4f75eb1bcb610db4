"""Time and memory of a command are its own, whatever started it."""

import sys

import pytest
from conftest import ROOT

from speechft.experiment.schema import load_experiment

WORK = """
import time
held = bytearray(80 * 2**20)
held[::4096] = b"x" * len(held[::4096])
while time.process_time() < 0.3:
    pass
print("done")
"""


@pytest.fixture
def measured(script):
    return script("measured")


def test_what_the_command_used(measured):
    ballast = b"x" * (300 * 2**20)
    found = measured.measured_run([sys.executable, "-S", "-c", WORK])
    assert found.output == "done\n"
    assert 0.3 <= found.cpu_seconds < 1
    assert found.cpu_seconds < found.seconds + 0.1
    assert 80 < found.megabytes < 150
    assert measured.peak_megabytes() > len(ballast) / 2**20


def test_where_and_with_what_it_runs(measured, tmp_path):
    show = "import os; print(os.getcwd(), os.environ['NAME'])"
    found = measured.measured_run([sys.executable, "-c", show], cwd=tmp_path, environment={"NAME": "value"})
    assert found.output == f"{tmp_path} value\n"


def test_a_command_that_fails_says_why(measured):
    with pytest.raises(SystemExit, match="failed:\nheard\n(.|\n)*ValueError: a reason"):
        measured.measured_run([sys.executable, "-c", "print('heard', flush=True); raise ValueError('a reason')"])


def test_the_papers_experiment_is_planned_within_its_limits_and_without_torch(script, tmp_path, monkeypatch):
    trap = tmp_path / "trap"
    for name in ("torch", "transformers", "fairseq", "lhotse"):
        (trap / name).mkdir(parents=True)
        (trap / name / "__init__.py").write_text(f"raise ImportError('{name} was imported while planning')\n")
    monkeypatch.setenv("PYTHONPATH", str(trap))
    experiment = load_experiment(ROOT / "config/paper.yaml")
    (tmp_path / "work").mkdir()
    plan = script("dry_run").plan(ROOT / "config/paper.yaml", tmp_path / "work")
    cells = {cell for name in experiment.tables for cell in experiment.table_cells(name)}
    cells |= {cell for name in experiment.curves for cell in experiment.curve_cells(name)}
    assert plan.jobs["evaluate"] == len(cells)
    assert (plan.jobs["table"], plan.jobs["curve"]) == (len(experiment.tables), len(experiment.curves))
    assert plan.jobs["total"] == sum(count for rule, count in plan.jobs.items() if rule != "total")
    # Time of the processor, so that a busy machine does not fail.
    assert plan.cpu_seconds < 10
    assert plan.megabytes < 500
