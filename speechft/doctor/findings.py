"""Findings of checks, and helpers to run checks and programs."""

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
    """Build a finding: ok if `good`, otherwise `otherwise` with a remedy."""
    return Finding(name, OK, found) if good else Finding(name, otherwise, found, remedy)


def careful(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield the findings of a check; an exception becomes a finding, so that other checks still run."""
    try:
        yield from check()
    except Exception as error:  # a broken installation can raise anything
        yield Finding(name, PROBLEM, f"{type(error).__name__}: {error}", "Run `make environment`; if this stays, please report it.")


def ask(*command: str, patience: float = 20.0) -> tuple[bool, str]:
    """Run a program; return whether it succeeded within `patience` seconds, and its output or the last line of its error.

    Raises:
        FileNotFoundError: the program is not installed.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, errors="replace")
    except subprocess.TimeoutExpired:
        return False, f"no response within {patience:g} s"
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return (True, done.stdout) if done.returncode == 0 else (False, lines[-1].strip() if lines else f"exit status {done.returncode}")
