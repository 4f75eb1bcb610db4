import importlib
import subprocess
import sys

import pytest
from conftest import ROOT

S3PRL = ROOT / "benchmarks/.venv-s3prl/bin/python"


@pytest.fixture
def script(monkeypatch):
    """Import a module of benchmarks/ by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def run_script():
    """Run a script of benchmarks/ to its end; returns what it prints."""

    def run(name, *arguments, needs_s3prl=False):
        if needs_s3prl and not S3PRL.exists():
            pytest.skip("s3prl's environment is not there; benchmarks/make_s3prl_env.sh makes it")
        command = [sys.executable, ROOT / "benchmarks" / name, *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
