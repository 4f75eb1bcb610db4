"""The mixtures corpus: recordings of several speakers, mixed from the sources in a table when the corpus is prepared."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from speechft.conventions import SAMPLE_RATE, SPLITS
from speechft.corpora.audio import samples_after_resampling
from speechft.corpora.audio_files import Samples, read_mono
from speechft.corpora.inspection import RecordingFacts, inspect_all
from speechft.corpora.readers.csv_corpus import LIST_OF_RECORDINGS
from speechft.corpora.rttm import Turn, rttm_line
from speechft.corpora.splits import wrong_split
from speechft.corpora.utterances import Listing, Problem, Utterance
from speechft.errors import CorpusError
from speechft.files.atomic import write_text
from speechft.files.csv_tables import printable, read_table, row_complaints
from speechft.files.text import on_disk
from speechft.recipes.corpora import CorpusRecipe

REQUIRED = ("mixture", "path", "speaker", "split", "offset")
OPTIONAL = ("gain_db", "start", "end")
AUDIO, TURNS = "audio", "turns.rttm"
_TOLERANCE_SECONDS = 0.02  # a turn may end this much after its source, since tables are rounded
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True)
class Source:
    """Row of the table: a recording added to the mixture at `offset` seconds, multiplied by `gain`.

    Its speaker talks from `start` to `end`, in seconds of the source; `end` None means to its end.
    """

    row: int
    mixture: str
    path: Path
    speaker: str
    split: str
    offset: float
    gain: float
    start: float
    end: float | None


def render_mixtures(recipe: CorpusRecipe, directory: Path) -> Listing:
    """Render the mixtures of the table into `directory`/audio, and write all turns to `directory`/turns.rttm.

    A mixture is a 16 kHz mono FLAC file (16 bits) named by its id; sources with other rates are resampled (soxr, HQ). It lasts until its
    last source ends. Equal tables and sources give equal files. The turns are those of the table; nothing is estimated.

    Returns:
        The mixtures with their turns, in the order of the table, and the problems of its rows: missing or damaged sources, invalid times,
        a mixture in several splits, or a sum beyond full scale.

    Raises:
        CorpusError: the file is missing, or has no header, no rows or no required column.
    """
    sources, problems = read_sources(recipe)
    paths = sorted({source.path for source in sources})
    facts = dict(zip(paths, inspect_all(paths, None, f"checking sources of {recipe.path.name}"), strict=True))
    problems += [problem for source in sources for problem in _source_problems(source, facts[source.path])]
    mixtures: dict[str, list[Source]] = {}
    for source in sources:
        mixtures.setdefault(source.mixture, []).append(source)
    for name, parts in mixtures.items():
        if len(splits := sorted({part.split for part in parts})) > 1:
            problems.append(Problem(parts[0].row, f"mixture {name!r} is in several splits: {', '.join(splits)}"))
    if problems:
        return Listing([], sorted(problems))
    intact = {path: inspected for path, inspected in facts.items() if isinstance(inspected, RecordingFacts)}
    utterances = []
    (directory / AUDIO).mkdir()
    for name, parts in mixtures.items():
        samples = _mix(parts)
        peak = float(np.abs(samples).max())
        if peak > 1.0:
            excess = math.ceil(200 * math.log10(peak)) / 10
            problems.append(Problem(parts[0].row, f"mixture {name!r} is {excess:g} dB beyond full scale; lower the gain_db of its sources"))
        path = directory / AUDIO / f"{name}.flac"
        soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
        turns = tuple(sorted(_turn(part, intact[part.path]) for part in parts))
        utterances.append(Utterance(parts[0].row, name, path, parts[0].split, turns=turns))
    write_text(directory / TURNS, "".join(rttm_line(turn) + "\n" for utterance in utterances for turn in utterance.turns))
    return Listing(utterances, problems)


def read_sources(recipe: CorpusRecipe) -> tuple[list[Source], list[Problem]]:
    """Read the usable rows of a table of mixtures, and the problems of the others.

    Raises:
        CorpusError: the file is missing, or has no header, no rows or no required column.
    """
    table = read_table(recipe.path, *LIST_OF_RECORDINGS)
    header = [printable(name) for name in table[0][1]] if table else []
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        columns = f"{', '.join(REQUIRED)}; {', '.join(OPTIONAL)} are optional"
        raise CorpusError(f"{recipe.path}: has no column {', '.join(missing)}. A table of mixtures needs {columns}.")
    if len(table) == 1:
        raise CorpusError(f"{recipe.path}: has a header but no rows.")
    root = recipe.path.parent if recipe.audio_root is None else recipe.audio_root
    sources: list[Source] = []
    problems: list[Problem] = []
    for row, values in table[1:]:
        complaints = row_complaints(values, header)
        cells = {name: value.strip() for name, value in zip(header, values, strict=False)}
        complaints = complaints or _complaints(cells)
        problems += [Problem(row, complaint) for complaint in complaints]
        if not complaints:
            path = on_disk(root / cells["path"]).resolve()
            offset, start, end = float(cells["offset"]), float(cells.get("start") or 0.0), cells.get("end")
            gain = 10 ** (float(cells.get("gain_db") or 0.0) / 20)
            who = cells["mixture"], path, cells["speaker"], cells["split"]
            sources.append(Source(row, *who, offset, gain, start, float(end) if end else None))
    if recipe.first is not None:
        names = {split: dict.fromkeys(source.mixture for source in sources if source.split == split) for split in SPLITS}
        kept = {name for mixtures in names.values() for name in list(mixtures)[: recipe.first]}
        sources = [source for source in sources if source.mixture in kept]
    return sources, problems


def _complaints(cells: Mapping[str, str]) -> list[str]:
    complaints = [f"column {name!r} is empty" for name in REQUIRED if not cells[name]]
    if cells["mixture"] and not _NAME.fullmatch(cells["mixture"]):
        complaints.append(f"mixture {cells['mixture']!r} names a file: use letters, digits and _ . + -")
    if len(cells["speaker"].split()) > 1:
        complaints.append(f"speaker {cells['speaker']!r} contains a space, which RTTM does not allow")
    if cells["split"] and cells["split"] not in SPLITS:
        complaints.append(wrong_split(cells["split"]))
    for name in filter(cells.get, ("offset", *OPTIONAL)):
        what = "decibels" if name == "gain_db" else "seconds, 0 or more"
        try:
            value = float(cells[name])
        except ValueError:
            complaints.append(f"{name} {cells[name]!r} is not a number of {what}")
            continue
        if not math.isfinite(value) or (value < 0 and name != "gain_db"):
            complaints.append(f"{name} is {value:g}, not a number of {what}")
    return complaints


def _source_problems(source: Source, facts: RecordingFacts | str) -> Iterable[Problem]:
    if isinstance(facts, str):
        yield Problem(source.row, facts)
        return
    seconds = facts.num_samples / facts.sampling_rate
    end = seconds if source.end is None else source.end
    if end > seconds + _TOLERANCE_SECONDS:
        yield Problem(source.row, f"{source.path}: `end` is {end:g} s, but the recording ends at {seconds:g} s")
    elif source.start >= end:
        yield Problem(source.row, f"{source.path}: speech is from {source.start:g} s to {end:g} s; it must last longer than 0 s")


def _mix(parts: Sequence[Source]) -> Samples:
    """Sum the sources, (samples,)."""
    placed = []
    for part in parts:
        samples, rate = read_mono(part.path)
        if rate != SAMPLE_RATE:
            samples = soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
        placed.append((round(part.offset * SAMPLE_RATE), part.gain * samples))
    return added_up(placed)


def added_up(placed: Iterable[tuple[int, Samples]]) -> Samples:
    """Sum pairs of start sample and waveform (samples,)."""
    placed = list(placed)
    mixture = np.zeros(max(begin + len(samples) for begin, samples in placed))
    for begin, samples in placed:
        mixture[begin : begin + len(samples)] += samples
    return mixture


def _turn(source: Source, facts: RecordingFacts) -> Turn:
    seconds = samples_after_resampling(facts.num_samples, facts.sampling_rate) / SAMPLE_RATE
    end = seconds if source.end is None else min(source.end, seconds)
    return Turn(source.mixture, round(source.offset + source.start, 4), round(end - source.start, 4), source.speaker)
