"""Locks between processes, and clean termination on SIGTERM."""

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
    """Make SIGTERM end this process by an exception, so that temporary files are removed; the exit status is 143, as in shells."""
    main = os.getpid()

    def end(number: int, _frame: object) -> None:
        if os.getpid() != main:  # a worker; its parent removes the temporary files
            os._exit(128 + number)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


LOCK_SECONDS = "SPEECHFT_LOCK_SECONDS"
"""Environment variable: seconds that a job waits for a lock. Set by the workflow; by default 0, so that a second job fails at once."""


@contextlib.contextmanager
def exclusive_lock(path: str | Path, holder: str) -> Iterator[bool]:
    """Hold the lock file `path` for the duration of the block, and yield whether another process held it before.

    A process that had to wait should check whether the other one has done the work. The system releases the lock when its holder ends for
    any reason. Shared file systems must support locks across nodes (NFS: yes; Lustre: mounted with `flock`).

    Raises:
        TransientError: another process still holds the lock after SPEECHFT_LOCK_SECONDS; `holder` says what it is doing.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    waited = False
    try:
        lock.acquire()
    except Timeout as error:
        refusal = f"{path}: another process is {holder} here. Wait for it or end it, then run the command again."
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
        raise SpeechFTError(f"{LOCK_SECONDS}={text} is not a number of seconds. Correct or unset the variable.") from None
