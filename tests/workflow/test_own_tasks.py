"""Tasks of the user's own on columns of one CSV corpus, from recordings to a table, by Snakemake."""

import numpy as np
import pandas
import pytest
import soundfile
import yaml
from workflow.plans import WARM, change, jobs_of, snakemake

from speechft.encoders import random_encoder

pytestmark = pytest.mark.slow

QUICK = {"steps": 40, "eval_every": 20, "learning_rates": [1e-2]}
EXPERIMENT = {
    "name": "own",
    "results": "results",
    "corpora": {"mine": {"kind": "csv", "path": "mine.csv"}},
    "encoders": {"tiny": {"kind": "checkpoint", "path": "tiny"}},
    "finetunings": {"accents": {"corpus": "mine", "recipe": {"task": "accent", "updates": 2, "validate_every": 1, "batch_size": 4}}},
    "methods": {"stable_ft": {"kind": "finetune", "label": "Stable-FT"}},
    "tasks": {
        "accent": {"corpus": "mine", "kind": "classification", "label": "accent", "metric": "uar", "recipe": QUICK},
        "age": {"corpus": "mine", "kind": "regression", "label": "age", "metric": ["pearson", "mse"], "recipe": QUICK},
        "moods": {"corpus": "mine", "kind": "multilabel", "label": "moods", "recipe": QUICK},
    },
    "tables": {
        "own": {
            "title": "Own",
            "encoders": ["tiny"],
            "rows": [{"model": "none/pretrained"}],
            "tasks": ["accent", "age", "moods"],
        },
        "tuned": {"title": "Tuned", "encoders": ["tiny"], "rows": [{"model": "accents/stable_ft"}], "tasks": ["accent"]},
    },
}
SIZES = {"train": 12, "dev": 6, "test": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tones whose pitch says accent, age and moods."""
    folder, generator = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    rows = ["path,accent,age,moods,split"]
    for split, size in SIZES.items():
        for number in range(size):
            pitch, name = (200, 700, 2100)[number % 3], f"{split}{number}.wav"
            time = np.arange(int(generator.integers(6000, 9000))) / 16000
            soundfile.write(folder / name, 0.3 * np.sin(2 * np.pi * pitch * time) + 0.01 * generator.standard_normal(len(time)), 16000)
            labels = (("north", "glad|loud"), ("south", "sad"), ("west", ""))[number % 3]
            rows.append(f"{name},{labels[0]},{20 + pitch / 100},{labels[1]},{split}")
    (folder / "mine.csv").write_text("\n".join([*rows, ""]))
    random_encoder("hubert", folder / "tiny", seed=0)
    (folder / "experiment.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    return folder


def test_three_tasks_on_one_corpus(folder):
    said = snakemake(folder, **WARM)
    assert jobs_of(said).count("evaluate") == 4
    assert jobs_of(said).count("manifests") == 1
    table = pandas.read_csv(folder / "results/tables/own.csv").set_index("metric")
    assert set(table["status"]) == {"measured"}
    values = table["value"]
    assert values["accent_uar"] > 80
    assert values["age_pearson"] > 0.8
    assert values["moods_f1"] > 80
    assert "| Stable-FT | tiny    | accents     |" in (folder / "results/tables/tuned.md").read_text()
    assert not jobs_of(snakemake(folder, "--dry-run"))


def test_another_metric_evaluates_again_and_prepares_nothing(folder):
    change(folder, lambda values: values["tasks"]["accent"].update(metric="f1"))
    jobs = jobs_of(snakemake(folder, "--dry-run"))
    assert (jobs.count("evaluate"), jobs.count("finetune")) == (2, 1), "the fine-tuning chooses its best encoder by the metric too"
    assert "manifests" not in jobs
