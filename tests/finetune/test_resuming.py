"""A resumed training gives the model and the log of an undisturbed one, whatever happened to its work directory meanwhile."""

import json
import shutil

import pytest
from finetune.watching import Updates, interrupted_after
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from speechft.errors import CheckpointError
from speechft.files.hashes import sha256_file
from speechft.files.tensor_hash import tensors_sha256
from speechft.finetune import finetune
from speechft.finetune.early import take_early
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.values import validate

RECIPE = FinetuneRecipe(task="sid", updates=6, batch_size=4, validate_every=2, peak_lr=2e-3, seed=3, early=(0.4,), head_only=0.2)
COMPARED = ("model.safetensors", "early/0.40/model.safetensors", "training.csv")


@pytest.fixture(scope="module")
def whole(theta0, corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    finetune(theta0, RECIPE, corpus, out)
    return out


@pytest.fixture(scope="module")
def interrupted(theta0, corpus, tmp_path_factory):
    """A work directory with checkpoints after the updates 2 and 4, the log of update 5, and the early encoder of update 2."""
    work = tmp_path_factory.mktemp("interrupted") / "work"
    with interrupted_after(5):
        finetune(theta0, RECIPE, corpus, work.parent / "out", work)
    assert not (work.parent / "out").exists()
    return work


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def with_other_weights(path):
    """The same words about itself, and other tensors."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path, metadata)


def of_another_run(path):
    """Everything about it is right, but it is not what was kept."""
    tensors = {name: tensor + 1 for name, tensor in load_file(path).items()}
    save_file(tensors, path, {"update": "2", "score": "1.0", "sha256": tensors_sha256(tensors)})


def garbage(path):
    path.write_bytes(b"\xff\xfegarbage\n")


def garbage_in(folder, kept=""):
    for path in folder.glob("checkpoint*.pt"):
        if path.name != kept:
            garbage(path)


# Damage -> what is damaged, how, and how many updates are done again.
DAMAGE = {
    "nothing": ("training.csv", lambda path: None, 2),
    "best gone": ("best.safetensors", lambda path: path.unlink(), 6),
    "best cut": ("best.safetensors", cut, 6),
    "best with a wrong bit": ("best.safetensors", flip, 6),
    "best with other weights": ("best.safetensors", with_other_weights, 6),
    "best of another run": ("best.safetensors", of_another_run, 6),
    "early gone": ("early-0.40.safetensors", lambda path: path.unlink(), 4),
    "early of another run": ("early-0.40.safetensors", of_another_run, 4),
    "log gone": ("training.csv", lambda path: path.unlink(), 2),
    "log cut": ("training.csv", cut, 2),
    "log is no text": ("training.csv", garbage, 2),
    "marker is no text": ("checkpoints/unvalidated.txt", garbage, 2),
    "all checkpoints but an older one": ("checkpoints", lambda folder: garbage_in(folder, "checkpoint_1_2.pt"), 4),
    "all checkpoints": ("checkpoints", garbage_in, 6),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_resumed_run_ends_like_an_undisturbed_one(damage, whole, interrupted, theta0, corpus, tmp_path, monkeypatch):
    work, out = tmp_path / "work", tmp_path / "out"
    shutil.copytree(interrupted, work)
    file, harm, again = DAMAGE[damage]
    harm(work / file)
    updates = Updates(monkeypatch)
    finetune(theta0, RECIPE, corpus, out, work)
    assert [sha256_file(out / file) for file in COMPARED] == [sha256_file(whole / file) for file in COMPARED]
    assert len(updates.gradients) == again


# What else training draws from a generator, or keeps besides the weights of the encoder.
OTHERS = {
    "joint tasks": ({"task": "pr", "accumulate": 3, "share": 2, "jointly": {"sid": {"task": "sid", "batch_size": 4}}}, True),
    "adapters": ({"adapters": {"kind": "dora", "rank": 2}}, False),
    "augmentation and dropout": ({"task": "asr", "task_options": {"projected": 16, "hidden": 8, "layers": 2}}, False),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_trainings_resume_too(name, theta0, corpus, tmp_path):
    changes, jointly = OTHERS[name]
    recipe = validate(FinetuneRecipe, {**RECIPE.model_dump(), **changes}, "test")
    options = {"jointly": {"sid": corpus}} if jointly else {}
    finetune(theta0, recipe, corpus, tmp_path / "whole", **options)
    with interrupted_after(5):
        finetune(theta0, recipe, corpus, tmp_path / "out", tmp_path / "work", **options)
    finetune(theta0, recipe, corpus, tmp_path / "out", tmp_path / "work", **options)
    assert [sha256_file(tmp_path / "out" / file) for file in COMPARED] == [sha256_file(tmp_path / "whole" / file) for file in COMPARED]


def test_an_early_encoder_of_another_run_is_refused(whole, theta0, tmp_path):
    swapped = shutil.copytree(whole, tmp_path / "swapped")
    shutil.copyfile(theta0 / "model.safetensors", swapped / "early/0.40/model.safetensors")
    with pytest.raises(CheckpointError, match="its SHA-256 differs from"):
        take_early(swapped, 0.4, tmp_path / "x")

    another = shutil.copytree(whole, tmp_path / "another")
    provenance = json.loads((another / "early/0.40/provenance.json").read_text())
    provenance["recipe"]["seed"] = 4
    (another / "early/0.40/provenance.json").write_text(json.dumps(provenance))
    with pytest.raises(CheckpointError, match=r"not from the run of .*another \(provenance\.json differs in recipe\.seed\)"):
        take_early(another, 0.4, tmp_path / "x")

    renamed = shutil.copytree(whole, tmp_path / "renamed")
    (renamed / "early/0.40").rename(renamed / "early/0.60")
    with pytest.raises(CheckpointError, match="differs in the share"):
        take_early(renamed, 0.6, tmp_path / "x")
    assert not (tmp_path / "x").exists()
