from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, Recording, SupervisionSegment

from speechft.encoders.directory.random_encoders import random_encoder

SAMPLING_RATE = 16_000


def write_manifests(folder, splits, seconds=(0.3, 0.6), classes=3, seed=0):
    """Tones of `classes` pitches, one class a pitch, in noise; {train,dev,...}.jsonl.gz lhotse cuts."""
    generator = np.random.default_rng(seed)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in splits.items():
        cuts = []
        for index in range(count):
            kind = index % classes
            samples = int(generator.uniform(*seconds) * SAMPLING_RATE)
            time = np.arange(samples) / SAMPLING_RATE
            wave = 0.3 * np.sin(2 * np.pi * 220 * 2**kind * time) + 0.02 * generator.standard_normal(samples)
            path = folder / f"{split}{index}.wav"
            soundfile.write(path, wave.astype(np.float32), SAMPLING_RATE, subtype="FLOAT")
            cut = Recording.from_file(path, recording_id=path.stem).to_cut()
            cut.id = path.stem
            values = {"text": "ONE TWO", "speaker": f"s{kind}", "custom": {"label": f"k{kind}"}}
            cut.supervisions = [SupervisionSegment(cut.id, cut.id, 0, cut.duration, **values)]
            cuts.append(cut)
        CutSet.from_cuts(cuts).to_file(folder / f"{split}.jsonl.gz")
    return folder


@pytest.fixture(scope="session")
def make_corpus():
    return write_manifests


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return write_manifests(tmp_path_factory.mktemp("corpus"), {"train": 18, "dev": 9})


@pytest.fixture(scope="session")
def theta0(tmp_path_factory):
    return random_encoder("hubert", tmp_path_factory.mktemp("theta0") / "encoder", seed=0)
