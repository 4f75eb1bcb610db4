"""`speechft <verb>`: the command line, and the only thing that the workflow's rules call.

Each verb imports what it needs when it runs, so `--help` and the light verbs start at once. `speechft --help` lists the verbs in the
order in which the modules are imported here.
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
from speechft.cli import (  # noqa: F401 (each adds its verbs)
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
    """Run a verb. Exit status: 0 done, 1 failed (one clear message), 2 wrong usage."""
    end_on_sigterm()
    log_to_terminal()
    # On import fairseq asks for a package that only its text-to-speech needs.
    logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files and labels may hold what a terminal cannot show
    status = _run(sys.argv[1:])
    sys.exit(_flush() or status)


def _run(arguments: list[str]) -> int:
    """Run the verb with its arguments; returns the exit status."""
    try:
        for argument in arguments:
            _check_text(argument)
        # `--debug` is taken before the verb and behind it, where who repeats a failed command writes it.
        if "--debug" in arguments:
            os.environ[DEBUG] = "1"
        app([argument for argument in arguments if argument != "--debug"])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; run the same command again to resume")
        return 1
    except BaseException as error:  # the last line of defence; what panics in a library written in Rust is no Exception
        report_failure(error)
        return 1
    return 0


def _check_text(argument: str) -> None:
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise SpeechFTError(f"{argument!a}: is not UTF-8. Rename the file, or correct the terminal's encoding.") from None


def _flush() -> int:
    """Write what is still in memory of the standard output; returns 1 if that fails, which Python would tell by a traceback."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has enough, as `head` has
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
