import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from slurm.cluster import HERE, PACKAGES, Slurm, missing_programs

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


@pytest.fixture(scope="session")
def slurm():
    """A private Slurm on this machine for the tests of this session."""
    if missing := missing_programs():
        pytest.skip(f"Slurm is not installed ({', '.join(missing)} not found); Debian and Ubuntu: apt-get install {PACKAGES}")
    # Sockets have short names, so not below pytest's folder.
    folder = Path(tempfile.mkdtemp(prefix="slurm-")) / "s"
    folder.parent.chmod(0o755)  # munge wants its socket to be reachable for all
    port = 21000 + os.getpid() % 3000 * 3
    try:
        done = subprocess.run(
            ["timeout", "-s", "KILL", "120", HERE / "start.sh", folder, str(port)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        yield Slurm(folder)
    finally:
        subprocess.run(["timeout", "-s", "KILL", "60", HERE / "stop.sh", folder], stdin=subprocess.DEVNULL, check=False)
        shutil.rmtree(folder.parent, ignore_errors=True)
