"""A small corpus of tones: the pitch says the keyword, the loudness of a second tone the speaker."""

import gzip
import json
import math

import numpy as np
import soundfile
from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource

PITCH = {"low": 200.0, "middle": 700.0, "high": 2100.0}
TEXT = {"low": "one two", "middle": "three", "high": "four five six"}
SPEAKERS = ("anna", "ben")
SIZES = {"train": 18, "dev": 6, "test": 6}


def make_cut(folder, cut_id, waveform, text="one", speaker="anna", label="low"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{cut_id}.wav"
    soundfile.write(path, waveform.astype(np.float32), 16000, subtype="FLOAT")
    duration = len(waveform) / 16000
    recording = Recording(cut_id, [AudioSource("file", [0], str(path))], 16000, len(waveform), duration, channel_ids=[0])
    supervision = SupervisionSegment(
        cut_id, cut_id, 0.0, duration, channel=0, text=text, speaker=speaker, custom=None if label is None else {"label": label}
    )
    return MonoCut(cut_id, 0.0, duration, 0, supervisions=[supervision], recording=recording)


def write_manifest(path, cuts):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for cut in cuts:
            file.write(json.dumps(cut.to_dict()) + "\n")


def tone(pitch, speaker, samples, generator):
    time = np.arange(samples) / 16000
    second = 0.3 * np.sin(2 * math.pi * 3500 * time) * SPEAKERS.index(speaker)
    return 0.3 * np.sin(2 * math.pi * pitch * time) + second + 0.01 * generator.standard_normal(samples)


def make_splits(folder, sizes=None):
    generator, splits = np.random.default_rng(0), {}
    for split, size in (sizes or SIZES).items():
        splits[split] = []
        for index in range(size):
            label, speaker = list(PITCH)[index % 3], SPEAKERS[index // 3 % 2]
            samples = int(generator.integers(8000, 14000))
            waveform = tone(PITCH[label], speaker, samples, generator)
            splits[split].append(make_cut(folder / "wav", f"{split}{index:03d}", waveform, TEXT[label], speaker, label))
    return splits


INTENT_OPTIONS = {"slots": ["pitch", "voice"]}


def with_intents(splits):
    """The same cuts with two slots as their label, see `INTENT_OPTIONS`."""
    for supervision in (cut.supervisions[0] for cuts in splits.values() for cut in cuts):
        supervision.custom = {"label": f"{supervision.custom['label']}|{supervision.speaker}"}
    return splits


def write_splits(folder, splits):
    """Folder of manifests, one that results do not lie in."""
    folder = folder / "manifests"
    folder.mkdir(parents=True, exist_ok=True)
    for split, cuts in splits.items():
        write_manifest(folder / f"{split}.jsonl.gz", cuts)
    return folder


def make_corpus(folder):
    """Folder of manifests with train, dev and test."""
    return write_splits(folder, make_splits(folder))
