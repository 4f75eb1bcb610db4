"""Scores of a search on disk, a block of documents at a time, so that a search that was killed goes on where it was."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from speechft.files.atomic import atomic_file
from speechft.files.hashes import sha256_json

logger = logging.getLogger(__name__)

SCORES_VERSION = 1
"""Part of the name of a block; to be raised when the same arguments give other scores."""
PREFIX = "scores-"


class ScoreBlocks:
    """Blocks in `folder`, which stands for the encoder and its features; `search` is what else decides the scores, a JSON value."""

    def __init__(self, folder: Path, search: Any) -> None:
        self.folder, self.search = folder, search

    def read(self, rows: Sequence[int], shape: tuple[int, ...]) -> Tensor | None:
        """The scores of the documents `rows`, or None where there is no sound block of them."""
        path = self._path(rows)
        if not path.is_file():
            return None
        try:
            scores = load_file(path)["scores"]
        except (SafetensorError, KeyError, OSError) as error:
            logger.warning("%s: damaged scores (%s), made again", path, error)
            return None
        return scores if tuple(scores.shape) == shape else None

    def write(self, rows: Sequence[int], scores: Tensor) -> None:
        """Keep the scores of the documents `rows`."""
        with atomic_file(self._path(rows)) as temporary:
            save_file({"scores": scores.contiguous()}, temporary)

    def _path(self, rows: Sequence[int]) -> Path:
        return self.folder / f"{PREFIX}{sha256_json([SCORES_VERSION, torch.__version__, self.search, list(rows)])[:24]}.safetensors"


def remove_score_blocks(folder: Path) -> None:
    """Delete what is of no use once a cell is written."""
    for path in folder.glob(f"{PREFIX}*.safetensors"):
        path.unlink()
