import json

import pytest

from speechft.files.hashes import sha256_json
from speechft.recipes.cell import Cell
from speechft.recipes.tables import TableRecipe, TableRow


def cell_json(encoder, finetuning, method, task, values, protocol="quick", precision="fp32", sha256="a" * 64):
    """A complete cell with made-up values: metric key -> one number a seed."""
    seeds = len(next(iter(values.values())))
    recipe = {"task": task, "protocol": protocol, "seeds": list(range(seeds))}
    split = {"utterances": 10, "hours": 0.1}
    content = {
        "schema": 1,
        "model": {"encoder": encoder, "finetuning": finetuning, "method": method, "sha256": sha256},
        "task": task,
        "protocol": protocol,
        "precision": precision,
        "metrics": {key: sum(numbers) / seeds for key, numbers in values.items()},
        "values": values,
        "trials": [
            {"seed": seed, "learning_rate": 0.1, "dev": {}, "best_step": 1, "diverged": False, "selected": True} for seed in range(seeds)
        ],
        "selected": [
            {"seed": seed, "learning_rate": 0.1, "best_step": 1, "test": {key: numbers[seed] for key, numbers in values.items()}}
            for seed in range(seeds)
        ],
        "counts": {"train": split, "dev": split, "test": split, "labels": 2, "trainable_parameters": 1, "encoder_passes": 1},
        "hashes": {"model": "0", "recipe": sha256_json(recipe), "labels": "0", "manifests": {}},
        "recipe": recipe,
        "seconds": {"features": 0.0, "training": 0.0, "total": 0.0},
        "software": {},
    }
    Cell.model_validate(content)
    return content


@pytest.fixture
def write_cell(tmp_path):
    """Write a cell where the workflow would and return its path."""

    def write(encoder, finetuning, method, task, values, **options):
        path = tmp_path / "cells" / encoder / finetuning / method / f"{task}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(cell_json(encoder, finetuning, method, task, values, **options)))
        return path

    return write


@pytest.fixture
def three_rows():
    """Rows of one encoder `e` and one fine-tuning `f`."""
    return (
        TableRow(encoder="e", finetuning="none", method="pretrained", label="Pre-trained"),
        TableRow(encoder="e", finetuning="f", method="stable_ft", label="Stable-FT"),
        TableRow(encoder="e", finetuning="f", method="speech_ft", label="Speech-FT"),
    )


@pytest.fixture
def make_recipe(three_rows):
    """A table of those rows."""

    def make(tasks, **options):
        return TableRecipe(**{"title": "A table", "rows": three_rows, "tasks": tasks, **options})

    return make


@pytest.fixture
def write_published(tmp_path):
    """Write published numbers, one comma-separated line each, and return the path."""

    def write(*lines, header="table,encoder,finetuning,method,metric,value"):
        path = tmp_path / "published.csv"
        path.write_text("\n".join([header, *lines, ""]))
        return path

    return write
