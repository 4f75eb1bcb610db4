"""What figures draw: axes, looks of methods, styles, percent."""

import pytest
from conftest import ROOT
from matplotlib.image import imread

from speechft.recipes.tables import TableRecipe, TableRow
from speechft.tables.arrange import arrange
from speechft.tables.canvas import looks, panels_across, style_of
from speechft.tables.cells import existing_cells
from speechft.tables.figure import axis_limits, build_figure, draw_table
from speechft.tables.table import Column, Entry
from speechft.tables.training import read_training_log, training_figure
from speechft.tasks.metric import Metric

ACCURACY = Metric("KS", "acc", "ks", higher_is_better=True)


def column(*means, width=None, metric=ACCURACY):
    entries = [Entry(values=(mean,)) if width is None else Entry(values=(mean - width, mean + width)) for mean in means]
    return Column(metric, tuple(entries))


@pytest.mark.parametrize(
    ("means", "outside"),
    [
        ((70, 71, 72, 73), set()),
        ((3.6, 70, 71, 72), {0}),
        ((70, 99, 71, 72), {1}),
        ((10, 70, 70.5, 71, 80), {0, 4}),
        # Of three values none is alone.
        ((3.6, 70, 71), set()),
        ((50, 60, 70, 80), set()),
    ],
)
def test_a_value_that_would_squash_the_others_is_left_off_the_axis(means, outside):
    low, high, found = axis_limits(column(*means))
    assert found == outside
    assert all(low < mean < high for row, mean in enumerate(means) if row not in outside)
    assert not any(low < means[row] < high for row in outside)


def test_axes_end_near_what_a_metric_can_be():
    low, high, _ = axis_limits(column(1, 2, 99, 98, width=30))
    assert -10 < low < 0
    assert 100 < high < 110
    signed = Metric("KS", "acc", "ks", higher_is_better=True, signed=True)
    assert axis_limits(column(-20, 5, 8, metric=signed))[0] < -20


def test_a_method_looks_the_same_whatever_is_beside_it():
    few, many = looks(["pretrained", "ties"]), looks(["pretrained", "stable_ft", "speech_ft", "speech_ft@0.50", "ties"])
    assert few["ties"] == many["ties"]
    assert many["speech_ft@0.50"] == many["speech_ft"]
    assert len({*many.values()}) == 4
    names = [f"method{number}" for number in range(18)]
    assert len({*looks(names).values()}) == len(names)


@pytest.mark.parametrize(("count", "most", "across"), [(1, 5, 1), (4, 5, 4), (6, 5, 3), (10, 5, 5), (12, 5, 4), (13, 5, 5), (3, 3, 3)])
def test_few_places_of_a_page_stay_empty(count, most, across):
    assert panels_across(count, most) == across


def test_rows_of_several_encoders_name_them(cells_of):
    rows = [TableRow(encoder=name, finetuning="none", method="pretrained", label="Pre-trained") for name in "ab"]
    recipe = TableRecipe(title="t", rows=tuple(rows), tasks=("ks",))
    cells = [*cells_of("a/none/pretrained", KS=50), *cells_of("b/none/pretrained", KS=60)]
    (panel,) = draw_table(arrange(recipe, existing_cells(cells), None, "t")).axes
    assert [text.get_text() for text in panel.get_yticklabels()] == ["Pre-trained (a)", "Pre-trained (b)"]


def test_the_style_for_papers_is_as_wide_as_a_column_and_has_no_title(tmp_path, cells_of):
    row = TableRow(encoder="e", finetuning="none", method="pretrained", label="Pre-trained")
    recipe = TableRecipe(title="A title", note="A note", rows=(row,), tasks=("pr", "ks", "er"))
    cells = cells_of("e/none/pretrained", PR=5, KS=50, ER=60)
    build_figure(recipe, cells, tmp_path / "screen.png")
    with style_of("paper"):
        build_figure(recipe, cells, tmp_path / "paper.png")
    assert imread(tmp_path / "paper.png").shape[1] == round(3.4 * 200)
    assert imread(tmp_path / "screen.png").shape[1] > 1000
    text = {name: (tmp_path / f"{name}.svg").read_text() for name in ("screen", "paper")}
    assert "A title" in text["screen"]
    assert "A note" in text["screen"]
    assert "A title" not in text["paper"]
    assert "KS acc %" in text["paper"], "text in SVG can be searched"


def test_scores_on_dev_are_percent_where_tables_have_percent(tmp_path):
    log = ROOT / "docs/results/recorded/finetuning.csv"
    assert read_training_log(log, "x").validation["PR"][1][-1] == pytest.approx(27.6038)
    titles = [panel.get_title(loc="left") for panel in training_figure([log])().axes]
    assert "PR PER % on dev" in titles
