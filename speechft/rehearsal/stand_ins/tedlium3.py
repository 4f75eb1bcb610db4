"""Stand-in for TED-LIUM 3: talks as SPHERE files, segments as STM, with gaps, unknown words and too short segments."""

from __future__ import annotations

import numpy as np

from speechft.conventions import SAMPLE_RATE
from speechft.corpora.audio_files import Samples
from speechft.rehearsal.stand_ins.base import SIZES, Layout, MiniSpeech, Recording

_TALKS = {
    "train": ("911Mothers_2010W", "AaronHuey_2010X", "AdamSadowsky_2010X", "AdoraSvitak_2010"),
    "dev": ("AlGore_2009", "BarrySchwartz_2005G"),
    "test": ("AimeeMullins_2009P", "BillGates_2010"),
}
_GAP = "inter_segment_gap"
_IGNORED = "ignore_time_segment_in_scoring"
_GAP_SECONDS = 1.4
_NOISE = 1e-3


def build(layout: Layout) -> None:
    """Write talks that concatenate recordings of one split."""
    sizes = SIZES["tedlium3"]
    for split, talks in _TALKS.items():
        recordings = layout.speech.take(sizes[split], ["sentence"], split, seconds=1.0)
        short = layout.speech.take(len(talks), ["keyword"], split)
        for place, talk in enumerate(talks[: -(-sizes[split] // sizes["per talk"])]):
            members = recordings[place * sizes["per talk"] : (place + 1) * sizes["per talk"]]
            samples, lines = _talk(layout.speech, talk, [*members[:-1], short[place], members[-1]], "" if split == "train" else _GAP)
            layout.sphere(f"legacy/{split}/sph/{talk}.sph", samples)
            layout.text(f"legacy/{split}/stm/{talk}.stm", *lines)


def _talk(speech: MiniSpeech, talk: str, members: list[Recording], gap: str) -> tuple[Samples, list[str]]:
    """Build a talk and its STM lines. With `gap`, the audio before the first and after the second segment has its own lines."""
    random = np.random.default_rng(len(talk))
    parts: list[Samples] = []
    lines: list[str] = []
    clock = 0.0

    def add(samples: Samples) -> tuple[float, float]:
        nonlocal clock
        begin, clock = clock, clock + len(samples) / SAMPLE_RATE
        parts.append(samples)
        return begin, clock

    for place, recording in enumerate(members):
        if place in (0, 2):
            begin, end = add(_NOISE * random.standard_normal(round(_GAP_SECONDS * SAMPLE_RATE)))
            if gap:
                lines.append(f"{talk} 1 {gap} {begin:.2f} {end:.2f} <o,f0,> {_IGNORED}")
        words = recording.text.lower().split()
        if place == 1:
            words[len(words) // 2] = "<unk>"
        elif place == 3:
            words[0] = f"{words[0]} 's"  # clitics are separate words
        begin, end = add(speech.samples(recording))
        if place == len(members) - 1:
            end += 0.3  # transcribers mark the last segment past the end of the talk
        label = f"<o,f0,{'female' if recording.sex == 'F' else 'male'}>" if gap else "<NA>"
        lines.append(f"{talk} 1 {talk} {begin:.2f} {end:.2f} {label} {' '.join(words)}")
    return np.concatenate(parts), lines
