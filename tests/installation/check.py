"""What an installed speechft must do in an empty folder: prepare, make and merge encoders, evaluate, encode; with `figure` also draw."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch

from speechft.corpora import prepare_corpus
from speechft.encoders import import_checkpoint, load_encoder, random_encoder
from speechft.evaluate import evaluate
from speechft.merge import merge
from speechft.recipes.corpora import CorpusRecipe

RECIPE = {"protocol": "quick", "steps": 20, "learning_rates": [1e-3], "seeds": [1]}

rng = np.random.default_rng(0)
rows = []
for index in range(24):
    tone = 0.3 * np.sin(2 * np.pi * (200 + 300 * (index % 2)) * np.arange(8000) / 16000)
    soundfile.write(f"{index}.wav", tone + rng.normal(0, 0.01, 8000), 16000)
    rows.append([f"{index}.wav", ("low", "high")[index % 2], ("train", "train", "dev", "test")[index // 6]])
with Path("tones.csv").open("w") as file:
    csv.writer(file).writerows([["path", "label", "split"], *rows])
prepare_corpus(CorpusRecipe(kind="csv", path="tones.csv"), "manifests")

for family, task in (("hubert", "er"), ("wav2vec2", "ks"), ("wavlm", "er")):
    start, tuned = (random_encoder(family, f"{family}{seed}", seed=seed) for seed in (0, 1))
    merge(start, [tuned], f"{family}_merged", alpha=0.25)
    import_checkpoint(f"{family}_merged", f"{family}_imported")
    first, second = (load_encoder(f"{family}_{made}").encode([torch.ones(4000)]).hidden_states for made in ("merged", "imported"))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    cell = evaluate(f"{family}_merged", task, "manifests", f"{family}.json", recipe=RECIPE, model_name=f"{family}/tones/merged")
    print(family, json.dumps(cell["metrics"]))

if "figure" in sys.argv:
    from speechft.recipes.tables import TableRecipe, TableRow
    from speechft.tables.build import build_table
    from speechft.tables.figure import build_figure

    row = TableRow(encoder="hubert", finetuning="tones", method="merged", label="Merged")
    recipe = TableRecipe(title="Tones", rows=(row,), tasks=("er",))
    build_table(recipe, ["hubert.json"], None, "tables", "tones")
    build_figure(recipe, ["hubert.json"], "tones.png")
