"""Clips: parts of recordings to encode, either fixed or random crops drawn at every visit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from speechft.corpora import load_audio


@dataclass(frozen=True)
class Clip:
    """A cut or a part of it, given by first sample and number of samples at 16 kHz."""

    cut: Any
    start: int
    num_samples: int

    def load(self) -> Tensor:
        """Load the waveform (num_samples,)."""
        return load_audio(self.cut, self.start, self.num_samples)


def crop_start(cut_id: str, draw: int, largest: int) -> int:
    """Choose a start in 0..largest that depends only on utterance and draw, so that seeds and restarts share features."""
    digest = hashlib.sha256(f"{cut_id} {draw}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % (largest + 1)


class CropTable(Sequence[Clip]):
    """Clips of utterances, of which the long ones are cropped at random at every visit.

    As a sequence, it contains the utterances that are used whole, whose features can be kept. A row past its end is a crop, numbered
    `len + start * utterances + utterance`.

    Args:
        utterances: whole utterances.
        crop_samples: for each utterance, the length to which it is cropped if it is longer.
    """

    def __init__(self, utterances: Sequence[Clip], crop_samples: Sequence[int]) -> None:
        self.utterances = utterances
        self.heard = [min(clip.num_samples, samples) for clip, samples in zip(utterances, crop_samples, strict=True)]
        self._whole = [index for index, clip in enumerate(utterances) if clip.num_samples == self.heard[index]]
        self._row_of = {utterance: row for row, utterance in enumerate(self._whole)}

    def __len__(self) -> int:
        return len(self._whole)

    def __iter__(self) -> Iterator[Clip]:
        return (self.utterances[index] for index in self._whole)

    def __getitem__(self, row: Any) -> Any:
        if row < len(self):
            return self.utterances[self._whole[row]]
        start, utterance = divmod(row - len(self), len(self.utterances))
        clip = self.utterances[utterance]
        return replace(clip, start=clip.start + start, num_samples=self.heard[utterance])

    def row(self, utterance: int, start: int = 0) -> int:
        """Return the row of an utterance, or of its crop that begins at sample `start`."""
        whole = self._row_of.get(utterance)
        return len(self) + start * len(self.utterances) + utterance if whole is None else whole

    def draw(self, utterance: int, generator: Generator) -> int:
        """Return the row of an utterance, or of a random crop if it is long."""
        if utterance in self._row_of:
            return self._row_of[utterance]
        last = self.utterances[utterance].num_samples - self.heard[utterance]
        return self.row(utterance, int(torch.randint(last + 1, (), generator=generator)))


def crop_generator(order: Generator) -> Generator:
    """Derive a generator for crops from that of the order, so that crops do not affect the order of utterances."""
    # Offset far from the seeds that users choose.
    return Generator().manual_seed((order.initial_seed() + (1 << 32)) % (1 << 64))
