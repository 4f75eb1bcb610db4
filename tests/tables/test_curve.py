"""The files of a curve: numbers, marks and notes."""

import pandas as pd
import pytest
from tables.test_tables_build import texts_of
from typer.testing import CliRunner

from speechft.cli import app
from speechft.errors import TableError
from speechft.recipes.tables import CurvePoint, CurveRecipe, TableRecipe
from speechft.tables import canvas
from speechft.tables.curve import build_curve

MODELS = {0.0: ("none", "pretrained", "Pre-trained"), 0.5: ("f", "speech_ft@0.50", "Speech-FT"), 1.0: ("f", "stable_ft", "Stable-FT")}
MARKDOWN = """\
# A curve

| alpha | model       | PR PER % ↓       | SID acc % ↑ |
| ----- | ----------- | ---------------: | ----------: |
| 0.00  | Pre-trained | 70.00 ± 12.71    | 60.00       |
| 0.50  | Speech-FT   | **50.00 ± 0.00** | **65.00**   |
| 1.00  | Stable-FT   | pending          | 40.00       |

- Made-up numbers.
- Protocol: superb (published steps and sampling).
- pending: there is no result of ours yet.
- ±: half of the 95 % confidence interval of the mean over 2 seeds of the heads (Student's t).
- Bold: best of our values in a column.
"""


@pytest.fixture
def recipe():
    points = tuple(
        CurvePoint(alpha=alpha, encoder="e", finetuning=finetuning, method=method, label=label)
        for alpha, (finetuning, method, label) in MODELS.items()
    )
    return CurveRecipe(title="A curve", note="Made-up numbers.", points=points, tasks=("pr", "sid"), start="Pre-trained", end="Stable-FT")


@pytest.fixture
def cells(write_cell):
    numbers = {0.0: {"pr": [69.0, 71.0], "sid": [60.0]}, 0.5: {"pr": [50.0, 50.0], "sid": [65.0]}, 1.0: {"sid": [40.0]}}
    return [
        write_cell("e", *MODELS[alpha][:2], task, {task.upper(): values}, protocol="superb")
        for alpha, of_tasks in numbers.items()
        for task, values in of_tasks.items()
    ]


def test_markdown_snapshot(recipe, cells, tmp_path):
    build_curve(recipe, cells, tmp_path / "tables", tmp_path / "figures", "c")
    assert (tmp_path / "tables/c.md").read_text() == MARKDOWN


def test_csv_has_every_number(recipe, cells, tmp_path):
    build_curve(recipe, cells, tmp_path, tmp_path, "c")
    frame = pd.read_csv(tmp_path / "c.csv")
    assert list(frame.columns[:5]) == ["alpha", "task", "metric", "mean", "interval_95"]
    assert frame["alpha"].tolist() == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]
    assert frame["metric"].tolist() == ["PR", "SID"] * 3
    assert frame["mean"].tolist()[:4] == [70.0, 60.0, 50.0, 65.0]
    assert frame["mean"].isna().tolist() == [False] * 4 + [True, False]
    assert frame["interval_95"][0] == pytest.approx(12.706205, rel=1e-6)
    assert frame["method"].tolist()[::2] == ["pretrained", "speech_ft@0.50", "stable_ft"]


def test_the_figure_marks_ends_and_notes(recipe, cells, tmp_path, monkeypatch):
    monkeypatch.setitem(canvas.STYLE, "svg.fonttype", "none")
    build_curve(recipe, cells, tmp_path, tmp_path, "c")
    texts = texts_of(tmp_path / "c.svg")
    for expected in ("A curve", "Made-up numbers.", "PR PER %", "SID acc %", "alpha", "better →", "← better"):
        assert expected in texts
    for expected in ("Pre-trained (alpha 0)", "Speech-FT", "Stable-FT (alpha 1)", "alpha 0.25, the paper's"):
        assert texts.count(expected) == 1
    assert "Pending: 1 of 6 points." in " ".join(texts)
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_the_panel_holds_line_band_and_dots(recipe, cells, tmp_path):
    from speechft.tables.arrange import arrange
    from speechft.tables.cells import existing_cells
    from speechft.tables.curve import draw_curve

    table = TableRecipe(title="t", rows=recipe.points, tasks=recipe.tasks)
    figure = draw_curve(recipe, arrange(table, existing_cells(cells), None, "c", scores=False))
    first, second = figure.axes
    lines = {tuple(line.get_xdata()): line for line in first.get_lines()}
    assert lines[(0.0, 0.5)].get_ydata().tolist() == [70.0, 50.0]
    assert lines[(0.25, 0.25)].get_linestyle() == ":"
    (band,) = first.collections
    corners = {(float(alpha), round(float(value), 6)) for alpha, value in band.get_paths()[0].vertices}
    assert corners == {(0.0, 57.293795), (0.0, 82.706205), (0.5, 50.0)}
    assert not second.collections
    assert (0.0, 0.5, 1.0) in {tuple(line.get_xdata()) for line in second.get_lines()}
    assert first.get_xlim() == (0.0, 1.0)
    # The fine-tuned model has no PR yet, so it is marked in one panel only.
    ends = [[(line.get_marker(), *line.get_xdata()) for line in panel.get_lines() if len(line.get_xdata()) == 1] for panel in figure.axes]
    assert ends == [[("s", 0.0)], [("s", 0.0), ("D", 1.0)]]


def test_a_curve_over_the_four_tasks_has_superb_s(recipe, write_cell, tmp_path):
    numbers = {"pr": {"PR": [5.17]}, "sid": {"SID": [81.86]}, "er": {"ER": [64.99]}, "sf": {"SF_F1": [88.54], "SF_CER": [24.70]}}
    cells = [write_cell("e", *MODELS[0.0][:2], task, values, protocol="superb") for task, values in numbers.items()]
    four = recipe.model_copy(update={"tasks": tuple(numbers)})
    table = build_curve(four, cells, tmp_path, tmp_path, "c")
    assert [column.metric.key for column in table.columns] == ["PR", "SID", "ER", "SF_F1", "SF_CER", "SUPERB_S"]
    assert table.columns[-1].entries[0].mean == pytest.approx(870.20, abs=0.01)
    frame = pd.read_csv(tmp_path / "c.csv")
    assert frame[frame["metric"] == "SUPERB_S"]["status"].tolist() == ["measured", "pending", "pending"]
    quick = [write_cell("e", *MODELS[alpha][:2], task, values) for alpha in MODELS for task, values in numbers.items()]
    assert "SUPERB_S" not in [column.metric.key for column in build_curve(four, quick, tmp_path, tmp_path, "c").columns]


def test_files_are_the_same_each_time(recipe, cells, tmp_path):
    for name in ("a", "b"):
        build_curve(recipe, cells, tmp_path / name, tmp_path / name, "c")
    for suffix in ("csv", "md", "png", "svg"):
        assert (tmp_path / f"a/c.{suffix}").read_bytes() == (tmp_path / f"b/c.{suffix}").read_bytes()


def test_a_curve_without_any_cell(recipe, tmp_path):
    build_curve(recipe, [], tmp_path, tmp_path, "c")
    assert (tmp_path / "c.md").read_text().count("| pending") == 6


def test_nothing_is_written_when_a_cell_is_broken(recipe, cells, tmp_path):
    cells[0].write_text("{")
    with pytest.raises(TableError, match=str(cells[0])):
        build_curve(recipe, cells, tmp_path / "out", tmp_path / "out", "c")
    assert not (tmp_path / "out").exists()


def test_command_line(recipe, cells, tmp_path):
    (tmp_path / "c.json").write_text(recipe.model_dump_json())
    arguments = ["report", "alpha", str(tmp_path / "c.json"), *map(str, cells), "--out", str(tmp_path / "t")]
    arguments += ["--figures", str(tmp_path / "f")]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith(MARKDOWN)
    assert sorted(path.name for folder in "tf" for path in (tmp_path / folder).iterdir()) == ["c.csv", "c.md", "c.png", "c.svg"]
