"""Time and memory of a command are its own, whatever started it."""

import sys

import pytest
from conftest import ROOT

WORK = """
import time
held = bytearray(80 * 2**20)
held[::4096] = b"x" * len(held[::4096])
while time.process_time() < 0.3:
    pass
print("done")
"""


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import measured

    return measured


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
