"""A whole experiment of a few seconds: a random encoder, twelve utterances a split, one fine-tuning, two models on two tasks."""

import shutil
from pathlib import Path

import pandas as pd
import yaml
from conftest import ROOT

from speechft.encoders.directory.random_encoders import random_encoder
from speechft.files.hashes import sha256_file
from speechft.recipes.cell import read_cell

UPDATES = 120
METHODS = ("pretrained", "speech_ft")
EVALUATED = ("none/pretrained", "words/speech_ft")
TRAINED = "results/models/tiny/words/stable_ft"
TASKS = ("pr", "asr")
_QUICK = {"protocol": "quick", "steps": 20, "eval_every": 10, "batch_size": 4, "accumulate": 1, "learning_rates": [1e-2, 1e-3]}
_SMALL_HEAD = {"projected": 16, "hidden": 16, "spec_augment": False}


def write_experiment(folder: Path, *, gpus: int = 1, updates: int = UPDATES, minutes: int = 10) -> None:
    """Everything that a run in `folder` needs, the profile included. The arguments are about the fine-tuning."""
    folder.mkdir(parents=True)
    (folder / "slurm").symlink_to(ROOT / "slurm")
    (folder / "config").mkdir()
    (folder / "config/published.csv").write_bytes((ROOT / "config/published.csv").read_bytes())
    random_encoder("hubert", folder / "encoder", seed=3)
    rows = pd.read_csv(ROOT / "mini/speech/sentences.csv", dtype=str, keep_default_na=False).groupby("split").head(12)
    rows.assign(path=str(ROOT / "mini/speech") + "/" + rows["path"]).to_csv(folder / "sentences.csv", index=False)
    job = {"threads": 1, "mem_mb": 700, "runtime": 10}
    recipe = {"task": "pr", "updates": updates, "batch_size": 4, "validate_every": 15, "peak_lr": 1e-3}
    table = {"title": "Tiny", "encoders": ["tiny"], "finetunings": ["words"], "methods": list(METHODS), "tasks": list(TASKS)}
    values = {
        "name": "tiny",
        "results": "results",
        "corpora": {"sentences": {"kind": "csv", "path": "sentences.csv"}},
        "encoders": {"tiny": {"kind": "checkpoint", "path": "encoder"}},
        "finetunings": {"words": {"corpus": "sentences", "recipe": recipe}},
        "tasks": {
            "pr": {"corpus": "sentences", "recipe": _QUICK},
            "asr": {"corpus": "sentences", "recipe": {**_QUICK, "task_options": _SMALL_HEAD}},
        },
        "tables": {"tiny": table},
        "resources": {
            "small": {**job, "mem_mb": 600},
            "finetune": {**job, "runtime": minutes, "gpu": gpus, "threads": gpus},
            "evaluate": {**job, "gpu": 1},
        },
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(values))


def copy_beginning(source: Path, folder: Path) -> None:
    """Give an experiment what another one has before its fine-tuning: manifests and the imported encoder."""
    for part in ("recipes/corpora", "corpora", "models/tiny/none"):
        shutil.copytree(source / "results" / part, folder / "results" / part, copy_function=shutil.copyfile)  # newer than their inputs


def results(folder: Path) -> dict[str, object]:
    """What an experiment found, without times: hashes of weights, log and table, and the cells, each of which must be a valid one."""
    files = [TRAINED + "/model.safetensors", TRAINED + "/training.csv", "results/tables/tiny.csv"]
    files += [f"results/models/tiny/{name}/model.safetensors" for name in EVALUATED]
    found: dict[str, object] = {name: sha256_file(folder / name) for name in files}
    for name in EVALUATED:
        for task in TASKS:
            cell = f"results/cells/tiny/{name}/{task}.json"
            found[cell] = read_cell(folder / cell).model_dump(exclude={"seconds"})
    return found
