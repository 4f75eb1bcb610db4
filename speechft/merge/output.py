"""The file that a merge writes: hashed and sent to the disk while it grows, so that nothing is left to wait for at its end."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from speechft.merge.hashing import GrowingFileHash

_WINDOW = 32 * 2**20
"""Bytes that are written before the system is asked to bring them to the disk."""


class OutputFile:
    """A new file of known size, written from its beginning to its end.

    Args:
        path: the file to make.
        nbytes: its size. The space is reserved at once: a full disk is noticed before any work, and writing then takes half the time,
            because the file system need not look for space piece by piece.

    Raises:
        OSError: the disk is full.
    """

    def __init__(self, path: str | Path, nbytes: int) -> None:
        self._file: BinaryIO = Path(path).open("wb", buffering=0)  # noqa: SIM115 - closed by close()
        self._hash = GrowingFileHash(Path(path))
        self._written = self._sent = 0
        try:
            _reserve(self._file.fileno(), nbytes)
        except OSError:
            self.close()
            raise

    def write(self, data: memoryview) -> None:
        """Append bytes."""
        done = 0
        while done < len(data):  # the system takes at most 2 GiB at once
            done += self._file.write(data[done:])
        self._written += len(data)
        self._hash.grow(len(data))
        if self._written - self._sent >= _WINDOW:
            _start_writing_back(self._file.fileno(), self._sent, self._written)
            self._sent = self._written

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of what was written."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file; the hash stays."""
        self._file.close()
        self._hash.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def _reserve(descriptor: int, nbytes: int) -> None:
    """Let the file system set space aside, where it can."""
    if hasattr(os, "posix_fallocate") and nbytes:
        try:
            os.posix_fallocate(descriptor, 0, nbytes)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise


def _start_writing_back(descriptor: int, start: int, stop: int) -> None:
    """Start to bring bytes to the disk without waiting for it.

    On Linux this is what it does to say that pages which are not on the disk yet are not needed any more; they stay in memory, too. The
    final fsync then finds little to do. Elsewhere advice has no effect, or does not exist.
    """
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, start, stop - start, os.POSIX_FADV_DONTNEED)
