"""Command line `speechft COMMAND`, which is all that the workflow's rules call.

Commands import their dependencies when they run, so that `--help` and light commands start at once. `speechft --help` lists commands in
the order in which modules are imported here.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from typing import NoReturn

from rich.console import Console

from speechft.cli.failures import DEBUG
from speechft.cli.failures import report as report_failure
from speechft.cli.options import app
from speechft.cli.terminal import log_to_terminal
from speechft.errors import SpeechFTError
from speechft.files.locks import end_on_sigterm

# isort: off
from speechft.cli import (  # noqa: F401 (each registers its commands)
    corpora,
    encoders,
    training,
    merging,
    evaluation,
    reports,
    workflow,
    planning,
    machine,
)
# isort: on

__all__ = ["app", "main"]


def main() -> NoReturn:
    """Run a command. Exit status: 0 done, 1 failed (with one message), 2 wrong usage."""
    end_on_sigterm()
    log_to_terminal()
    # On import, fairseq warns about a missing package that only its text-to-speech needs.
    logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for file names and labels that the terminal cannot show
    status = _run(sys.argv[1:])
    sys.exit(_flush() or status)


def _run(arguments: list[str]) -> int:
    """Run a command line and return its exit status."""
    try:
        for argument in arguments:
            _check_text(argument)
        # `--debug` may also follow the command, for users who append it to a failed command line.
        if "--debug" in arguments:
            os.environ[DEBUG] = "1"
        app([argument for argument in arguments if argument != "--debug"])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; run the same command again to resume")
        return 1
    except BaseException as error:  # a panic in a library written in Rust is not an Exception
        report_failure(error)
        return 1
    return 0


def _check_text(argument: str) -> None:
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise SpeechFTError(f"{argument!a}: is not UTF-8. Rename the file, or fix the terminal's encoding.") from None


def _flush() -> int:
    """Flush the standard output; return 1 if that fails, instead of Python's traceback."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        _let_go_of_output()
    except OSError as error:
        report_failure(error)
        _let_go_of_output()
    else:
        return 0
    return 1


def _let_go_of_output() -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
