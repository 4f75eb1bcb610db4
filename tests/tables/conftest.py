import json
from xml.etree import ElementTree

import pytest

from speechft.files.hashes import sha256_json
from speechft.recipes.cell import Cell
from speechft.recipes.tables import TableRecipe, TableRow
from speechft.tables import canvas
from speechft.tables.metrics import METRICS


def cell_json(model, task, values, protocol="quick", precision="fp32", sha256="a" * 64):
    """A complete cell with made-up values: metric key -> one number a seed."""
    encoder, finetuning, method = model.split("/")
    seeds = range(len(next(iter(values.values()))))
    recipe = {"task": task, "protocol": protocol, "seeds": list(seeds)}
    split = {"utterances": 10, "hours": 0.1}
    chosen = {"learning_rate": 0.1, "best_step": 1}
    content = {
        "schema": 1,
        "model": {"encoder": encoder, "finetuning": finetuning, "method": method, "sha256": sha256},
        "task": task,
        "protocol": protocol,
        "precision": precision,
        "metrics": {key: sum(numbers) / len(seeds) for key, numbers in values.items()},
        "values": values,
        "trials": [{"seed": seed, **chosen, "dev": {}, "diverged": False, "selected": True} for seed in seeds],
        "selected": [{"seed": seed, **chosen, "test": {key: numbers[seed] for key, numbers in values.items()}} for seed in seeds],
        "counts": {"train": split, "dev": split, "test": split, "labels": 2, "trainable_parameters": 1, "encoder_passes": 1},
        "hashes": {"model": "0", "recipe": sha256_json(recipe), "labels": "0", "manifests": {}},
        "recipe": recipe,
        "seconds": {"features": 0.0, "training": 0.0, "total": 0.0},
        "software": {},
    }
    Cell.model_validate(content)
    return content


@pytest.fixture
def cells_of(tmp_path):
    """Write the cells of a model where the workflow would and return their paths.

    `cells_of("f/stable_ft", PR=5.2, KS=[96, 97])` is of the encoder `e`, with two seeds of KS.
    """

    def write(model, *, task=None, **options):
        values = {key: options.pop(key) for key in list(options) if key.isupper() or key in METRICS}
        model = model if model.count("/") == 2 else f"e/{model}"
        by_task = {}
        for key, numbers in values.items():
            numbers = [float(number) for number in (numbers if isinstance(numbers, list) else [numbers])]
            by_task.setdefault(task or METRICS[key].task, {})[key] = numbers
        for name, of_task in by_task.items():
            path = tmp_path / f"cells/{model}/{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(cell_json(model, name, of_task, **options)))
        return [tmp_path / f"cells/{model}/{name}.json" for name in by_task]

    return write


@pytest.fixture
def three_rows():
    """Rows of one encoder `e` and one fine-tuning `f`."""
    models = {"Pre-trained": ("none", "pretrained"), "Stable-FT": ("f", "stable_ft"), "Speech-FT": ("f", "speech_ft")}
    return tuple(TableRow(encoder="e", finetuning=tuning, method=method, label=label) for label, (tuning, method) in models.items())


@pytest.fixture
def make_recipe(three_rows):
    """A table of those rows."""

    def make(*tasks, **options):
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


@pytest.fixture
def texts_of(monkeypatch):
    """All texts of an SVG that is drawn from now on; outside the tests letters are paths."""
    monkeypatch.setitem(canvas.STYLE, "svg.fonttype", "none")

    def read(svg):
        nodes = ElementTree.parse(svg).getroot().iter("{http://www.w3.org/2000/svg}text")
        return [" ".join("".join(node.itertext()).split()) for node in nodes]

    return read
