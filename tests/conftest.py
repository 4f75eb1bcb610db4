import os
import sys
from pathlib import Path

import pytest

# Small tensors gain nothing from more threads, and `make test` has a process for each core.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _one_thread():
    """Verbs with `--threads` set the threads of their process; called by a test, they set those of all tests that follow."""
    yield
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of values recorded from the reference implementation."""
    return ROOT / "tests/golden"


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder of real recordings."""
    return ROOT / "tests/recordings"


LONGEST = ("rehearsal", "slurm", "test_end_to_end.py", "test_processes.py", "test_stopping.py")
"""Files and folders that take minutes: they start first, so that no process waits for them at the end."""


SLOW = (
    *LONGEST,
    *("workflow", "finetune", "pretrain", "evaluate", "encoders", "plugins", "doctor", "docs", "benchmarks", "installation"),
    *("test_connection.py", "test_three_ways.py", "test_jobs.py", "test_outputs.py", "test_report.py", "test_figures.py"),
    *("test_tables_experiment.py", "test_hostile_text.py", "test_notebook.py", "test_hub.py", "test_slurm_commands.py", "test_gpus.py"),
    *("test_own_modules.py", "test_calibration.py", "test_estimates.py", "test_plan.py", "test_mini_speech.py", "test_analysis.py"),
    *("test_merge_files.py", "test_merge_directories.py", "test_merge_checkpoints.py", "test_cli.py"),
)
"""Files and folders whose tests are `slow`: they train, start Snakemake or a browser, load many encoders, decode a corpus."""


def pytest_collection_modifyitems(items):
    places = {name: number for number, name in enumerate(LONGEST)}
    parts = {item: item.path.relative_to(ROOT).parts for item in items}
    items.sort(key=lambda item: min((places[part] for part in parts[item] if part in places), default=len(places)))
    for item in items:
        if not set(SLOW).isdisjoint(parts[item]):
            item.add_marker("slow")


NOTES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def note(pytestconfig):
    """Say something in the summary of the tests."""
    return pytestconfig.stash.setdefault(NOTES, []).append


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # one of several processes: the first one writes the summary
        session.config.workeroutput["slurm"] = session.config.stash.get(NOTES, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    node.config.stash.setdefault(NOTES, []).extend(getattr(node, "workeroutput", {}).get("slurm", []))


def pytest_terminal_summary(terminalreporter, config):
    if notes := config.stash.get(NOTES, []):
        terminalreporter.section("Slurm")
        for line in notes:
            terminalreporter.write_line(line)
