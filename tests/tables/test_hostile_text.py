"""Titles, labels, notes, names and commands that would leave their place in a table, a comment or a block of code."""

import csv
import io
import re

import pytest
from matplotlib.image import imread

from speechft.analysis.report import build_analysis
from speechft.files.escapes import is_control
from speechft.recipes.tables import AnalysisTableRecipe, CurvePoint, CurveRecipe, TableRecipe, TableRow
from speechft.tables.build import build_table
from speechft.tables.curve import build_curve
from speechft.tables.differences import build_differences
from speechft.tables.figure import build_figure

BREAKS = "line\n\n# Heading\n| a |\n```\n\\input{evil}\n<script>x</script>\x1b[31m\x9b\u2028"
FORMULA = '=HYPERLINK("http://x")'


def row(method, label, encoder="e"):
    return TableRow(encoder=encoder, finetuning="f", method=method, label=label)


@pytest.fixture
def recipe():
    rows = (row("a", FORMULA), row("b", BREAKS), row("c", "[2pt] *$x$", "e; touch X\x1b"), row("d", "@sum"))
    return TableRecipe(title=BREAKS, note=BREAKS, rows=rows, tasks=("ks",), command=f"{BREAKS}\n```\n", differences=((1, 0),))


def check(folder, name):
    for path in (path for suffix in ("md", "tex", "html", "csv") for path in folder.rglob(f"{name}.{suffix}")):
        text = path.read_text(encoding="utf-8")
        assert not any(is_control(character) for character in text if character != "\n"), path
        outside = re.sub("^```\n.*?^```", "", text, flags=re.M | re.S)
        scripts = 1 if path.suffix == ".html" else 0  # the page's own
        assert outside.count("<script") == scripts or path.suffix in (".csv", ".tex"), path
        if path.suffix == ".md":
            assert len(re.findall("^#", text, flags=re.M)) == 1
            assert len(re.findall("^```", text, flags=re.M)) in (0, 2)
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}) == 1
        if path.suffix == ".tex":
            assert "\n\n" not in text
            assert not re.search(r"^(?!%).*\\input|^[\[*]", text, flags=re.M)
        if path.suffix == ".csv":
            records = list(csv.DictReader(io.StringIO(text)))
            assert len(text.splitlines()) == len(records) + 1
            assert not [cell for record in records for cell in record.values() if cell.startswith(("=", "@", "+"))]


def test_a_table_in_every_format(recipe, cells_of, tmp_path):
    cells = cells_of("f/a", KS=[50, 60])
    build_table(recipe, cells, None, tmp_path / "out", "t", {"e/f/b/ks": BREAKS})
    build_differences(recipe, cells, tmp_path / "out/differences", tmp_path / "figures", "t")
    check(tmp_path / "out", "t")
    build_figure(recipe, cells, tmp_path / "figures/t.png")
    assert "'e; touch X" in (tmp_path / "out/t.md").read_text()


def test_numbers_stay_numbers(recipe, cells_of, tmp_path):
    cells = cells_of("f/a", KS=[50, 60]) + cells_of("f/b", KS=[20, 30])
    build_differences(recipe, cells, tmp_path / "out", None, "t")
    build_table(recipe, cells, None, tmp_path / "tables", "t")
    difference, first = (next(csv.DictReader((tmp_path / folder / "t.csv").open(newline=""))) for folder in ("out", "tables"))
    assert float(difference["difference"]) == -30.0
    assert (first["values"], first["label"]) == ("50.0;60.0", f"'{FORMULA}")


def test_a_curve_and_an_analysis(tmp_path):
    points = tuple(CurvePoint(**row(f"m@{alpha}", BREAKS).model_dump(), alpha=alpha) for alpha in (0.0, 0.5, 1.0))
    curve = CurveRecipe(title=BREAKS, note="# H\n\n# H", points=points, tasks=("ks",), start=BREAKS, end="$\\frac$", command=BREAKS)
    build_curve(curve, [], tmp_path, tmp_path, "c")
    check(tmp_path, "c")
    analysis = AnalysisTableRecipe(title=BREAKS, note="- x\n# H", rows=(row("a", FORMULA), row("b", BREAKS)))
    build_analysis(analysis, [], tmp_path, tmp_path, "s")
    check(tmp_path, "s")


def test_a_figure_of_many_rows_says_what_it_leaves_out(tmp_path):
    rows = tuple(row(f"m{number}", f"model {number}") for number in range(2000))
    build_figure(TableRecipe(title="t " * 5000, note="n " * 50000, rows=rows, tasks=("ks",)), [], tmp_path / "t.png")
    height, width, _ = imread(tmp_path / "t.png").shape
    assert height <= 20_000
    assert width < 3000
    assert re.search(r"Only the first \d+ of 2000 rows are drawn", (tmp_path / "t.svg").read_text())
