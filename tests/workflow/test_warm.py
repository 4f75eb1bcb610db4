"""The `speechft` of tests/warm.py behaves as the installed one."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def verb(warm_python, tmp_path):
    """Start a command in a folder of its own."""
    return lambda *arguments: subprocess.Popen(
        [Path(warm_python).with_name("speechft"), *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_output_and_status_are_those_of_the_verb(verb):
    done = verb("merge", "none.pt", "neither.pt", "--out", "merged")
    said = done.communicate()[0]
    assert done.returncode == 1
    assert said.startswith("error: none.pt: ")
    assert verb("no-verb").wait() == 2
    assert verb("--help").wait() == 0


def test_who_ends_the_client_ends_the_job(verb, tmp_path):
    for number, status in ((signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)):
        (tmp_path / "import_forever.py").write_text("import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n")
        client = verb("check-encoder", "import_forever.py:Encoder")
        deadline = time.monotonic() + 60
        while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        job = Path("/proc") / (tmp_path / "pid").read_text()
        client.send_signal(number)
        assert client.wait(30) == status
        while job.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not job.exists()
        (tmp_path / "pid").unlink()
