import os
from pathlib import Path

import pytest

# Small tensors gain nothing from more threads, and `make test` has a process for each core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of values recorded from the reference implementation."""
    return ROOT / "tests/golden"


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder of real recordings."""
    return ROOT / "tests/recordings"


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
