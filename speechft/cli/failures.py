"""Report of a failed command: one message for any error, and a traceback file for unexpected ones."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

from speechft.errors import SpeechFTError
from speechft.files.escapes import one_line, terminal_text
from speechft.requirements import explained
from speechft.runs.refusals import note_refusal

DEBUG = "SPEECHFT_DEBUG"
"""Environment variable: any value except 0 prints the traceback of every error."""
FOLDER = ".speechft"
"""Folder for tracebacks in the working folder; if it cannot be written, the system's temporary folder is used."""
_PACKAGE = Path(__file__).parents[1]
_SHOWN = 300
_MEMORY = ("allocate memory", "failed to map segment", "bad_alloc", "DefaultCPUAllocator", "out of memory")
"""Out-of-memory messages of libraries, each of which has its own exception."""


def debugging() -> bool:
    """Whether tracebacks are printed."""
    return os.environ.get(DEBUG, "0") not in ("", "0")


def report(error: BaseException) -> None:
    """Print the error that ended a command as one message; never raises.

    The traceback of an unexpected error is printed when debugging, otherwise written to a file that the message names.
    """
    with contextlib.suppress(Exception):
        if debugging():
            sys.stderr.write(_traceback(error))
        if (sentence := explained(error)) is not None:
            error = sentence
        if isinstance(error, SpeechFTError):
            message = str(error)
        elif isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
            message = f"{_short(str(error.filename))}: {error.strerror}. Check the path, its permissions and free disk space."
        else:
            message = _sentence(error) if debugging() else f"{_sentence(error)} {_kept(error)}"
        _say(message)
        if isinstance(error, SpeechFTError):
            note_refusal(error, f"error: {error}")


def _say(message: str) -> None:
    from rich.console import Console
    from rich.markup import escape

    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]error:[/] {escape(terminal_text(message))}")


def _short(text: str) -> str:
    """Put `text` on one line, truncated if long."""
    plain = one_line(text)
    return plain if len(plain) <= _SHOWN else f"{plain[:_SHOWN]}..."


def _sentence(error: BaseException) -> str:
    """Describe an unexpected error: what happened, where, and what to do."""
    name, said, where = type(error).__name__, "", _where(error)
    with contextlib.suppress(Exception):  # str(error) itself can raise
        said = _short(str(error))
    if isinstance(error, MemoryError) or any(sign in said for sign in _MEMORY) or getattr(error, "errno", None) == errno.ENOMEM:
        return f"Out of memory in {where}. Give the job more memory, or use smaller batches."
    if isinstance(error, RecursionError):
        return f"The input is nested too deeply for {where}. Check the input files."
    if isinstance(error, OSError) and error.strerror is not None:
        return f"{error.strerror}, in {where}. Check free space, limits (`ulimit -a`) and permissions."
    return f"Unexpected {name}{f': {said}' if said else ''}, in {where}. Check the input, or report this as a bug of speechft."


def _where(error: BaseException) -> str:
    """Innermost line of the traceback within this package, otherwise the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)]
    if not frames:
        return "speechft"
    frame = (own or frames)[-1]
    path = Path(frame.filename)
    return f"{path.relative_to(_PACKAGE.parent).as_posix() if own else path.name}, line {frame.lineno}"


def _kept(error: BaseException) -> str:
    """Write the traceback to a file and return a sentence that says where it is."""
    heading = f"speechft {' '.join(map(ascii, sys.argv[1:]))}\nPython {platform.python_version()}, {platform.platform()}\n\n"
    text = heading + _traceback(error)
    name = f"traceback-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for own in (True, False):
        with contextlib.suppress(OSError):
            folder = Path(FOLDER) if own else Path(tempfile.mkdtemp(prefix="speechft-"))
            folder.mkdir(exist_ok=True)
            path = folder / name
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            return f"The traceback is in {path}; --debug prints it."
    return "The same command with --debug prints the traceback."


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return "".join([*traceback.format_tb(error.__traceback__), type(error).__name__, "\n"])
