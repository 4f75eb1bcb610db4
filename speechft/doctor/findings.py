"""What a check finds, and how programs are asked."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

Status = Literal["ok", "warning", "problem"]
OK: Status = "ok"
WARNING: Status = "warning"
PROBLEM: Status = "problem"
_PATIENCE = 20.0
"""Seconds to wait for a program."""


class Finding(NamedTuple):
    """One line of the report; `remedy` says what to do about a warning or a problem."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def careful(check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What a check finds; that it cannot be made is a finding too, and does not keep others from being made."""
    try:
        yield from check()
    except Exception as error:  # whatever a broken installation raises is the finding
        name = getattr(check, "__name__", "check").replace("check_", "").replace("_", " ").strip()
        name = name if name.isprintable() and "<" not in name else "check"
        yield Finding(name, PROBLEM, f"{type(error).__name__}: {error}", "Run `make environment`; if this stays, please report it.")


class Answer(NamedTuple):
    """What a program said; `status` is None where it is not there, -1 where it did not end in time."""

    status: int | None
    output: str

    @property
    def complaint(self) -> str:
        """The last line, or what became of the program."""
        if self.status == -1:
            return f"no answer within {_PATIENCE:g} s"
        lines = self.output.strip().splitlines()
        return lines[-1].strip() if lines else f"exit status {self.status}"


def ask(*command: str, patience: float = _PATIENCE) -> Answer:
    """Run a program and wait for what it says."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, errors="replace")
    except FileNotFoundError:
        return Answer(None, "")
    except subprocess.TimeoutExpired:
        return Answer(-1, "")
    except OSError as error:
        return Answer(126, str(error))
    return Answer(done.returncode, done.stdout if done.returncode == 0 else done.stderr or done.stdout)
