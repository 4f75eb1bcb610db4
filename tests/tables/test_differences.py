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
from speechft.tables.experiment import build_experiment

PR = {"pretrained": [30.0, 31.0, 29.5], "stable_ft": [25.0, 26.0, 25.5], "speech_ft": [24.5, 27.0, 25.4]}


@pytest.fixture
def recipe(make_recipe):
    def make(tasks=("pr",), pairs=((1, 0), (2, 0), (2, 1)), **options):
        return make_recipe(tasks, differences=pairs, **options)

    return make


@pytest.fixture
def write_row(write_cell):
    def write(method, task, values, **options):
        return write_cell("e", "none" if method == "pretrained" else "f", method, task, values, **options)

    return write


@pytest.fixture
def cells(write_row):
    return [write_row(method, "pr", {"PR": values}) for method, values in PR.items()]


MODELS = [
    ("fbank", "none", "pretrained"),
    ("e", "none", "pretrained"),
    ("e", "f", "stable_ft"),
    ("e", "f", "speech_ft"),
    ("e", "g", "stable_ft"),
    ("e", "g", "speech_ft"),
    ("d", "none", "pretrained"),
    ("d", "g", "speech_ft"),
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
    table = arrange_differences(recipe(), cells, "t")
    assert [row.label for row in table.rows] == ["Stable-FT minus Pre-trained", "Speech-FT minus Pre-trained", "Speech-FT minus Stable-FT"]
    (column,) = table.columns
    pairs = [("stable_ft", "pretrained"), ("speech_ft", "pretrained"), ("speech_ft", "stable_ft")]
    for entry, (first, second) in zip(column.entries, pairs, strict=True):
        interval = stats.ttest_ind(PR[first], PR[second], equal_var=False).confidence_interval(0.95)
        assert (entry.mean - entry.half_width, entry.mean + entry.half_width) == pytest.approx((interval.low, interval.high))
    assert column.bold == {0, 1}


def test_all_formats(recipe, cells, tmp_path):
    build_differences(recipe(), cells, tmp_path / "out", None, "t")
    assert "| Stable-FT minus Pre-trained | e       | f           | **-4.67 ± 1.56** |" in (tmp_path / "out/t.md").read_text()
    assert r"\textbf{-4.67 $\pm$ 1.56}" in (tmp_path / "out/t.tex").read_text()
    assert "<strong>-4.67 ± 1.56</strong>" in (tmp_path / "out/t.html").read_text()
    frame = pd.read_csv(tmp_path / "out/t.csv")
    assert frame["minus_method"].tolist() == ["pretrained", "pretrained", "stable_ft"]
    assert frame["difference"].tolist() == pytest.approx([-4.6667, -4.5333, 0.1333], abs=1e-4)
    assert frame["excludes_0"].tolist() == [True, True, False]
    for suffix in ("md", "tex", "html"):
        assert "trained once" in (tmp_path / f"out/t.{suffix}").read_text()


def test_the_figure_is_the_same_for_the_same_cells(recipe, cells, tmp_path):
    for name in ("a", "b"):
        build_differences(recipe(("pr", "ks")), cells, tmp_path / "out", tmp_path / name, "t")
    assert (tmp_path / "a/t.png").read_bytes() == (tmp_path / "b/t.png").read_bytes()
    assert (tmp_path / "a/t.svg").stat().st_size > 10_000


def test_the_figure_shows_intervals_around_a_line_at_0(recipe, cells, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figure, "save_figure", lambda draw, *_, **__: drawn.append(draw()))
    build_differences(recipe(("pr", "ks")), cells, tmp_path / "out", tmp_path, "t")
    pr, ks = drawn[0].axes
    assert [line.get_xdata()[0] for line in pr.lines if line.get_linestyle() == "--"] == [0]
    assert not ks.lines  # all is pending
    table = arrange_differences(recipe(), cells, "t")
    points = [bar.lines[0] for bar in pr.containers]
    assert [point.get_xdata()[0] for point in points] == [entry.mean for entry in table.columns[0].entries]
    assert len({point.get_marker() for point in points}) == 3
    spans = [bar.lines[2][0].get_segments()[0][:, 0] for bar in pr.containers]
    assert [(span[1] - span[0]) / 2 for span in spans] == pytest.approx([entry.half_width for entry in table.columns[0].entries])
    texts = [text.get_text() for text in pr.texts]
    assert texts[:3] == ["-4.67", "-4.53", "+0.13"]
    assert [text.get_fontweight() for text in pr.texts[:3]] == ["bold", "bold", "normal"]


def test_metrics_and_scores(recipe, write_row):
    """QbE trains no head and has one value; a score over tasks has the variances of both rows."""
    numbers = {"pretrained": ([10.0, 12.0], 0.1), "stable_ft": ([50.0, 54.0], 0.3), "speech_ft": ([60.0, 61.0], 0.2)}
    cells = [write_row(method, "sid", {"SID": values}) for method, (values, _) in numbers.items()]
    cells += [write_row(method, "qbe", {"QbE": [value]}) for method, (_, value) in numbers.items()]
    floor = {"encoder": "e", "finetuning": "none", "method": "pretrained", "label": "Pre-trained"}
    asked = recipe(("sid", "qbe"), score={"label": "score", "floor": floor, "tasks": ("sid", "qbe")})
    sid, qbe, score = arrange_differences(asked, cells, "t").columns
    assert sid.entries[0].half_width is not None
    assert [entry.half_width for entry in qbe.entries] == [None] * 3
    assert [round(entry.mean, 6) for entry in qbe.entries] == [0.2, 0.1, -0.1]
    assert qbe.bold == frozenset()
    assert score.entries[2].mean == pytest.approx(500 * (60.5 - 52) / 49.5 - 250)
    assert score.entries[2].half_width == pytest.approx(500 / 49.5 * sid.entries[2].half_width)


def test_one_value_beside_several_gives_no_interval(recipe, write_row):
    cells = [write_row("pretrained", "pr", {"PR": [30.0]}), write_row("stable_ft", "pr", {"PR": [25.0, 26.0]})]
    entries = arrange_differences(recipe(), cells, "t").columns[0].entries
    assert (entries[0].mean, entries[0].half_width) == (pytest.approx(-4.5), None)
    assert (entries[1].mean, entries[1].defined) == (None, True)


def test_other_protocols_are_not_compared(recipe, write_row, tmp_path):
    cells = [
        write_row("pretrained", "pr", {"PR": [30.0]}, protocol="superb"),
        write_row("stable_ft", "pr", {"PR": [25.0]}),
        write_row("speech_ft", "pr", {"PR": [24.0]}),
    ]
    entries = arrange_differences(recipe(), cells, "t").columns[0].entries
    assert [entry.defined for entry in entries] == [False, False, True]
    build_differences(recipe(), cells, tmp_path / "out", None, "t")
    assert pd.read_csv(tmp_path / "out/t.csv")["status"].tolist() == ["undefined", "undefined", "measured"]


def test_scores_of_other_protocols_are_not_compared(recipe, write_row):
    protocols = {"pretrained": "superb", "stable_ft": "quick", "speech_ft": "quick"}
    cells = [write_row(method, "pr", {"PR": [PR[method][0]]}, protocol=protocol) for method, protocol in protocols.items()]
    cells += [write_row(method, "sid", {"SID": [50.0 + place]}) for place, method in enumerate(protocols)]
    floor = {"encoder": "e", "finetuning": "none", "method": "pretrained", "label": "Pre-trained"}
    asked = recipe(("pr", "sid"), score={"label": "score", "floor": floor, "tasks": ("pr", "sid")})
    pr, sid, score = arrange_differences(asked, cells, "t").columns
    assert [entry.defined for entry in pr.entries] == [False, False, True]
    assert [entry.defined for entry in sid.entries] == [True, True, True]
    assert [entry.defined for entry in score.entries] == [False, False, True]


def test_published_numbers_are_left_aside(recipe, cells):
    table = arrange_differences(recipe(published="somewhere"), cells, "t")
    assert all(entry.published is None for column in table.columns for entry in column.entries)


def test_recipes_that_compare_nothing_or_rows_that_are_not_there(recipe, cells):
    with pytest.raises(TableError, match="compares no rows"):
        arrange_differences(recipe(pairs=()), cells, "t")
    with pytest.raises(TableError, match=r"has 3 rows; there are none to compare at \(3, 0\)"):
        arrange_differences(recipe(pairs=((3, 0),)), cells, "t")


@pytest.fixture
def experiment():
    """The experiment of the tests, with a table `demo` that compares rows."""
    values = yaml.safe_load((ROOT / "tests/experiment.yaml").read_text())
    values["tables"]["demo"]["differences"] = ["pretrained", "stable_ft"]
    return values


def test_an_experiment_asks_for_them_by_name(experiment):
    flow = Workflow(parse_experiment(experiment, "test.yaml"), ["test.yaml"])
    assert "results/demo/tables/differences/demo.md" in flow.targets()
    assert TableRecipe.model_validate_json(flow.recipe("tables/demo")).differences == ((1, 0), (2, 0), (2, 1))
    experiment["tables"]["demo"]["differences"] = ["pretrianed"]
    with pytest.raises(ConfigError, match=r"tables.demo.differences: 'pretrianed' is no row.*Did you mean 'pretrained'"):
        parse_experiment(experiment, "test.yaml")


def test_all_tables_of_an_experiment(experiment, tmp_path):
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(experiment))
    build_experiment(tmp_path / "e.yaml", None, ROOT / "config/published.csv", tmp_path / "out")
    text = (tmp_path / "out/differences/demo.md").read_text()
    assert "| Speech-FT minus Stable-FT   | hubert_demo | pr_sentences | pending" in text


def test_command_line(recipe, cells, tmp_path):
    (tmp_path / "t.json").write_text(recipe().model_dump_json())
    result = CliRunner().invoke(app, ["report", "differences", str(tmp_path / "t.json"), *map(str, cells), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "-4.67 ± 1.56" in result.output
    assert (tmp_path / "out/t.png").stat().st_size > 10_000
