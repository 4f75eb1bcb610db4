"""What docs/paper.md says about the paper's experiment is so."""

import re

import pytest
from conftest import ROOT

from speechft.experiment.schema import load_experiment
from speechft.experiment.workflow import Workflow
from speechft.tables.metrics import METRICS
from speechft.tables.published import load_published
from speechft.tables.scores import SUPERB_FULL_NORMALIZERS

TEXT = (ROOT / "docs/paper.md").read_text()
WORDS = " ".join(TEXT.split())


@pytest.fixture(scope="module")
def experiment():
    return load_experiment(ROOT / "config/paper.yaml")


def test_models_cells_and_published_numbers_are_counted(experiment):
    cells = {cell for name in experiment.tables for cell in experiment.table_cells(name)}
    cells |= {cell for name in experiment.curves for cell in experiment.curve_cells(name)}
    models = {cell.rpartition("/")[0] for cell in cells}
    assert f"{len(models)} models, {len(cells)} cells, seven tables, two curves, one analysis" in WORDS
    assert (len(experiment.tables), len(experiment.curves), len(experiment.analyses)) == (7, 2, 1)
    assert f"from {len(models)} models and {len(cells)} cells" in " ".join((ROOT / "README.md").read_text().split())
    published = load_published(ROOT / "config/published.csv")
    assert f"a line for each of the {len(published.values) + len(published.empty)} numbers" in WORDS
    assert int(re.search(r"of which (\d+) are known", WORDS)[1]) <= len(published.values)


def test_every_table_is_there_and_every_target_can_be_made(experiment):
    flow = Workflow(experiment)
    for name in (*experiment.tables, *experiment.curves, *experiment.analyses):
        assert f"`{name}`" in TEXT
    files = {target for name in experiment.tables for target in flow.cells(name)} | set(flow.targets())
    models = {flow.weights(*model) for name in experiment.tables for model in experiment.table_models(name)}
    # A cell of a model by its path is no part of the experiment.
    named = {path for path in re.findall(r"(results/\S+\.(?:json|md|safetensors))", TEXT) if "/mine/" not in path}
    assert len(named) >= 4
    assert named <= files | models


def test_both_ends_of_every_scale_are_printed():
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
        for cells in (line.split("|") for line in TEXT.splitlines())
        if len(cells) == 14
    }
    keys = [key.replace(" ", "_") for key in rows[""]]
    assert set(keys) == set(SUPERB_FULL_NORMALIZERS)
    for place, key in enumerate(keys):
        scale = SUPERB_FULL_NORMALIZERS[key]
        assert float(rows["FBANK, published"][place]) == scale.fbank
        assert rows["best"][place] == METRICS[key].shown(scale.sota)
        assert rows["source"][place] == scale.source.split(" from ")[0].split(",")[0]
