"""Stand-in for Fluent Speech Commands: three tables with a column of row numbers, and recordings by speaker."""

from __future__ import annotations

import uuid

from speechft.corpora.readers.fluent_speech_commands import COLUMNS, TABLES
from speechft.rehearsal.stand_ins.base import SIZES, Layout, made_up_name

_ROOMS = ("none", "kitchen", "bedroom", "washroom")
# The 31 intents of the corpus.
INTENTS = (
    *(("change language", language, "none") for language in ("none", "Chinese", "English", "German", "Korean")),
    *((action, "lights", room) for action in ("activate", "deactivate") for room in _ROOMS),
    *((action, thing, "none") for action in ("activate", "deactivate") for thing in ("lamp", "music")),
    *((action, "heat", room) for action in ("increase", "decrease") for room in _ROOMS),
    *((action, "volume", "none") for action in ("increase", "decrease")),
    *(("bring", thing, "none") for thing in ("juice", "newspaper", "shoes", "socks")),
)


def build(layout: Layout) -> None:
    """Write recordings with every intent in train; the speech itself is other commands."""
    for split, table in TABLES.items():
        number = SIZES["fluent_speech_commands"][split]
        rows: list[tuple[object, ...]] = [("", *COLUMNS)]
        # Steps of 7 visit all of the 31 intents, different actions first.
        for row, recording in enumerate(layout.speech.take(number, ["command"], split)):
            speaker = made_up_name(recording.speaker, 16)
            path = f"wavs/speakers/{speaker}/{uuid.uuid5(uuid.NAMESPACE_URL, recording.path)}.wav"
            layout.say(path, recording)
            rows.append((row, path, speaker, f"{recording.text.capitalize()}, please", *INTENTS[7 * row % len(INTENTS)]))
        layout.table(f"data/{table}", *rows)
        layout.resource_fork(f"data/{table}")
    layout.resource_fork(path)
