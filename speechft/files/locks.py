"""Locks between processes, and how a process ends on SIGTERM."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from speechft.errors import SpeechFTError, TransientError

logger = logging.getLogger(__name__)


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as an exception does, so that temporary files are removed; status 143, as shells call it."""
    main = os.getpid()

    def end(number: int, _frame: object) -> None:
        if os.getpid() != main:  # a worker process, whose temporary files are its parent's
            os._exit(128 + number)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


LOCK_SECONDS = "SPEECHFT_LOCK_SECONDS"
"""Environment variable: how long a job waits for a lock. The workflow sets it; by hand it is 0, and a second job is refused at once."""


@contextlib.contextmanager
def exclusive_lock(path: str | Path, holder: str) -> Iterator[bool]:
    """Hold the lock file `path` while the block runs; yields whether another process had held it first.

    Who had to wait should look whether the other one has done the work. The system frees the lock when its holder dies, however that
    happens. On shared file systems this needs locks that work across nodes (NFS: yes; Lustre: mounted with `flock`).

    Raises:
        TransientError: another process works there, and still does after the seconds in SPEECHFT_LOCK_SECONDS; `holder` says at what.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    waited = False
    try:
        lock.acquire()
    except Timeout as error:
        refusal = f"{path}: another process is {holder} here. Wait for it or end it, then run this again."
        seconds = _lock_seconds()
        if not seconds:
            raise TransientError(refusal) from error
        logger.info("%s: another process is %s here; waiting for it", path, holder)
        waited = True
        try:
            lock.acquire(timeout=seconds, poll_interval=1.0)
        except Timeout:
            raise TransientError(refusal) from error
    try:
        yield waited
    finally:
        lock.release()


def _lock_seconds() -> float:
    text = os.environ.get(LOCK_SECONDS, "0")
    try:
        return float(text)
    except ValueError:
        raise SpeechFTError(f"{LOCK_SECONDS}={text}: is not a number of seconds. Set one, or unset the variable.") from None
