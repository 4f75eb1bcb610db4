"""The files of a table: a snapshot of the Markdown, and that the other formats say the same."""

import html.parser
import math
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest

from speechft.errors import TableError
from speechft.files.escapes import latex_escape, markdown_escape
from speechft.recipes.tables import TableRecipe, TableRow
from speechft.tables.build import build_table
from speechft.tables.figure import build_figure

MARKDOWN = """\
# A table

| method      | encoder | fine-tuning | PR PER % ↓             | KS acc % ↑       | QbE MTWV ↑ |
| ----------- | ------- | ----------- | ---------------------: | ---------------: | ---------: |
| Pre-trained | e       | none        | 5.20 (5.17, +0.03)     | **96.50 ± 6.35** | 0.0687     |
| Stable-FT   | e       | f           | pending (5.22)         | **96.50**        | pending    |
| Speech-FT   | e       | f           | **3.94** (3.94, +0.00) | 95.25            | **0.1011** |

- Made-up numbers.
- Protocol: superb (published steps and sampling).
- Entries: ours (published, ours minus published).
- pending: there is no result of ours yet.
- ±: half of the 95 % confidence interval of the mean over 2 seeds of the heads (Student's t).
- Bold: best of our values in a column.
"""


@pytest.fixture
def small_table(make_recipe, write_cell, write_published):
    """Recipe, cells and published numbers of the snapshot."""
    pretrained, stable, merged = ("e", "none", "pretrained"), ("e", "f", "stable_ft"), ("e", "f", "speech_ft")
    cells = [
        write_cell(*pretrained, "pr", {"PR": [5.2]}, protocol="superb"),
        write_cell(*pretrained, "ks", {"KS": [96.0, 97.0]}, protocol="superb"),
        write_cell(*pretrained, "qbe", {"QbE": [0.0687]}, protocol="superb"),
        write_cell(*stable, "ks", {"KS": [96.5]}, protocol="superb"),
        write_cell(*merged, "pr", {"PR": [3.941]}, protocol="superb"),
        write_cell(*merged, "ks", {"KS": [95.25]}, protocol="superb"),
        write_cell(*merged, "qbe", {"QbE": [0.1011]}, protocol="superb"),
    ]
    published = write_published("p,e,none,pretrained,PR,5.17", "p,e,f,stable_ft,PR,5.22", "p,e,f,speech_ft,PR,3.94")
    return make_recipe(("pr", "ks", "qbe"), note="Made-up numbers.", published="p"), cells, published


def test_markdown_snapshot(small_table, tmp_path):
    build_table(*small_table, tmp_path / "out", "t")
    assert (tmp_path / "out/t.md").read_text() == MARKDOWN


def test_csv_has_every_number(small_table, tmp_path):
    build_table(*small_table, tmp_path / "out", "t")
    frame = pd.read_csv(tmp_path / "out/t.csv", keep_default_na=False, na_values=[""], dtype={"values": str})
    assert len(frame) == 9
    first, pending, seeds = frame.iloc[0], frame.iloc[3], frame.iloc[1]
    assert (first["method"], first["metric"], first["value"], first["published"]) == ("pretrained", "PR", 5.2, 5.17)
    assert first["difference"] == pytest.approx(0.03)
    assert (first["finetuning"], first["protocol"], first["status"], first["seeds"]) == ("none", "superb", "measured", 1)
    assert math.isnan(first["interval_95"])
    assert (pending["status"], pending["published"], pending["seeds"]) == ("pending", 5.22, 0)
    assert math.isnan(pending["value"])
    assert math.isnan(pending["difference"])
    assert (seeds["values"], seeds["seeds"]) == ("96.0;97.0", 2)
    assert seeds["interval_95"] == pytest.approx(12.706205 * 0.5, rel=1e-6)
    assert seeds["std"] == pytest.approx(0.5**0.5)


def test_latex_is_booktabs_with_bold_best(small_table, tmp_path):
    build_table(*small_table, tmp_path / "out", "t")
    text = (tmp_path / "out/t.tex").read_text()
    assert r"PR PER \% $\downarrow$ & KS acc \% $\uparrow$" in text
    assert r"Pre-trained & e & none & 5.20 (5.17, +0.03) & \textbf{96.50 $\pm$ 6.35} & 0.0687 \\" in text
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in rows} == {5}
    assert text.count("{") == text.count("}")
    assert "Made-up numbers." in text
    assert text.isascii()


def test_html_is_well_formed_and_complete(small_table, tmp_path):
    build_table(*small_table, tmp_path / "out", "t")
    text = (tmp_path / "out/t.html").read_text()
    opened = []

    class Checker(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag != "meta":
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Checker().feed(text)
    assert opened == []
    assert "<td><strong>3.94</strong> (3.94, +0.00)</td>" in text
    assert text.count("<tr>") == 4
    assert "Made-up numbers." in text


def test_names_with_special_characters_are_shown_as_they_are(write_cell, tmp_path):
    row = TableRow(encoder="a_b", finetuning="none", method="pretrained", label="50 % & <b>|*x* $1")
    recipe = TableRecipe(title="A & B", note="{x}_y", rows=(row,), tasks=("ks",))
    build_table(recipe, [], None, tmp_path / "out", "t")
    assert r"50 % &amp; &lt;b&gt;\|\*x\* \$1 |" in (tmp_path / "out/t.md").read_text()
    assert r"50 \% \& \textless{}b\textgreater{}|{*}x{*} \$1 & a\_b & none & pending" in (tmp_path / "out/t.tex").read_text()
    assert "<td>50 % &amp; &lt;b&gt;|*x* $1</td>" in (tmp_path / "out/t.html").read_text()
    assert latex_escape("{x}_y\\") == r"\{x\}\_y\textbackslash{}"
    assert markdown_escape("hubert_base") == "hubert_base"


def test_files_are_the_same_each_time(small_table, tmp_path):
    for name in ("a", "b"):
        build_table(*small_table, tmp_path / name, "t")
        build_figure(small_table[0], small_table[1], tmp_path / name / "t.png")
    for suffix in ("csv", "md", "tex", "html", "png", "svg"):
        assert (tmp_path / f"a/t.{suffix}").read_bytes() == (tmp_path / f"b/t.{suffix}").read_bytes()


def test_cells_that_are_not_there_are_pending(small_table, tmp_path):
    recipe, cells, published = small_table
    table = build_table(recipe, [*cells[:1], tmp_path / "absent.json", cells[0]], published, tmp_path / "out", "t")
    assert [entry.mean for entry in table.columns[0].entries] == [5.2, None, None]


def test_nothing_is_written_when_a_cell_is_broken(small_table, tmp_path):
    recipe, cells, published = small_table
    cells[-1].write_text("{")
    with pytest.raises(TableError, match=str(cells[-1])):
        build_table(recipe, cells, published, tmp_path / "out", "t")
    with pytest.raises(TableError, match=str(cells[-1])):
        build_figure(recipe, cells, tmp_path / "out/t.png")
    assert not (tmp_path / "out").exists()


def test_published_numbers_that_are_asked_for_but_not_given(small_table, tmp_path):
    recipe, cells, _ = small_table
    with pytest.raises(TableError, match="no file of published numbers"):
        build_table(recipe, cells, None, tmp_path / "out", "t")


def svg_texts(recipe, cells, path, monkeypatch):
    """All texts of the figure; the real one draws letters as paths."""
    from speechft.tables import canvas

    monkeypatch.setitem(canvas.STYLE, "svg.fonttype", "none")
    build_figure(recipe, cells, path)
    return texts_of(path.with_suffix(".svg"))


def texts_of(svg):
    root = ElementTree.parse(svg).getroot()
    return [" ".join("".join(node.itertext()).split()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_figure_shows_values_direction_and_notes(small_table, tmp_path, monkeypatch):
    texts = svg_texts(small_table[0], small_table[1], tmp_path / "t.png", monkeypatch)
    for expected in ("A table", "Made-up numbers.", "PR PER %", "Stable-FT", "96.50", "0.1011", "pending", "5.20"):
        assert expected in texts
    assert texts.count("better →") == 2
    assert texts.count("← better") == 1
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_figure_of_several_finetunings_and_of_nothing(tmp_path, monkeypatch):
    rows = [
        ("e", "none", "pretrained"),
        ("e", "f", "stable_ft"),
        ("e", "g", "stable_ft"),
        ("d", "none", "pretrained"),
        ("d", "f", "stable_ft"),
    ]
    recipe = TableRecipe(
        title="Several",
        rows=tuple(TableRow(encoder=encoder, finetuning=tuning, method=method, label=method) for encoder, tuning, method in rows),
        tasks=("ks", "sid", "pr", "er", "ic"),
    )
    texts = svg_texts(recipe, [], tmp_path / "t.png", monkeypatch)
    assert texts.count("pending") == 5 * 6  # also of the score over PR, SID and ER
    assert texts.count("f") == 2 * 2  # a heading in each line of panels for each encoder
    assert texts.count("g") == 2


def test_pending_cells_come_with_the_command_that_makes_them(make_recipe, write_cell, tmp_path):
    cells = [write_cell("e", "none", "pretrained", task, {task.upper(): [50.0]}) for task in ("pr", "sid")]
    cells += [write_cell("e", "f", "stable_ft", "pr", {"PR": [40.0]})]
    command = "snakemake --cores all --configfile my.yaml -- results/cells/"
    build_table(make_recipe(("pr", "sid"), command=command), cells, None, tmp_path / "out", "t")
    expected = [f"{command}e/f/stable_ft/sid.json", f"{command}e/f/speech_ft/{{pr,sid}}.json"]
    text = (tmp_path / "out/t.md").read_text()
    assert text[text.index("```") :] == "\n".join(["```", *expected, "```", ""])
    assert (tmp_path / "out/t.tex").read_text().endswith("".join(f"% {line}\n" for line in expected))
    assert "\n".join(expected) in (tmp_path / "out/t.html").read_text()
    frame = pd.read_csv(tmp_path / "out/t.csv", keep_default_na=False)
    by_place = {(row.method, row.metric): row.command for row in frame.itertuples()}
    assert by_place[("speech_ft", "SID")] == f"{command}e/f/speech_ft/sid.json"
    assert by_place[("pretrained", "SID")] == by_place[("stable_ft", "PR")] == ""
    for end in ("md", "tex", "html"):
        assert "none/pretrained" not in (tmp_path / f"out/t.{end}").read_text()


def test_a_complete_table_and_one_of_unknown_origin_have_no_commands(make_recipe, tmp_path):
    build_table(make_recipe(("pr",)), [], None, tmp_path / "out", "t")
    for end in ("md", "tex", "html", "csv"):
        assert "snakemake" not in (tmp_path / f"out/t.{end}").read_text()
