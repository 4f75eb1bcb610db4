"""Stand-in for Audio SNIPS: recordings named by voice, including voices of other splits, and one table of words with slots."""

from __future__ import annotations

from speechft.corpora.readers.audio_snips import FOLDERS, LABELS, SPEAKERS
from speechft.rehearsal.stand_ins.base import SIZES, Layout, spread

# Slots of the mini speech -> slots of SNIPS.
_SLOTS = {
    "device": "object_type",
    "room": "city",
    "time": "timeRange",
    "day": "spatial_relation",
    "person": "artist",
    "amount": "rating_value",
}
# Tokens that are not words: SF reads the first as AND and drops the last.
_ENDING = ("&", "more", "?")
_INTENTS = ("AddToPlaylist", "BookRestaurant", "GetWeather", "PlayMusic", "RateBook", "SearchCreativeWork", "SearchScreeningEvent")


def build(layout: Layout) -> None:
    """Write recordings whose texts differ between voices; each voice combines one or more voices of the speech."""
    lines: list[str] = []
    rows = layout.speech.table("slots.csv")
    for split, folder in FOLDERS.items():
        # The folder also contains a voice of another split, which is not read.
        stranger = SPEAKERS["test" if split != "test" else "train"][0]
        voices = [*SPEAKERS[split]]
        chosen = spread([row for row in rows if row["split"] == split], SIZES["audio_snips"][split] + 1, lambda row: row["speaker"])
        for place, row in enumerate(chosen):
            voice = stranger if place + 1 == len(chosen) else voices[place % len(voices)]
            name = f"{voice}-snips-{folder}-{place}"
            audio = f"{folder}/{name}.wav"
            layout.say(audio, layout.speech.of_path[row["path"]])
            words, slots = row["text"].lower().split(), row["label"].split()
            if place == 0:
                words, slots = [*words, *_ENDING], [*slots, *("O" for _ in _ENDING)]
            lines.append(_line(name, words, slots, _INTENTS[place % len(_INTENTS)]))
        layout.resource_fork(audio)
        layout.resource_fork(f"{folder}/{voices[0]}-snips-{folder}-0.wav")
    layout.text(LABELS, *lines)
    layout.text("slots.txt", "O", *sorted(set(_SLOTS.values())))


def _line(name: str, words: list[str], slots: list[str], intent: str) -> str:
    """`name BOS words EOS<tab>O marks intent`."""
    marks = []
    for place, slot in enumerate(slots):
        inside = place > 0 and slots[place - 1] == slot
        marks.append("O" if slot == "O" else f"{'I' if inside else 'B'}-{_SLOTS[slot]}")
    return f"{name} BOS {' '.join(words)} EOS\tO {' '.join(marks)} {intent}"
