from collections import Counter

import pytest
from evaluate.killing import Killed
from evaluate.tone_corpus import make_corpus

from speechft.encoders import random_encoder
from speechft.evaluate.data.features import FrozenEncoder
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.evaluate.probes.stacked import StackedProbes


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """A tiny HuBERT with random weights."""
    return random_encoder("hubert", tmp_path_factory.mktemp("encoder") / "hubert", seed=0)


@pytest.fixture(scope="session")
def manifests(tmp_path_factory):
    """Manifests of the corpus of tones."""
    return make_corpus(tmp_path_factory.mktemp("tones"))


@pytest.fixture
def count_passes(monkeypatch):
    """Clips that went through an encoder since the start of the test."""
    counted = Counter()
    original = FrozenEncoder.__call__

    def counting(self, clips):
        counted["clips"] += len(clips)
        return original(self, clips)

    monkeypatch.setattr(FrozenEncoder, "__call__", counting)
    return counted


@pytest.fixture
def kill_after(monkeypatch):
    """Count optimizer steps, and end the evaluation at the n-th."""
    made = {"steps": 0, "limit": None}

    def counting(bank_type):
        original = bank_type.train_step

        def train_step(self, features, batches):
            if made["steps"] == made["limit"]:
                raise Killed
            made["steps"] += 1
            return original(self, features, batches)

        monkeypatch.setattr(bank_type, "train_step", train_step)

    counting(StackedProbes)
    counting(SeparateProbes)

    def start(limit=None):
        made.update(steps=0, limit=limit)
        return made

    return start
