"""Whatever a command raises becomes one sentence, and its traceback a file."""

import errno
import os
import shlex
import subprocess
import sys
import tempfile

import pytest

from speechft import cli
from speechft.cli import failures


class NamelessError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


EXPECTED = {
    "Unexpected ValueError: two lines": ValueError("two\nlines"),
    "Out of memory in": MemoryError(),
    "Out of memory in tests": RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    "Out of memory in tests/": ImportError("libtorch.so: failed to map segment from shared object"),
    "The input is nested too deeply": RecursionError("maximum recursion depth exceeded"),
    "Unexpected OverflowError": OverflowError("cannot convert float infinity to integer"),
    "Unexpected UnicodeDecodeError": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "File too large, in": OSError(errno.EFBIG, "File too large"),
    "No space left on device": OSError(errno.ENOSPC, "No space left on device"),
    "Unexpected NamelessError, in": NamelessError(),
    "Unexpected PanicException: rust": type("PanicException", (BaseException,), {})("rust"),
}


def fail(monkeypatch, error):
    def app(arguments):
        raise error

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(failures, "_PACKAGE", failures.Path(__file__).parents[1])
    return cli._run(["finetune", "a b"])


@pytest.fixture(autouse=True)
def _quiet(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(failures.DEBUG, raising=False)


@pytest.mark.parametrize("sentence", EXPECTED)
def test_an_unexpected_error_is_a_sentence_and_a_file(monkeypatch, tmp_path, capsys, sentence):
    assert fail(monkeypatch, EXPECTED[sentence]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {sentence}")
    assert said.count("\n") == 1
    assert "Traceback (" not in said
    (log,) = (tmp_path / ".speechft").iterdir()
    assert f"The traceback is in .speechft/{log.name}; --debug prints it." in said
    kept = log.read_text()
    assert kept.startswith("speechft ")
    assert "in app" in kept
    assert type(EXPECTED[sentence]).__name__ in kept


def test_the_place_is_told(monkeypatch, capsys):
    fail(monkeypatch, ValueError("x"))
    line = next(number for number, text in enumerate(failures.Path(__file__).read_text().splitlines(), 1) if "raise error" in text)
    assert f"ValueError: x, in tests/cli/test_unexpected_errors.py, line {line}. " in capsys.readouterr().err


def test_debug_prints_the_traceback_and_keeps_no_file(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(failures.DEBUG, "1")
    assert fail(monkeypatch, ValueError("x")) == 1
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert said.splitlines()[-1].startswith("error: Unexpected ValueError: x, in tests/")
    assert list(tmp_path.iterdir()) == []


def test_without_a_writable_folder_the_traceback_is_elsewhere_or_nowhere(monkeypatch, tmp_path, capsys):
    (tmp_path / ".speechft").write_text("a file")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert fail(monkeypatch, ValueError("x")) == 1
    (log,) = tmp_path.glob("speechft-*/traceback-*.log")
    assert str(log) in capsys.readouterr().err
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none" / "none"))
    assert fail(monkeypatch, ValueError("x")) == 1
    assert "The same command with --debug prints the traceback." in capsys.readouterr().err
    assert (tmp_path / ".speechft").read_text() == "a file"


def run(command, folder):
    return subprocess.run(
        ["bash", "-c", command.replace("speechft", f"{shlex.quote(sys.executable)} -m speechft.cli")], cwd=folder, capture_output=True
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("speechft --help > /dev/full", b"No space left on device"),
        ("speechft inspect $'a\\xff'", b"'a\\udcff': is not UTF-8"),
    ],
)
def test_outputs_that_fail_and_arguments_that_are_no_text(tmp_path, command, said):
    done = run(command, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert said in done.stderr
    assert b"Traceback (" not in done.stderr
    assert b"Exception ignored" not in done.stderr


TRAINING = "speechft report training none.csv -o c.png"


@pytest.mark.parametrize("command", [f"{TRAINING} --debug", f"SPEECHFT_DEBUG=1 {TRAINING}"])
def test_debug_stands_anywhere(tmp_path, command):
    done = run(command, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(b"Traceback (most recent call last)")
    assert done.stderr.splitlines()[-1].startswith(b"error: none.csv: no such file")


def test_a_name_that_the_terminal_cannot_show(tmp_path):
    code = "import speechft.cli; speechft.cli.app = lambda arguments: print('\\xe9'); speechft.cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b"\\xe9", b"")


def test_a_reader_that_has_enough_hears_nothing(tmp_path):
    command = [sys.executable, "-m", "speechft.cli", "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1
    process.stderr.close()
