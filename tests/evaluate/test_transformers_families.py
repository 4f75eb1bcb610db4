"""Evaluation of encoders that only transformers has, on tasks of every kind of head."""

import pytest
from evaluate.corpora import QUICK

from speechft.encoders import random_encoder
from speechft.encoders.families import FAMILIES
from speechft.evaluate import evaluate

SIZES = {"whisper": {"max_source_positions": 50}}  # windows of a second
UTTERANCES = [(family.name, "ks", "bf16") for family in FAMILIES.values() if family.directory_only]
FRAMES = [(family, task, "fp32") for family in ("wav2vec2-bert", "whisper") for task in ("pr", "sd", "qbe")]


@pytest.mark.parametrize(("family", "task", "precision"), [*UTTERANCES, *FRAMES])
def test_cells(family, task, precision, corpus_of, tmp_path):
    encoder = random_encoder(family, tmp_path / "encoder", **SIZES.get(family, {}))
    recipe = {**QUICK[task], **({"precision": precision} if precision == "bf16" else {})}
    cell = evaluate(encoder, task, corpus_of(task), tmp_path / "cell.json", recipe)
    assert cell["precision"] == precision
