"""The files of a curve: numbers, marks and notes."""

import pandas as pd
import pytest
from typer.testing import CliRunner

from speechft.cli import app
from speechft.errors import TableError
from speechft.recipes.tables import CurvePoint, CurveRecipe, TableRecipe
from speechft.tables.arrange import arrange
from speechft.tables.cells import existing_cells
from speechft.tables.curve import build_curve, draw_curve

MODELS = {0.0: ("none/pretrained", "Pre-trained"), 0.5: ("f/speech_ft@0.50", "Speech-FT"), 1.0: ("f/stable_ft", "Stable-FT")}
MARKDOWN = """\
# A curve

| alpha | model       | PR PER % ↓       | SID acc % ↑ |
| ----- | ----------- | ---------------: | ----------: |
| 0.00  | Pre-trained | 70.00 ± 1.27     | 60.00       |
| 0.50  | Speech-FT   | **50.00 ± 0.00** | 65.00       |
| 1.00  | Stable-FT   | pending          | 40.00       |

- Made-up numbers.
- Protocol: superb (published steps and sampling).
- pending: there is no result of ours yet.
- ±: half of the 95 % confidence interval of the mean, over 2 seeds of the heads (Student's t).
- Bold: better than every other row by more than the 95 % interval of their difference; not corrected for many rows.
"""


@pytest.fixture
def recipe():
    points = []
    for alpha, (model, label) in MODELS.items():
        finetuning, method = model.split("/")
        points.append(CurvePoint(alpha=alpha, encoder="e", finetuning=finetuning, method=method, label=label))
    return CurveRecipe(title="A curve", note="Made-up numbers.", points=points, tasks=("pr", "sid"), start="Pre-trained", end="Stable-FT")


@pytest.fixture
def cells(cells_of):
    numbers = ({"PR": [69.9, 70.1], "SID": 60}, {"PR": [50, 50], "SID": 65}, {"SID": 40})
    return [
        path for (model, _), values in zip(MODELS.values(), numbers, strict=True) for path in cells_of(model, **values, protocol="superb")
    ]


def test_the_files_of_a_curve(recipe, cells, tmp_path):
    build_curve(recipe, cells, tmp_path / "a", tmp_path / "a", "c")
    (tmp_path / "c.json").write_text(recipe.model_dump_json())
    shown = CliRunner().invoke(app, ["report", "alpha", str(tmp_path / "c.json"), *map(str, cells), "--out", str(tmp_path / "b")])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith(MARKDOWN)
    assert (tmp_path / "a/c.md").read_text() == MARKDOWN
    frame = pd.read_csv(tmp_path / "a/c.csv")
    assert list(frame.columns[:5]) == ["alpha", "task", "metric", "mean", "interval_95"]
    assert frame["alpha"].tolist() == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]
    assert frame["metric"].tolist() == ["PR", "SID"] * 3
    assert frame["mean"].fillna(-1).tolist() == [70.0, 60.0, 50.0, 65.0, -1, 40.0]
    assert frame["interval_95"][0] == pytest.approx(1.2706205, rel=1e-6)
    assert frame["method"].tolist()[::2] == ["pretrained", "speech_ft@0.50", "stable_ft"]
    for suffix in ("csv", "md", "png", "svg"):
        assert (tmp_path / f"a/c.{suffix}").read_bytes() == (tmp_path / f"b/c.{suffix}").read_bytes()


def test_the_figure_marks_ends_and_notes(recipe, cells, tmp_path, texts_of):
    build_curve(recipe, cells, tmp_path, tmp_path, "c")
    texts = texts_of(tmp_path / "c.svg")
    assert {"A curve", "Made-up numbers.", "PR PER %", "SID acc %", "alpha", "better →", "← better"} <= set(texts)
    for expected in ("Pre-trained (alpha 0)", "Speech-FT", "Stable-FT (alpha 1)", "alpha 0.25, the paper's"):
        assert texts.count(expected) == 1
    assert "Pending: 1 of 6 points." in " ".join(texts)
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_the_panel_holds_line_band_and_dots(recipe, cells):
    table = TableRecipe(title="t", rows=recipe.points, tasks=recipe.tasks)
    first, second = draw_curve(recipe, arrange(table, existing_cells(cells), None, "c", scores=False)).axes
    lines = {tuple(line.get_xdata()): line for line in first.get_lines()}
    assert lines[(0.0, 0.5)].get_ydata().tolist() == [70.0, 50.0]
    assert lines[(0.25, 0.25)].get_linestyle() == ":"
    (band,) = first.collections
    corners = {(float(alpha), round(float(value), 6)) for alpha, value in band.get_paths()[0].vertices}
    assert corners == {(0.0, 68.72938), (0.0, 71.27062), (0.5, 50.0)}
    assert not second.collections
    assert (0.0, 0.5, 1.0) in {tuple(line.get_xdata()) for line in second.get_lines()}
    assert first.get_xlim() == (0.0, 1.0)
    # The fine-tuned model has no PR yet, so it is marked in one panel only.
    ends = [
        [(line.get_marker(), *line.get_xdata()) for line in panel.get_lines() if len(line.get_xdata()) == 1] for panel in (first, second)
    ]
    assert ends == [[("o", 0.0)], [("o", 0.0), ("s", 1.0)]]


def test_a_curve_over_the_four_tasks_has_superb_s(recipe, cells_of, tmp_path):
    numbers = {"PR": 5.17, "SID": 81.86, "ER": 64.99, "SF_F1": 88.54, "SF_CER": 24.70}
    four = recipe.model_copy(update={"tasks": ("pr", "sid", "er", "sf")})
    table = build_curve(four, cells_of("none/pretrained", **numbers, protocol="superb"), tmp_path, None, "c")
    assert [column.metric.key for column in table.columns] == [*numbers, "SUPERB_S"]
    assert table.columns[-1].entries[0].mean == pytest.approx(870.20, abs=0.01)
    frame = pd.read_csv(tmp_path / "c.csv")
    assert frame[frame["metric"] == "SUPERB_S"]["status"].tolist() == ["measured", "pending", "pending"]
    quick = [path for model, _ in MODELS.values() for path in cells_of(model, **numbers)]
    assert "SUPERB_S" not in [column.metric.key for column in build_curve(four, quick, tmp_path, None, "c").columns]


def test_missing_and_broken_cells(recipe, cells, tmp_path):
    build_curve(recipe, [], tmp_path, tmp_path, "c")
    assert (tmp_path / "c.md").read_text().count("| pending") == 6
    cells[0].write_text("{")
    with pytest.raises(TableError, match=str(cells[0])):
        build_curve(recipe, cells, tmp_path / "out", tmp_path / "out", "c")
    assert not (tmp_path / "out").exists()
