"""The scripts about stage 1 run, with a tiny model."""

import subprocess
import sys

import pytest
from conftest import ROOT

S3PRL = ROOT / "benchmarks/.venv-s3prl/bin/python"


def test_a_run_that_was_killed_twice_ends_like_an_undisturbed_one():
    command = [sys.executable, "benchmarks/kill_finetuning.py", "--kills", "2", "--updates", "60"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("after the start") == 2
    assert done.stdout.count("equal, byte for byte") == 3


def test_both_sides_are_timed_on_the_same_work():
    if not S3PRL.exists():
        pytest.skip("s3prl's environment is not there; benchmarks/make_s3prl_env.sh makes it")
    command = [sys.executable, "benchmarks/finetune.py", "--small", "--rounds", "1", "--updates", "4", "--seconds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| cpu, fp32 | s3prl |" in done.stdout
    assert "| cpu, fp32 | speechft |" in done.stdout
