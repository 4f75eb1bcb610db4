"""Stand-in for a CSV corpus with the columns of an experiment's tasks: text and voices of the speech, and synthetic labels."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

from speechft.corpora.trials import COLUMNS as TRIAL_COLUMNS
from speechft.rehearsal.stand_ins.base import Layout, Recording

TABLE, TRIALS = "corpus.csv", "trials.csv"
VOICES = 4
PER_VOICE = {"train": 6, "dev": 2, "test": 2}


def build(layout: Layout, contents: Mapping[str, str], header: Mapping[str, str], trials: str | None) -> None:
    """Write recordings, their table and, with `trials`, the list of all pairs of dev and of test.

    Args:
        layout: the folder.
        contents: column -> its content: `class`, `number`, `classes` or `frames`; text and speaker are those of the speech.
        header: our column name -> its name in the table, if different.
        trials: column that is equal in both recordings of a trial with label 1.
    """
    splits = [split for split, count in PER_VOICE.items() for _ in range(count)]
    rows: list[dict[str, str]] = []
    for voice, recordings in enumerate(_voices(layout)):
        for number, (split, recording) in enumerate(zip(splits, recordings, strict=False)):
            name = f"{recording.speaker}_{number:02d}"
            layout.say(f"{name}.wav", recording)
            row = {"path": f"{name}.wav", "id": name, "text": recording.text, "speaker": recording.speaker, "split": split}
            rows.append({**row, **{column: _made_up(held, number + voice, recording.seconds) for column, held in contents.items()}})
    layout.table(TABLE, [header.get(column, column) for column in rows[0]], *(list(row.values()) for row in rows))
    if trials is not None:
        pairs = [pair for split in ("dev", "test") for pair in permutations([row for row in rows if row["split"] == split], 2)]
        listed = [[int(first[trials] == second[trials]), first["id"], second["id"]] for first, second in pairs]
        layout.table(TRIALS, TRIAL_COLUMNS, *listed)


def _voices(layout: Layout) -> list[list[Recording]]:
    """Recordings of some voices, as many of each as all splits need."""
    of_voice: dict[str, list[Recording]] = {}
    for recording in layout.speech.recordings:
        if recording.kind in ("sentence", "speaker"):
            of_voice.setdefault(recording.speaker, []).append(recording)
    return [recordings for recordings in of_voice.values() if len(recordings) >= sum(PER_VOICE.values())][:VOICES]


def _made_up(held: str, number: int, seconds: float) -> str:
    half = f"{seconds / 2:.2f}"
    values = {
        "class": "ab"[number % 2],
        "number": str(20 + 10 * (number % 3)),
        "classes": ("a|b", "b", "a")[number % 3],
        "frames": f"a:0.00-{half} b:{half}-{seconds:.2f}",
    }
    return values[held]
