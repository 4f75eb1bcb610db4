"""Jobs on one machine claim GPUs: no two have the same one, and claims end with their holders. No GPU is needed: names are given."""

import os
import select
import subprocess
import sys

import pytest

from speechft.errors import ConfigError
from speechft.runtime.gpus import VISIBLE, claim_gpus, visible_gpus

CLAIM = """
import sys, time
from pathlib import Path
from speechft.runtime.gpus import claim_gpus
print(",".join(claim_gpus(int(sys.argv[1]), Path(sys.argv[2]))), flush=True)
time.sleep(float(sys.argv[3]))
"""


@pytest.fixture
def claim(tmp_path):
    """Start a process that claims GPUs and holds them; all are ended afterwards."""
    started = []

    def start(count, visible="0,1", seconds=60.0):
        environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
        process = subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(count), str(tmp_path / "claims"), str(seconds)],
            stdout=subprocess.PIPE, text=True, env={**environment, VISIBLE: visible},
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_two_jobs_have_different_gpus_and_a_third_waits(claim):
    first, second = claim(1), claim(1)
    assert {first.stdout.readline(), second.stdout.readline()} == {"0\n", "1\n"}
    third = claim(1)
    assert not select.select([third.stdout], [], [], 3)[0], "both are taken"
    second.kill()
    second.wait()
    assert third.stdout.readline() in ("0\n", "1\n")


def test_a_job_that_wants_two_gets_both_or_none(claim):
    single = claim(1, seconds=4)
    held = single.stdout.readline()
    both = claim(2)
    late = claim(1, visible="0,1" if held == "1\n" else "1,0", seconds=1)
    assert late.stdout.readline() != held, "the one that waits for two holds none"
    assert sorted(both.stdout.readline().strip().split(",")) == ["0", "1"]


def test_the_claim_is_what_libraries_see(monkeypatch, tmp_path):
    monkeypatch.setenv(VISIBLE, "GPU-aa/b, GPU-cc")
    assert claim_gpus(0, tmp_path) == []
    assert claim_gpus(1, tmp_path) == ["GPU-aa/b"]
    assert os.environ[VISIBLE] == "GPU-aa/b"
    assert [path.name for path in tmp_path.iterdir()] == ["GPU-aa_b"]
    with pytest.raises(ConfigError, match=r"--gpus 2: 1 visible here \(CUDA_VISIBLE_DEVICES=GPU-aa/b\).*0 runs on the CPU"):
        claim_gpus(2, tmp_path)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert claim_gpus(2, tmp_path) == []  # torchrun's parent has claimed
    assert os.environ[VISIBLE] == "GPU-aa/b"


def test_without_a_choice_all_that_the_machine_has_are_visible(monkeypatch, tmp_path):
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '0\\n1\\n2\\n'\n")
    tool.chmod(0o755)
    assert visible_gpus() == ["0", "1", "2"]
    tool.write_text("#!/bin/sh\necho 'No devices were found'\nexit 6\n")
    assert visible_gpus() == []
