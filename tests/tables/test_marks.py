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

ROUNDED = "PR: the rows are in different precisions; rounding is a part of their differences. bf16 are Stable-FT (e, f)."


@pytest.fixture
def cells(cells_of):
    """KS of two models in bf16, PR of one of them alone, SID of none."""
    values = [80, 81]
    cells = cells_of("none/pretrained", PR=values, SID=values) + cells_of("none/pretrained", KS=values, precision="bf16")
    cells += cells_of("f/stable_ft", SID=values) + cells_of("f/stable_ft", PR=values, KS=values, precision="bf16")
    return cells + cells_of("f/speech_ft", PR=values, SID=values)


@pytest.fixture
def formats(tmp_path):
    def build(*given):
        build_table(*given, tmp_path / "out", "t")
        texts = {suffix: (tmp_path / f"out/t.{suffix}").read_text() for suffix in ("md", "tex", "html")}
        return texts, pd.read_csv(tmp_path / "out/t.csv")

    return build


def test_rows_in_bf16_are_marked_in_every_format(make_recipe, cells, formats):
    texts, frame = formats(make_recipe("pr", "ks", "sid"), cells, None)
    for suffix, mark in (("md", "†"), ("tex", r"$\dagger$"), ("html", "†")):
        for present in (f"Pre-trained{mark}", f"Stable-FT{mark}", f"{mark}: the encoder ran in bf16 (PR, KS), elsewhere in fp32.", ROUNDED):
            assert present in texts[suffix]
        for absent in (f"Speech-FT{mark}", "KS: the rows"):
            assert absent not in texts[suffix]
    precision = frame.set_index(["method", "metric"])["precision"]
    assert (precision["stable_ft", "PR"], precision["pretrained", "PR"], precision["stable_ft", "KS"]) == ("bf16", "fp32", "bf16")
    assert pd.isna(precision["speech_ft", "KS"])
    # Names stay as they are where programs read them.
    assert not frame["label"].str.contains("†").any()


def test_tables_in_fp32_say_nothing_about_it(make_recipe, cells, formats):
    for text in formats(make_recipe("sid"), cells, None)[0].values():
        assert not [word for word in ("†", "dagger", "bf16") if word in text]


def test_differences_curves_and_figures_have_the_marks_too(make_recipe, cells, tmp_path, three_rows):
    recipe = make_recipe("pr", "sid", differences=((1, 0), (2, 0)))
    build_differences(recipe, cells, tmp_path, None, "d")
    text = (tmp_path / "d.md").read_text()
    for present in ("| Stable-FT minus Pre-trained† |", "| Speech-FT minus Pre-trained  |", ROUNDED):
        assert present in text
    drawn = figure.draw_table(arrange(recipe, existing_cells(cells), None, "t"))
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == ["Pre-trained", "Stable-FT†", "Speech-FT"]
    points = tuple(CurvePoint(alpha=alpha, **row.model_dump()) for alpha, row in zip((0, 1), three_rows, strict=False))
    curve = CurveRecipe(title="A curve", points=points, tasks=("pr",), start="Pre-trained", end="Stable-FT")
    table = build_curve(curve, cells, tmp_path, None, "c")
    assert "| Stable-FT†" in (tmp_path / "c.md").read_text()
    assert list(pd.read_csv(tmp_path / "c.csv")["precision"]) == ["fp32", "bf16"]
    assert any("different precisions" in text.get_text() for text in draw_curve(curve, table).texts)


@pytest.mark.parametrize("source", ["first_hand", "second_hand", None])
def test_numbers_at_second_hand_are_marked_in_every_format(make_recipe, cells, formats, write_published, source):
    lines = ["p,e,none,pretrained,PR,5.17,first_hand", f"p,e,f,stable_ft,PR,29.08,{source}", "p,e,f,speech_ft,PR,,"]
    if source is None:
        path = write_published(*(line.rpartition(",")[0] for line in lines))
    else:
        path = write_published(*lines, header="table,encoder,finetuning,method,metric,value,source")
    texts, frame = formats(make_recipe("pr", published="p"), cells, path)
    for suffix, mark in (("md", "‡"), ("tex", r"$\ddagger$"), ("html", "‡")):
        marked = source == "second_hand"
        assert f"(29.08{mark if marked else ''}, +51.42)" in texts[suffix]
        assert "(5.17, +75.33)" in texts[suffix]
        assert (f"{mark}: published number at second hand" in texts[suffix]) == (mark in texts[suffix]) == marked
    assert list(frame["published_source"].fillna("")) == (["first_hand", source, ""] if source else [""] * 3)


def test_scores_at_second_hand_are_marked_too(make_recipe, formats, write_published):
    path = write_published("p,e,f,stable_ft,SUPERB_S,651.42,second_hand", header="table,encoder,finetuning,method,metric,value,source")
    assert "pending (651.42‡)" in formats(make_recipe("pr", "sid", "er", "sf", published="p"), [], path)[0]["md"]
