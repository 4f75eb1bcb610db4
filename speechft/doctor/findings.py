"""What a check finds, and how programs are asked."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

Status = Literal["ok", "warning", "problem"]
OK: Status = "ok"
WARNING: Status = "warning"
PROBLEM: Status = "problem"


class Finding(NamedTuple):
    """One line of the report; `remedy` says what to do about a warning or a problem."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def verdict(name: str, good: bool, found: str, remedy: str, otherwise: Status = PROBLEM) -> Finding:
    """A finding that is ok, or `otherwise` with a remedy."""
    return Finding(name, OK, found) if good else Finding(name, otherwise, found, remedy)


def careful(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What a check finds; a check that breaks is a finding too, and does not keep others from being made."""
    try:
        yield from check()
    except Exception as error:  # whatever a broken installation raises is the finding
        yield Finding(name, PROBLEM, f"{type(error).__name__}: {error}", "Run `make environment`; if this stays, please report it.")


def ask(*command: str, patience: float = 20.0) -> tuple[bool, str]:
    """Run a program: whether it succeeded within `patience` seconds, and its output, or else the last line of its complaint.

    Raises:
        FileNotFoundError: there is no such program.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, errors="replace")
    except subprocess.TimeoutExpired:
        return False, f"no answer within {patience:g} s"
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return (True, done.stdout) if done.returncode == 0 else (False, lines[-1].strip() if lines else f"exit status {done.returncode}")
