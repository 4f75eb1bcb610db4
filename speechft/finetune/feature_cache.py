"""Disk cache of a frozen extractor's output, which a training reads instead of recomputing it at every visit."""

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
"""Bit above any CRC-32, so that zeros of a hole in the file are not a valid checksum."""


class FeatureCache:
    """Float32 features of the utterances of a split, each at a fixed position in one file.

    A checksum is written after the features, so that incomplete or concurrent writes are detected and recomputed. Processes and restarts
    share the file. It is opened for each access, so that one of them can remove it. If a file cannot be written, all caches of its folder
    are removed with one warning, and training continues without them.

    Args:
        path: the file, created if missing.
        frames: number of frames of each utterance; None for one that is not cached.
        channels: values per frame.
        budget_bytes: size limit of the file. Positions do not depend on it.
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
            LOGGER.info("%s: features of %d of %d utterances are cached, the others recomputed", path.stem, count, wanted)

    def read(self, item: int) -> Tensor | None:
        """Read features (T, channels) of utterance `item` to the CPU; None if they are missing or damaged."""
        if not self._kept[item]:
            return None
        content = bytearray(self._sizes[item])
        with suppress(OSError), self.path.open("rb", buffering=0) as file:
            checksum = os.pread(file.fileno(), _CHECKSUM_BYTES, item * _CHECKSUM_BYTES)
            if any(checksum) and os.preadv(file.fileno(), [content], self._ends[item] - len(content)) == len(content):
                return torch.frombuffer(content, dtype=torch.float32).view(-1, self.channels) if checksum == _checksum(content) else None
        return None

    def write(self, item: int, features: Tensor) -> None:
        """Write features (T, channels) of utterance `item` if they fit into the budget."""
        if not self._kept[item]:
            return
        content = features.cpu().numpy().tobytes()
        try:
            with self.path.open("r+b", buffering=0) as file:
                for part, end in ((content, self._ends[item]), (_checksum(content), (item + 1) * _CHECKSUM_BYTES)):
                    if os.pwrite(file.fileno(), part, end - len(part)) != len(part):
                        raise OSError("the disk is full")
        except FileNotFoundError:  # another process or cache has removed it
            self._kept = [False] * len(self._kept)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        LOGGER.warning("%s: cannot cache features (%s); training continues without the cache, somewhat slower.", self.path, error)
        self._kept = [False] * len(self._kept)
        for path in self.path.parent.glob(f"*{SUFFIX}"):
            with suppress(OSError):
                path.unlink()


def room_for_features(folder: Path, cache_gb: float) -> float:
    """Return the bytes that caches in `folder` may use: `cache_gb`, but at most half of the disk space free without them."""
    there = 0
    with suppress(FileNotFoundError):  # another process may be removing it
        there = sum(path.stat().st_blocks * 512 for path in folder.glob(f"*{SUFFIX}"))
    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    return min(cache_gb * 1e9, (shutil.disk_usage(existing).free + there) / 2)


def _checksum(content: bytes | bytearray) -> bytes:
    return (zlib.crc32(content) + _WRITTEN).to_bytes(_CHECKSUM_BYTES, "little")
