"""SHA-256 beside other work: hashing takes longer than merging, and a second core is usually free for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from speechft.errors import MergeError
from speechft.files.hashes import sha256_file

_THREADS = 2
"""Files hashed at the same time."""
_BLOCK = 4 * 2**20
"""Bytes hashed at once. Threads that pass the interpreter to each other often wait for their turn on a busy machine."""


class GrowingFileHash:
    """SHA-256 of a file while it is written from its beginning to its end.

    A thread reads what was written, which is still in memory: reading takes a tenth of the time of hashing, and the writer need not keep
    anything.
    """

    def __init__(self, path: Path) -> None:
        self._sizes: SimpleQueue[int | None] = SimpleQueue()
        self._size = self._announced = 0
        self._thread = ThreadPoolExecutor(1)
        self._digest: Future[str] = self._thread.submit(self._follow, path)

    def grow(self, nbytes: int) -> None:
        """Tell that so many bytes more were written."""
        self._size += nbytes
        if self._size - self._announced >= _BLOCK:
            self._sizes.put(self._size)
            self._announced = self._size

    def hexdigest(self) -> str:
        """The digest of the whole file, which is complete now.

        Raises:
            MergeError: another program has made the file shorter.
        """
        self._sizes.put(self._size)
        self._sizes.put(None)
        return self._digest.result()

    def close(self) -> None:
        """End the thread, also when the file stays incomplete; a digest that was asked for stays."""
        self._sizes.put(None)
        self._thread.shutdown()

    def _follow(self, path: Path) -> str:
        digest, buffer, done = hashlib.sha256(), memoryview(bytearray(_BLOCK)), 0
        with path.open("rb", buffering=0) as file:
            for size in iter(self._sizes.get, None):
                while done < size:
                    if not (count := file.readinto(buffer[: size - done])):
                        raise MergeError(f"{path}: became shorter while it was written; another program works on it. Merge again.")
                    digest.update(buffer[:count])
                    done += count
        return digest.hexdigest()


class FileHashes:
    """SHA-256 of files, begun at once in threads of their own; asking for one waits until it is there."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._threads = ThreadPoolExecutor(_THREADS)
        self._futures = {file: self._threads.submit(sha256_file, file) for file in files}

    def __getitem__(self, file: Path) -> str:
        return self._futures[file].result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._threads.shutdown(cancel_futures=kind is not None)
