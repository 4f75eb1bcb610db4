"""The committed encoders are what config/mini_encoders.yaml says, whole, small, and have learned."""

import csv
import json

import pytest
import torch
from conftest import ROOT

from speechft.corpora import load_audio, load_split, prepare_corpus
from speechft.encoders import load_encoder
from speechft.encoders.directory.layout import read_tensors
from speechft.experiment.schema import load_experiment
from speechft.files.hashes import sha256_file
from speechft.recipes.corpora import CorpusRecipe

EXPERIMENT = load_experiment(ROOT / "config/mini_encoders.yaml")
STORED = {entry.store_as: entry for entry in EXPERIMENT.encoders.values() if entry.store_as}


@pytest.fixture(params=sorted(STORED))
def name(request):
    return request.param


def test_it_was_made_by_the_experiment_that_is_here_and_is_small(name):
    folder, recipe = ROOT / "mini/encoders" / name, STORED[name].recipe
    told = json.loads((folder / "provenance.json").read_text())
    assert told["kind"] == "pretrain"
    assert type(recipe)(**{key: value for key, value in told["recipe"].items() if key in type(recipe).model_fields}) == recipe
    assert told["recipe"]["data"]["hours"] > 9
    for file, digest in told["outputs"].items():
        assert sha256_file(folder / file) == digest, file
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6
    assert {tensor.dtype for tensor in read_tensors(folder / "model.safetensors").values()} == {torch.float16}


def test_its_loss_fell(name):
    with (ROOT / "mini/encoders" / name / "training.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (column,) = [key for key in rows[0] if key.startswith("valid_loss")]
    losses = [float(row[column]) for row in rows if row[column]]
    assert int(rows[-1]["update"]) == STORED[name].recipe.updates
    assert losses[-1] < min(losses) + 0.05
    assert losses[-1] < float(rows[0][column.removeprefix("valid_")]) - 1.0


def test_it_gives_different_sounds_different_features(name, tmp_path):
    prepare_corpus(CorpusRecipe(path=ROOT / "mini/speech/keywords.csv"), tmp_path / "keywords")
    cuts = [cut for cut in load_split(tmp_path / "keywords", "test") if cut.id.endswith(("yes-1", "no-1"))][:8]
    with torch.inference_mode():
        output = load_encoder(ROOT / "mini/encoders" / name).encode([load_audio(cut) for cut in cuts])
    for state in output.hidden_states:
        means = torch.stack([frames[:length].mean(0) for frames, length in zip(state, output.lengths, strict=True)])
        assert torch.isfinite(means).all()
        between = torch.cdist(means, means)[~torch.eye(len(cuts), dtype=torch.bool)]
        assert between.min() > 1e-2 * means.norm(dim=1).mean()
