"""Marks of rows in bf16 and of published numbers at second hand, in every format."""

import pandas as pd
import pytest

from speechft.recipes.tables import CurvePoint, CurveRecipe
from speechft.tables import figure
from speechft.tables.arrange import arrange
from speechft.tables.build import build_table
from speechft.tables.cells import existing_cells
from speechft.tables.curve import build_curve, draw_curve
from speechft.tables.differences import build_differences

HEADER = "table,encoder,finetuning,method,metric,value,source"
ROUNDED = "PR: the rows are in different precisions; rounding is a part of their differences. bf16 are Stable-FT (e, f)."


@pytest.fixture
def cells(write_cell):
    """KS of both models in bf16, PR of one alone, SID of none."""
    rows = (("none", "pretrained", {"ks": "bf16"}), ("f", "stable_ft", {"ks": "bf16", "pr": "bf16"}), ("f", "speech_ft", {}))
    return [
        write_cell("e", finetuning, method, task, {task.upper(): [80.0, 81.0]}, precision=bf16.get(task, "fp32"))
        for finetuning, method, bf16 in rows
        for task in ("pr", "ks", "sid")
        if (task, method) != ("ks", "speech_ft")
    ]


@pytest.fixture
def formats(tmp_path):
    def build(*given):
        build_table(*given, tmp_path / "out", "t")
        return {suffix: (tmp_path / f"out/t.{suffix}").read_text() for suffix in ("md", "tex", "html")} | {
            "csv": pd.read_csv(tmp_path / "out/t.csv")
        }

    return build


def test_rows_in_bf16_are_marked_in_every_format(make_recipe, cells, formats):
    found = formats(make_recipe(("pr", "ks", "sid")), cells, None)
    for suffix, mark in (("md", "†"), ("tex", r"$\dagger$"), ("html", "†")):
        text = found[suffix]
        assert f"Pre-trained{mark}" in text
        assert f"Stable-FT{mark}" in text
        assert f"Speech-FT{mark}" not in text
        assert f"{mark}: the encoder ran in bf16 (PR, KS), elsewhere in fp32." in text
        assert ROUNDED in text
        assert "KS: the rows" not in text
    frame = found["csv"].set_index(["method", "metric"])["precision"]
    assert (frame["stable_ft", "PR"], frame["pretrained", "PR"], frame["stable_ft", "KS"]) == ("bf16", "fp32", "bf16")
    assert pd.isna(frame["speech_ft", "KS"])
    # Names stay as they are where programs read them.
    assert not found["csv"]["label"].str.contains("†").any()


def test_tables_in_fp32_say_nothing_about_it(make_recipe, cells, formats):
    found = formats(make_recipe(("sid",)), cells, None)
    for suffix in ("md", "tex", "html"):
        assert "†" not in found[suffix]
        assert "dagger" not in found[suffix]
        assert "bf16" not in found[suffix]


def test_differences_curves_and_figures_have_the_marks_too(make_recipe, cells, tmp_path, three_rows):
    recipe = make_recipe(("pr", "sid"), differences=((1, 0), (2, 0)))
    build_differences(recipe, cells, tmp_path / "differences", None, "t")
    text = (tmp_path / "differences/t.md").read_text()
    assert "| Stable-FT minus Pre-trained† |" in text
    assert "| Speech-FT minus Pre-trained  |" in text
    assert ROUNDED in text
    table = arrange(recipe, existing_cells(cells), None, "t")
    drawn = figure.draw_table(table)
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == ["Pre-trained", "Stable-FT†", "Speech-FT"]
    points = tuple(CurvePoint(alpha=alpha, **row.model_dump()) for alpha, row in zip((0, 1), three_rows, strict=False))
    curve = CurveRecipe(title="A curve", points=points, tasks=("pr",), start="Pre-trained", end="Stable-FT")
    table = build_curve(curve, cells, tmp_path / "curve", None, "c")
    assert "| Stable-FT†" in (tmp_path / "curve/c.md").read_text()
    assert list(pd.read_csv(tmp_path / "curve/c.csv")["precision"]) == ["fp32", "bf16"]
    assert any("different precisions" in text.get_text() for text in draw_curve(curve, table).texts)


def test_numbers_at_second_hand_are_marked_in_every_format(make_recipe, cells, formats, write_published):
    lines = ("p,e,none,pretrained,PR,5.17,first_hand", "p,e,f,stable_ft,PR,29.08,second_hand", "p,e,f,speech_ft,PR,,")
    found = formats(make_recipe(("pr",), published="p"), cells, write_published(*lines, header=HEADER))
    for suffix, mark in (("md", "‡"), ("tex", r"$\ddagger$"), ("html", "‡")):
        assert f"(29.08{mark}, +51.42)" in found[suffix]
        assert "(5.17, +75.33)" in found[suffix]
        assert f"{mark}: published number at second hand" in found[suffix]
    assert list(found["csv"]["published_source"].fillna("")) == ["first_hand", "second_hand", ""]


@pytest.mark.parametrize("source", ["first_hand", None])
def test_without_numbers_at_second_hand_there_is_no_mark(make_recipe, cells, formats, write_published, source):
    line = "p,e,f,stable_ft,PR,29.08"
    path = write_published(line) if source is None else write_published(f"{line},{source}", header=HEADER)
    found = formats(make_recipe(("pr",), published="p"), cells, path)
    assert "(29.08, +51.42)" in found["md"]
    assert "‡" not in found["md"]
    assert "ddagger" not in found["tex"]


def test_scores_at_second_hand_are_marked_too(make_recipe, formats, write_published):
    path = write_published("p,e,f,stable_ft,SUPERB_S,651.42,second_hand", header=HEADER)
    assert "pending (651.42‡)" in formats(make_recipe(("pr", "sid", "er", "sf"), published="p"), [], path)["md"]
