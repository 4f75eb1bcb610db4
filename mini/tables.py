"""Tables of the tasks, built from the finished recordings."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from random import Random

from mixtures import mixture_rows
from plan import ALL_VOICES, SPLIT_OF_VOICE, Recording, Utterance

Row = dict[str, object]
TRIALS = {"dev": 400, "test": 1200}  # of each of the two labels
SPEAKER_TESTS = 15  # sentences of PR's dev and test voices that are in SID's dev and test too
SPEAKER_DEVS = 6


def identifier(utterance: Utterance) -> str:
    """Return the id that speechft derives from a recording's path."""
    return utterance.name.replace("/", "_")


def write_tables(folder: Path, recordings: Sequence[Recording]) -> None:
    """Write one table per task, and manifest.csv with everything."""
    utterances = [recording.utterance for recording in recordings]
    of: dict[str, list[Row]] = {}
    for utterance in utterances:
        of.setdefault(utterance.kind, []).append(_row(utterance))
    sentences, commands = of["sentence"], of["command"]
    heard = [_row(u) for u in utterances if u.split == "train" and u.kind not in ("silence", "style")]
    slots = {utterance.path: utterance.slots for utterance in utterances}
    tables: dict[str, tuple[Iterable[Row], str]] = {
        "manifest": (
            [{**_row(r.utterance), "kind": r.utterance.kind, "seconds": f"{r.seconds:.2f}"} for r in recordings],
            "path kind text speaker label split seconds",
        ),
        "pretrain": (heard, "path"),
        "sentences": (sentences, "path text speaker split"),
        "phones": (
            [{**_row(r.utterance), "phones": _phones(r)} for r in recordings if r.utterance.kind == "sentence"],
            "path speaker split phones",
        ),
        "speakers": (_speaker_rows(sentences, of["speaker"]), "path speaker label split"),
        "verification": (sentences + commands, "path speaker split"),
        "trials": (_trials([u for u in utterances if u.kind in ("sentence", "command")]), "label enrolment test"),
        "keywords": (of["keyword"] + of["unknown"] + of["silence"], "path text speaker label split"),
        "styles": (of["style"], "path text speaker label fold"),
        "commands": (commands, "path text speaker label split"),
        "slots": ([{**row, "label": slots[str(row["path"])]} for row in commands], "path text speaker label split"),
        "queries": (_query_rows(utterances), "path text speaker label relevant split"),
        "mixtures": (mixture_rows(folder, recordings), "mixture path speaker offset gain_db start end split"),
    }
    for name, (rows, columns) in tables.items():
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns.split(), extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_changed(folder / f"{name}.csv", text.getvalue().encode())


def write_changed(path: Path, content: bytes) -> None:
    """Write a file unless it already has this content, so that concurrent readers are not disturbed."""
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _row(utterance: Utterance) -> Row:
    return {
        **{"path": utterance.path, "text": utterance.text.upper(), "speaker": utterance.voice, "split": utterance.split},
        **{"label": utterance.label, "fold": utterance.fold},
    }


def _phones(recording: Recording) -> str:
    """Format phones without stress marks and without a last phone that is not in the recording."""
    items = ((phone.rstrip("012"), f"{start:.3f}", f"{end:.3f}") for phone, start, end in recording.phones)
    return " ".join(f"{phone}:{start}-{end}" for phone, start, end in items if float(end) > float(start))


def _speaker_rows(sentences: Sequence[Row], extra: Sequence[Row]) -> list[Row]:
    """Build rows with every voice in every split: splits without PR sentences of a voice have its short SID sentences."""
    chosen = [row for row in sentences if row["split"] == "train"] + list(extra)
    for voice in ALL_VOICES:
        held_out = [row for row in sentences if row["speaker"] == voice and row["split"] != "train"]
        chosen += held_out[: SPEAKER_DEVS if SPLIT_OF_VOICE[voice] == "dev" else SPEAKER_TESTS]
    return [{**row, "label": row["speaker"]} for row in sorted(chosen, key=lambda row: str(row["path"]))]


def _trials(utterances: Sequence[Utterance]) -> list[Row]:
    """Draw equally many pairs of the same and of different voices; half of the latter have the same sex."""
    rows: list[Row] = []
    for split, count in TRIALS.items():
        rng = Random(f"trials {split}")
        pairs = list(combinations([u for u in utterances if u.split == split], 2))
        same = [pair for pair in pairs if pair[0].voice == pair[1].voice]
        different = [pair for pair in pairs if pair[0].voice != pair[1].voice]
        alike = [pair for pair in different if pair[0].voice[1] == pair[1].voice[1]]
        unlike = [pair for pair in different if pair[0].voice[1] != pair[1].voice[1]]
        for label, chosen in ((1, rng.sample(same, count)), (0, rng.sample(alike, count // 2) + rng.sample(unlike, count // 2))):
            rows += [{"label": label, "enrolment": identifier(first), "test": identifier(second)} for first, second in chosen]
    return rows


def _query_rows(utterances: Sequence[Utterance]) -> list[Row]:
    """Build rows of queries and, as documents, all sentences of dev and test that contain a term."""
    documents = [u for u in utterances if u.kind in ("sentence", "speaker") and u.split != "train" and u.label]
    rows: list[Row] = []
    for query in (u for u in utterances if u.kind == "query"):
        relevant = [identifier(u) for u in documents if u.split == query.split and f" {query.text} " in f" {u.text} "]
        rows.append({**_row(query), "label": "query", "relevant": " ".join(relevant)})
    return rows + [{**_row(u), "label": "document"} for u in documents]
