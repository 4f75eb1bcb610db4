"""Stand-in for Speech Commands v0.01: one folder per word, long noise recordings, and the official test set of twelve folders."""

from __future__ import annotations

import hashlib
from itertools import count

import numpy as np

from speechft.conventions import SAMPLE_RATE
from speechft.corpora.readers.speech_commands import NOISE, TEST, TRAINING
from speechft.rehearsal.stand_ins.base import SIZES, Layout, MiniSpeech, Recording, spread
from speechft.tasks.ks import SILENCE, SUPERB_CLASSES, UNKNOWN, speech_commands_split

_NOISES = ("doing_the_dishes", "dude_miaowing", "exercise_bike", "pink_noise", "running_tap", "white_noise")
_NUMBERS = ("three", "four", "six", "seven", "eight", "nine", "zero")
_OTHER_WORDS = (*_NUMBERS, "bed", "bird", "cat", "dog", "happy", "house", "sheila", "tree", "wow")
_KIND = {UNKNOWN: "unknown", SILENCE: "silence"}


def build(layout: Layout) -> None:
    """Write SUPERB's ten words and others; the hash in the file name determines the split, and drops one recording."""
    sizes = SIZES["speech_commands"]
    for label in SUPERB_CLASSES:
        for split in ("train", "dev", "test"):
            if label == SILENCE and split != "test":
                continue
            for place, recording in enumerate(_recordings(layout.speech, label, split, sizes[f"{split} per class"])):
                word = recording.text.lower() if label == UNKNOWN else label
                if split == "test":
                    layout.say(f"{TEST}/{label}/{_name(recording, None, place)}", recording)
                else:
                    layout.say(f"{TRAINING}/{word}/{_name(recording, split, place)}", recording)
    dropped = _recordings(layout.speech, "yes", "train", 1)[0]
    layout.say(f"{TRAINING}/yes/{_name(dropped, 'discarded', 0)}", dropped)
    for name, noise in zip(_NOISES, _recordings(layout.speech, SILENCE, "train", len(_NOISES)), strict=True):
        layout.audio(f"{TRAINING}/{NOISE}/{name}.wav", np.resize(layout.speech.samples(noise), sizes["noise seconds"] * SAMPLE_RATE))


def _recordings(speech: MiniSpeech, label: str, split: str, number: int) -> list[Recording]:
    kind = _KIND.get(label, "keyword")
    recordings = [recording for recording in speech.recordings if recording.kind == kind and recording.split == split]
    if label == UNKNOWN:
        recordings = [recording for recording in recordings if recording.text.lower() in _OTHER_WORDS]
    elif label != SILENCE:
        recordings = [recording for recording in recordings if recording.label == label]
    return spread(recordings, number, lambda recording: recording.speaker)


def _name(recording: Recording, split: str | None, place: int) -> str:
    """Make a name whose hash belongs to a split; None accepts any."""
    for attempt in count():
        speaker = hashlib.sha1(f"{recording.path} {attempt}".encode(), usedforsecurity=False).hexdigest()[:8]
        name = f"{speaker}_nohash_{place}.wav"
        if split in (None, speech_commands_split(name)):
            return name
    raise AssertionError("a hash of every split comes sooner or later")
