"""Two-speaker mixtures for diarization: sentences, their overlap and their levels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
import soundfile
from effects import RATE
from plan import Recording

MIXTURES = {"train": 180, "dev": 60, "test": 150}
TURNS = (2, 3)
OVERLAP = (0.2, 0.6)  # share of the shorter of two consecutive turns
GAIN_DB = (-7.0, -2.0)
PEAK = 0.95


def mixture_rows(folder: Path, recordings: Sequence[Recording]) -> Iterator[dict[str, object]]:
    """Yield one row per turn. No voice is in two splits, and the sentences of a split are used evenly."""
    for split, count in MIXTURES.items():
        pool = [recording for recording in recordings if recording.utterance.kind == "sentence" and recording.utterance.split == split]
        rng = Random(f"mixtures {split}")
        deck: list[Recording] = []
        for number in range(1, count + 1):
            turns = _choose(rng, rng.choice(TURNS), deck, pool)
            yield from _rows(f"mixture-{split}-{number:03}", rng, turns, folder)


def _choose(rng: Random, number: int, deck: list[Recording], pool: Sequence[Recording]) -> list[Recording]:
    """Choose `number` turns of two alternating voices, from the top of the deck if possible."""
    turns: list[Recording] = []
    while len(turns) < number:
        previous = turns[-1].utterance.voice if turns else None
        first = turns[0].utterance.voice if len(turns) == 2 else None
        fits = [r for r in deck if r not in turns and r.utterance.voice != previous and first in (None, r.utterance.voice)]
        if fits:
            turns.append(fits[0])
            deck.remove(fits[0])
        else:
            deck += rng.sample(pool, len(pool))
    return turns


def _rows(name: str, rng: Random, turns: Sequence[Recording], folder: Path) -> Iterator[dict[str, object]]:
    offsets: list[float] = []
    speech_end = 0.0
    for index, turn in enumerate(turns):
        length = turn.end - turn.start
        if index == 0:
            offsets.append(0.0)
        else:
            overlap = rng.uniform(*OVERLAP) * min(length, turns[index - 1].end - turns[index - 1].start)
            offsets.append(max(0.0, round(speech_end - overlap - turn.start, 2)))
        speech_end = offsets[-1] + turn.end
    gains = [round(rng.uniform(*GAIN_DB), 1) for _ in turns]
    total = np.zeros(round(max(offset + turn.seconds for offset, turn in zip(offsets, turns, strict=True)) * RATE) + 1)
    for turn, offset, gain in zip(turns, offsets, gains, strict=True):
        samples, _ = soundfile.read(folder / turn.utterance.path)
        begin = round(offset * RATE)
        total[begin : begin + len(samples)] += samples * 10 ** (gain / 20)
    lower = max(0.0, float(np.ceil(200 * np.log10(np.abs(total).max() / PEAK)) / 10))
    for turn, offset, gain in zip(turns, offsets, gains, strict=True):
        extent = {"start": f"{turn.start:.2f}", "end": f"{turn.end:.2f}"}
        row = {"mixture": name, "path": turn.utterance.path, "speaker": turn.utterance.voice, "split": turn.utterance.split}
        yield {**row, "offset": f"{offset:.2f}", "gain_db": f"{gain - lower:.1f}", **extent}
