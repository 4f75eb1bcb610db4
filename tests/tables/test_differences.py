"""Differences between rows of a table: which rows, their intervals, and what cannot be compared."""

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from scipy import stats
from typer.testing import CliRunner

from speechft.cli import app
from speechft.errors import ConfigError, TableError
from speechft.experiment.layouts import rows_to_compare
from speechft.experiment.schema import parse_experiment
from speechft.experiment.workflow import Workflow
from speechft.recipes.tables import TableRecipe
from speechft.tables import figure
from speechft.tables.differences import arrange_differences, build_differences

PR = {"none/pretrained": [30, 31, 29.5], "f/stable_ft": [25, 26, 25.5], "f/speech_ft": [24.5, 27, 25.4]}
FLOOR = {"encoder": "e", "finetuning": "none", "method": "pretrained", "label": "Pre-trained"}


@pytest.fixture
def recipe(make_recipe):
    def make(*tasks, pairs=((1, 0), (2, 0), (2, 1)), score=None, **options):
        if score:
            options["score"] = {"label": "score", "floor": FLOOR, "tasks": score}
        return make_recipe(*(tasks or ("pr",)), differences=pairs, **options)

    return make


@pytest.fixture
def cells(cells_of):
    return [path for model, values in PR.items() for path in cells_of(model, PR=values)]


MODELS = [
    *(("fbank", "none", "pretrained"), ("e", "none", "pretrained"), ("e", "f", "stable_ft"), ("e", "f", "speech_ft")),
    *(("e", "g", "stable_ft"), ("e", "g", "speech_ft"), ("d", "none", "pretrained"), ("d", "g", "speech_ft")),
]


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["stable_ft"], [(3, 2), (5, 4)]),
        (["pretrained"], [(2, 1), (3, 1), (4, 1), (5, 1), (7, 6)]),
        (["pretrained", "stable_ft"], [(2, 1), (3, 1), (3, 2), (4, 1), (5, 1), (5, 4), (7, 6)]),
        (["fbank"], [(row, 0) for row in range(1, 8)]),
        (["d"], [(row, 6) for row in (0, 1, 2, 3, 4, 5, 7)]),
        (["speech_ft", "stable_ft"], [(2, 3), (4, 5)]),
        (["lora"], []),
    ],
)
def test_methods_and_encoders_name_the_rows(names, pairs):
    assert rows_to_compare(MODELS, names) == pairs


def test_means_and_intervals(recipe, cells):
    table = arrange_differences(recipe(published="somewhere"), cells, "t")
    assert [row.label for row in table.rows] == ["Stable-FT minus Pre-trained", "Speech-FT minus Pre-trained", "Speech-FT minus Stable-FT"]
    (column,) = table.columns
    pretrained, stable, merged = PR.values()
    for entry, (first, second) in zip(column.entries, [(stable, pretrained), (merged, pretrained), (merged, stable)], strict=True):
        interval = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
        assert (entry.mean - entry.half_width, entry.mean + entry.half_width) == pytest.approx((interval.low, interval.high))
        assert entry.published is None
    assert column.bold == {0, 1}


def test_the_files(recipe, cells, tmp_path):
    (tmp_path / "t.json").write_text(recipe().model_dump_json())
    shown = CliRunner().invoke(app, ["report", "differences", str(tmp_path / "t.json"), *map(str, cells), "--out", str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    text = (tmp_path / "out/t.md").read_text()
    assert shown.stdout.startswith(text)
    assert "| Stable-FT minus Pre-trained | e       | f           | **-4.67 ± 1.56** |" in text
    assert "trained once" in text
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".csv", ".html", ".md", ".png", ".svg", ".tex"}
    frame = pd.read_csv(tmp_path / "out/t.csv")
    assert frame["minus_method"].tolist() == ["pretrained", "pretrained", "stable_ft"]
    assert frame["difference"].tolist() == pytest.approx([-4.6667, -4.5333, 0.1333], abs=1e-4)
    assert frame["excludes_0"].tolist() == [True, True, False]


def test_the_figure_shows_intervals_around_a_line_at_0(recipe, cells, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figure, "save_figure", lambda draw, *_, **__: drawn.append(draw()))
    table = build_differences(recipe("pr", "ks"), cells, tmp_path / "out", tmp_path, "t")
    pr, ks = drawn[0].axes
    assert [line.get_xdata()[0] for line in pr.lines if line.get_linestyle() == "--"] == [0]
    assert not ks.lines  # all is pending
    entries = table.columns[0].entries
    points = [bar.lines[0] for bar in pr.containers]
    assert [point.get_xdata()[0] for point in points] == [entry.mean for entry in entries]
    assert [point.get_marker() for point in points] == ["s", "D", "D"]
    spans = [bar.lines[2][0].get_segments()[0][:, 0] for bar in pr.containers]
    assert [(span[1] - span[0]) / 2 for span in spans] == pytest.approx([entry.half_width for entry in entries])
    labels = [(text.get_text(), text.get_fontweight()) for text in pr.texts]
    assert labels[:3] == [("-4.67", "bold"), ("-4.53", "bold"), ("+0.13", "normal")]


def test_metrics_and_scores(recipe, cells_of):
    """QbE trains no head and has one value; a score over tasks has the variances of both rows."""
    cells = cells_of("none/pretrained", SID=[10, 12], QbE=0.1) + cells_of("f/stable_ft", SID=[50, 54], QbE=0.3)
    cells += cells_of("f/speech_ft", SID=[60, 61], QbE=0.2)
    sid, qbe, score = arrange_differences(recipe("sid", "qbe", score=("sid", "qbe")), cells, "t").columns
    assert sid.entries[0].half_width is not None
    assert [(round(entry.mean, 6), entry.half_width) for entry in qbe.entries] == [(0.2, None), (0.1, None), (-0.1, None)]
    assert qbe.bold == frozenset()
    assert score.entries[2].mean == pytest.approx(500 * (60.5 - 52) / 49.5 - 250)
    assert score.entries[2].half_width == pytest.approx(500 / 49.5 * sid.entries[2].half_width)


def test_one_value_beside_several_gives_no_interval(recipe, cells_of):
    cells = cells_of("none/pretrained", PR=30) + cells_of("f/stable_ft", PR=[25, 26])
    entries = arrange_differences(recipe(), cells, "t").columns[0].entries
    assert (entries[0].mean, entries[0].half_width) == (pytest.approx(-4.5), None)
    assert (entries[1].mean, entries[1].defined) == (None, True)


def test_other_protocols_are_not_compared(recipe, cells_of, tmp_path):
    cells = cells_of("none/pretrained", PR=30, protocol="superb")
    for place, model in enumerate(PR):
        cells += cells_of(model, SID=50 + place) + (cells_of(model, PR=25 - place) if place else [])
    table = build_differences(recipe("pr", "sid", score=("pr", "sid")), cells, tmp_path / "out", None, "t")
    # PR, SID and the score, which is no more comparable than its metrics.
    assert [[entry.defined for entry in column.entries] for column in table.columns] == [
        [False, False, True],
        [True, True, True],
        [False, False, True],
    ]
    frame = pd.read_csv(tmp_path / "out/t.csv")
    assert frame[frame["metric"] == "PR"]["status"].tolist() == ["undefined", "undefined", "measured"]


def test_recipes_that_compare_nothing_or_rows_that_are_not_there(recipe, cells):
    with pytest.raises(TableError, match="compares no rows"):
        arrange_differences(recipe(pairs=()), cells, "t")
    with pytest.raises(TableError, match=r"has 3 rows; there are none to compare at \(3, 0\)"):
        arrange_differences(recipe(pairs=((3, 0),)), cells, "t")


def test_an_experiment_asks_for_them_by_name():
    experiment = yaml.safe_load((ROOT / "tests/experiment.yaml").read_text())
    experiment["tables"]["demo"]["differences"] = ["pretrained", "stable_ft"]
    flow = Workflow(parse_experiment(experiment, "test.yaml"), ["test.yaml"])
    assert "results/demo/tables/differences/demo.md" in flow.targets()
    assert TableRecipe.model_validate_json(flow.recipe("tables/demo")).differences == ((1, 0), (2, 0), (2, 1))
    experiment["tables"]["demo"]["differences"] = ["pretrianed"]
    with pytest.raises(ConfigError, match=r"tables.demo.differences: 'pretrianed' is not a row to compare with. Did you mean 'pretrained'"):
        parse_experiment(experiment, "test.yaml")
