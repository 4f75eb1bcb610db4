"""Jobs that start at once behave as others: output, exit status, signals; and without their server they start as ever."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from speechft.runs import warm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def command():
    """A `speechft` of a server that ends with the tests."""
    folder = warm.start()
    yield folder / "speechft"
    server = warm._servers.pop()
    server.stdin.close()
    server.wait(10)
    assert not folder.exists()


@pytest.fixture
def verb(command, tmp_path):
    """Start a command in a folder of its own."""
    return lambda *arguments: subprocess.Popen(
        [command, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_output_and_status_are_those_of_the_verb(verb):
    done = verb("merge", "none.pt", "neither.pt", "--out", "merged")
    said = done.communicate()[0]
    assert done.returncode == 1
    assert said.startswith("error: none.pt: ")
    assert verb("no-verb").wait() == 2
    assert verb("--help").wait() == 0


def test_a_traceback_is_shown(verb, tmp_path):
    (tmp_path / "mine.py").write_text("raise KeyError('unexpected')\n")
    words = ["--debug", "check-encoder", "mine.py:Encoder"]
    done = verb(*words)
    said = done.communicate()[0]
    usual = subprocess.run(
        [Path(sys.executable).with_name("speechft"), *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == usual.returncode != 0
    assert said.splitlines()[-1] == usual.stdout.decode().splitlines()[-1]


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


def test_the_server_ends_with_who_started_it(tmp_path):
    code = "import os, signal; from speechft.runs import warm; print(warm.start(), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    folder, deadline = Path(done.stdout.strip()), time.monotonic() + 30
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()


def test_without_the_server_jobs_start_as_ever():
    folder = warm.start()
    server = warm._servers.pop()
    server.kill()
    server.wait()
    done = subprocess.run([folder / "speechft", "no-verb"], capture_output=True, text=True)
    shutil.rmtree(folder)
    assert done.returncode == 2
    assert "No such command" in done.stderr
