"""The paper's experiment is planned quickly, in little memory and without torch."""

import pytest
from conftest import ROOT

from speechft.experiment.schema import load_experiment


@pytest.fixture
def dry_run(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import dry_run

    return dry_run


def test_the_papers_experiment_is_planned_within_its_limits(dry_run, tmp_path, monkeypatch):
    trap = tmp_path / "trap"
    for name in ("torch", "transformers", "fairseq", "lhotse"):
        (trap / name).mkdir(parents=True)
        (trap / name / "__init__.py").write_text(f"raise ImportError('{name} was imported while planning')\n")
    monkeypatch.setenv("PYTHONPATH", str(trap))
    experiment = load_experiment(ROOT / "config/paper.yaml")
    (tmp_path / "work").mkdir()
    plan = dry_run.plan(ROOT / "config/paper.yaml", tmp_path / "work")
    cells = {cell for name in experiment.tables for cell in experiment.table_cells(name)}
    cells |= {cell for name in experiment.curves for cell in experiment.curve_cells(name)}
    assert plan.jobs["evaluate"] == len(cells)
    assert (plan.jobs["table"], plan.jobs["curve"]) == (len(experiment.tables), len(experiment.curves))
    assert plan.jobs["total"] == sum(count for rule, count in plan.jobs.items() if rule != "total")
    # Time of the processor, so that a busy machine does not fail.
    assert plan.cpu_seconds < 10
    assert plan.megabytes < 500


def test_job_counts(dry_run):
    statistics = "job         count\n--------  -------\nevaluate        3\nall             1\ntotal           4\n"
    assert dry_run.job_counts(f"Building DAG of jobs...\nJob stats:\n{statistics}\nmore") == {"evaluate": 3, "all": 1, "total": 4}
