"""SHA-256 beside other work: hashing is as slow as merging, and a second core is usually free for it."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from speechft.files import sha256_file

_WAITING = 8
"""Pieces of data that may wait for the hashing thread; they keep their memory until then."""


class BackgroundHash:
    """SHA-256 of data that comes in pieces, computed in a thread. The pieces must not be changed after they were given."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._pending: deque[Future[None]] = deque()

    def update(self, data: memoryview) -> None:
        """Add a piece; waits while too many others wait."""
        self._pending.append(self._thread.submit(self._digest.update, data))
        while len(self._pending) > _WAITING:
            self._pending.popleft().result()

    def hexdigest(self) -> str:
        """The digest of all pieces given so far."""
        while self._pending:
            self._pending.popleft().result()
        return self._digest.hexdigest()

    def close(self) -> None:
        """Let the last pieces be hashed and end the thread; the digest stays."""
        self._thread.shutdown()


class FileHashes:
    """SHA-256 of files, begun at once in a thread of their own; asking for one waits until it is there."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._futures = {file: self._thread.submit(sha256_file, file) for file in files}

    def __getitem__(self, file: Path) -> str:
        return self._futures[file].result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=kind is not None)
