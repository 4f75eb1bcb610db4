"""Stand-in for Libri2Mix: mixtures of two speakers with noise, as Kaldi data folders."""

from __future__ import annotations

import numpy as np

from speechft.conventions import SAMPLE_RATE, SPLITS
from speechft.corpora.audio_files import Samples
from speechft.corpora.readers.mixtures import added_up
from speechft.corpora.rttm import Turn, rttm_line
from speechft.rehearsal.stand_ins.base import SIZES, Layout, MiniSpeech

_PARTS = {"train": "train-100", "dev": "dev", "test": "test"}
_NOISE = 10 ** (-50 / 20)


def build(layout: Layout) -> None:
    """Write the mixtures defined in the mini speech, with noise; in the first of each split both speakers have the same times.

    One of each split has three turns, the others two.
    """
    numbers = {voice: str(100 + 7 * place) for place, voice in enumerate(layout.speech.voices)}
    rows = layout.speech.table("mixtures.csv")
    for split in SPLITS:
        sources: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            if row["split"] == split:
                sources.setdefault(row["mixture"], []).append(row)
        by_turns = {turns: [parts for parts in sources.values() if len(parts) == turns] for turns in (2, 3)}
        chosen = [*by_turns[2][: SIZES["libri2mix"][split] - 1], by_turns[3][0]]
        files: dict[str, list[str]] = {name: [] for name in ("wav.scp", "rttm")}
        owners: dict[str, str] = {}
        segments: dict[str, str] = {}
        for place, parts in enumerate(chosen):
            name = "_".join(f"{numbers[part['speaker']]}-{1000 + place}-{number:04}" for number, part in enumerate(parts[:2]))
            samples, turns = _mix(layout.speech, name, parts, numbers, together=place == 0)
            audio = f"Libri2Mix/wav16k/max/{_PARTS[split]}/mix_both/{name}.wav"
            layout.audio(audio, samples)
            files["wav.scp"].append(f"{name} {audio}")
            files["rttm"] += map(rttm_line, turns)
            for turn in turns:
                # Names of segments do not include the speaker, so equal times leave one segment, of the last speaker.
                segment = f"{name}_{round(100 * turn.start):06}_{round(100 * turn.end):06}"
                segments[segment] = f"{segment} {name} {turn.start:.2f} {turn.end:.2f}"
                owners[segment] = turn.speaker
        for name, lines in files.items():
            layout.text(f"{split}/{name}", *lines)
        layout.text(f"{split}/segments", *segments.values())
        layout.text(f"{split}/utt2spk", *(f"{segment} {speaker}" for segment, speaker in owners.items()))


def _mix(speech: MiniSpeech, name: str, parts: list[dict[str, str]], numbers: dict[str, str], together: bool) -> tuple[Samples, list[Turn]]:
    """Mix two speakers and list their turns; with `together` both speak throughout."""
    placed = [(round(float(part["offset"]) * SAMPLE_RATE), _loud(speech, part)) for part in parts]
    if together:
        length = min(len(samples) for _, samples in placed)
        placed = [(0, samples[:length]) for _, samples in placed]
        times = [(0.0, length // (SAMPLE_RATE // 100) / 100)] * len(parts)
    else:
        times = [(float(part["offset"]) + float(part["start"]), float(part["end"]) - float(part["start"])) for part in parts]
    mixture = added_up(placed)
    mixture += _NOISE * np.random.default_rng(len(mixture)).standard_normal(len(mixture))
    turns = [Turn(name, start, duration, numbers[part["speaker"]]) for part, (start, duration) in zip(parts, times, strict=True)]
    return mixture, turns


def _loud(speech: MiniSpeech, part: dict[str, str]) -> Samples:
    samples: Samples = 10 ** (float(part["gain_db"]) / 20) * speech.samples(speech.of_path[part["path"]])
    return samples
