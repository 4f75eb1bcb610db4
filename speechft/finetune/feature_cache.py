"""Output of a frozen extractor, kept on disk: a training reads an utterance's features instead of computing them at every visit."""

from __future__ import annotations

import logging
import os
import shutil
import zlib
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

LOGGER = logging.getLogger("speechft.finetune")
SUFFIX = ".f32"
_CHECKSUM_BYTES = 8
_WRITTEN = 1 << 32
"""Above any CRC-32, so that the zeros of a hole in the file are no checksum."""


class FeatureCache:
    """Features of the utterances of a split, float32, each at a place of its own in one file.

    Each has a checksum, written after it, so what a killed process left unfinished, or two processes wrote at once, is computed again.
    Processes and restarts share the file; it is opened for each access, so nothing is left behind where one of them removes it. If a file
    cannot be written, all caches of its folder are removed with one warning, and training continues without them.

    Args:
        path: the file; it is created if it is not there.
        frames: of each utterance; None for one that is never kept.
        channels: of a frame.
        budget_bytes: the file grows no further. Where utterances lie does not depend on it.
    """

    def __init__(self, path: Path, frames: Sequence[int | None], channels: int, budget_bytes: float) -> None:
        self.path = path
        self.channels = channels
        self._sizes = [4 * channels * (count or 0) for count in frames]
        self._ends = list(accumulate(self._sizes, initial=_CHECKSUM_BYTES * len(frames)))[1:]
        self._kept = [bool(size) and end <= budget_bytes for size, end in zip(self._sizes, self._ends, strict=True)]
        self.bytes = max((end for end, kept in zip(self._ends, self._kept, strict=True) if kept), default=0)
        if self.bytes:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            except OSError as error:
                self._give_up(error)
        if (wanted := sum(map(bool, self._sizes))) > (count := sum(self._kept)):
            LOGGER.info("%s: features of %d of %d utterances are kept, the others computed anew", path.stem, count, wanted)

    def read(self, item: int) -> Tensor | None:
        """Features (T, channels) of utterance `item`, on the CPU; None if they are not there, or damaged."""
        if not self._kept[item]:
            return None
        content = bytearray(self._sizes[item])
        with suppress(OSError), self.path.open("rb", buffering=0) as file:
            checksum = os.pread(file.fileno(), _CHECKSUM_BYTES, item * _CHECKSUM_BYTES)
            if any(checksum) and os.preadv(file.fileno(), [content], self._ends[item] - len(content)) == len(content):
                return torch.frombuffer(content, dtype=torch.float32).view(-1, self.channels) if checksum == _checksum(content) else None
        return None

    def write(self, item: int, features: Tensor) -> None:
        """Keep the features (T, channels) of utterance `item`, if they fit into the budget."""
        if not self._kept[item]:
            return
        content = features.cpu().numpy().tobytes()
        try:
            with self.path.open("r+b", buffering=0) as file:
                for part, end in ((content, self._ends[item]), (_checksum(content), (item + 1) * _CHECKSUM_BYTES)):
                    if os.pwrite(file.fileno(), part, end - len(part)) != len(part):
                        raise OSError("the disk is full")
        except FileNotFoundError:  # another process or cache gave up
            self._kept = [False] * len(self._kept)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        LOGGER.warning("%s: cannot keep features there (%s); training continues without, somewhat slower.", self.path, error)
        self._kept = [False] * len(self._kept)
        for path in self.path.parent.glob(f"*{SUFFIX}"):
            with suppress(OSError):
                path.unlink()


def room_for_features(folder: Path, cache_gb: float) -> float:
    """Bytes that caches in `folder` may take: `cache_gb`, but no more than half of what is free on its disk without them."""
    there = 0
    with suppress(FileNotFoundError):  # another process may give up just now
        there = sum(path.stat().st_blocks * 512 for path in folder.glob(f"*{SUFFIX}"))
    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    return min(cache_gb * 1e9, (shutil.disk_usage(existing).free + there) / 2)


def _checksum(content: bytes | bytearray) -> bytes:
    return (zlib.crc32(content) + _WRITTEN).to_bytes(_CHECKSUM_BYTES, "little")
