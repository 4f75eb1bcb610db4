import pytest
from safetensors.torch import load_file, save_file

from speechft.encoders import random_encoder
from speechft.merge import get_method, merge_files


@pytest.fixture(scope="session")
def encoders(tmp_path_factory):
    """Three models of one architecture that differ in all tensors: base, first, second. Tests copy what they change."""
    folder = tmp_path_factory.mktemp("encoders")
    for seed, name in enumerate(("base", "first", "second")):
        random_encoder("hubert", folder / name, seed=seed)
    return folder


@pytest.fixture(scope="session")
def merged(tmp_path_factory):
    """Function that merges models, given as dicts of tensors, by `merge_files`."""
    folder = tmp_path_factory.mktemp("merged")

    def merge(base, finetuned, alpha, method="linear", parameters=None, **options):
        paths = [folder / str(index) for index in range(1 + len(finetuned))]
        for path, tensors in zip(paths, (base, *finetuned), strict=True):
            save_file(tensors, path)
        merge_files(paths[0], paths[1:], folder / "out", get_method(method, parameters), alpha, **options)
        return load_file(folder / "out")

    return merge
