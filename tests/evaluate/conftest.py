import pytest
import torch
from evaluate.tone_corpus import make_corpus

from speechft.encoders import random_encoder


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """A tiny HuBERT with random weights."""
    return random_encoder("hubert", tmp_path_factory.mktemp("encoder") / "hubert", seed=0)


@pytest.fixture(scope="session")
def manifests(tmp_path_factory):
    """Manifests of the corpus of tones."""
    return make_corpus(tmp_path_factory.mktemp("tones"))
