import pytest

from speechft.encoders import random_encoder


@pytest.fixture(scope="session")
def encoders(tmp_path_factory):
    """Three models of one architecture that differ in all tensors: base, first, second. Tests copy what they change."""
    folder = tmp_path_factory.mktemp("encoders")
    for seed, name in enumerate(("base", "first", "second")):
        random_encoder("hubert", folder / name, seed=seed)
    return folder
