"""The files of a table: a snapshot of the Markdown, and that the other formats say the same."""

import html.parser

import pandas as pd
import pytest

from speechft.errors import TableError
from speechft.files.escapes import latex_escape, markdown_escape
from speechft.recipes.tables import TableRecipe, TableRow
from speechft.tables.build import build_table
from speechft.tables.figure import build_figure

MARKDOWN = """\
# A table

| method      | encoder | fine-tuning | PR PER % ↓         | KS acc % ↑   | QbE MTWV ↑          |
| ----------- | ------- | ----------- | -----------------: | -----------: | ------------------: |
| Pre-trained | e       | none        | 5.20 (5.17, +0.03) | 96.50 ± 6.35 | 0.0687 ± 0.0000     |
| Stable-FT   | e       | f           | pending (5.22)     | 96.50        | pending             |
| Speech-FT   | e       | f           | 3.94 (3.94, +0.00) | 95.25        | **0.1011 ± 0.0000** |

- Made-up numbers.
- Protocol: superb (published steps and sampling).
- Entries: ours (published, ours minus published).
- pending: there is no result of ours yet.
- ±: half of the 95 % confidence interval of the mean, over 2 seeds of the heads (Student's t).
- Bold: better than every other row by more than the 95 % interval of their difference; not corrected for many rows.
"""


@pytest.fixture
def small_table(make_recipe, cells_of, write_published):
    """Recipe, cells and published numbers of the snapshot."""
    cells = cells_of("none/pretrained", PR=5.2, KS=[96, 97], QbE=[0.0687, 0.0687], protocol="superb")
    cells += cells_of("f/stable_ft", KS=96.5, protocol="superb")
    cells += cells_of("f/speech_ft", PR=3.941, KS=95.25, QbE=[0.1011, 0.1011], protocol="superb")
    published = write_published("p,e,none,pretrained,PR,5.17", "p,e,f,stable_ft,PR,5.22", "p,e,f,speech_ft,PR,3.94")
    return make_recipe("pr", "ks", "qbe", note="Made-up numbers.", published="p"), cells, published


@pytest.fixture
def built(small_table, tmp_path):
    build_table(*small_table, tmp_path / "out", "t")
    return lambda suffix: (tmp_path / f"out/t.{suffix}").read_text()


def test_markdown_snapshot(built):
    assert built("md") == MARKDOWN


def test_csv_has_every_number(built, tmp_path):
    frame = pd.read_csv(tmp_path / "out/t.csv", keep_default_na=False, na_values=[""], dtype={"values": str})
    assert len(frame) == 9
    first, seeds, pending = frame.iloc[0], frame.iloc[1], frame.iloc[3]
    assert (first["method"], first["metric"], first["value"], first["published"]) == ("pretrained", "PR", 5.2, 5.17)
    assert first["difference"] == pytest.approx(0.03)
    assert (first["finetuning"], first["protocol"], first["status"], first["seeds"]) == ("none", "superb", "measured", 1)
    assert (pending["status"], pending["published"], pending["seeds"]) == ("pending", 5.22, 0)
    assert pd.isna([first["interval_95"], pending["value"], pending["difference"]]).all()
    assert (seeds["values"], seeds["seeds"]) == ("96.0;97.0", 2)
    assert (seeds["interval_95"], seeds["std"]) == (pytest.approx(12.706205 * 0.5, rel=1e-6), pytest.approx(0.5**0.5))


def test_latex_is_booktabs_with_bold_best(built):
    text = built("tex")
    assert r"PR PER \% $\downarrow$ & KS acc \% $\uparrow$" in text
    assert r"Pre-trained & e & none & 5.20 (5.17, +0.03) & 96.50 $\pm$ 6.35 & 0.0687 $\pm$ 0.0000 \\" in text
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    assert {line.count(" & ") for line in text.splitlines() if line.endswith(r"\\")} == {5}
    assert text.count("{") == text.count("}")
    assert "Made-up numbers." in text
    assert text.isascii()


def test_html_is_well_formed_and_complete(built):
    opened = []

    class Checker(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag not in ("meta", "link", "input"):
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Checker().feed(built("html"))
    assert opened == []
    entry = '<span class="number">3.94</span> <span class="beside">(3.94, +0.00)</span></span></td>'
    assert f'<td data-label="PR PER % ↓" data-value="3.941"><span>{entry}' in built("html")
    assert built("html").count("<tr>") == 4
    assert "http" not in built("html")
    assert "Made-up numbers." in built("html")


def test_a_wide_table_is_split_into_parts_that_fit(tmp_path, cells_of):
    tasks = ("asr", "ks", "qbe", "asv", "sd", "ic", "pc")
    row = TableRow(encoder="hubert", finetuning="asr", method="stable_ft", label="Stable-FT")
    for count, environment, parts in ((1, "table", 1), (4, "table*", 1), (7, "table*", 2)):
        build_table(TableRecipe(title="T", rows=(row,), tasks=tasks[:count]), [], None, tmp_path, "t")
        text = (tmp_path / "t.tex").read_text()
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 1
        assert text.count("Stable-FT & ") == text.count(r"\begin{tabular}") == parts
        assert max(len(line) for line in text.splitlines() if " & " in line) <= 180


def test_names_with_special_characters_are_shown_as_they_are(tmp_path):
    row = TableRow(encoder="a_b", finetuning="none", method="pretrained", label="50 % & <b>|*x* $1")
    build_table(TableRecipe(title="A & B", note="{x}_y", rows=(row,), tasks=("ks",)), [], None, tmp_path, "t")
    for suffix, expected in (
        ("md", r"50 % &amp; &lt;b&gt;\|\*x\* \$1 |"),
        ("tex", r"50 \% \& \textless{}b\textgreater{}|{*}x{*} \$1 & a\_b & none & pending"),
        ("html", '<th scope="row">50 % &amp; &lt;b&gt;|*x* $1</th>'),
    ):
        assert expected in (tmp_path / f"t.{suffix}").read_text()
    assert latex_escape("{x}_y\\") == r"\{x\}\_y\textbackslash{}"
    assert markdown_escape("hubert_base") == "hubert_base"


def test_files_are_the_same_each_time(small_table, tmp_path):
    for name in ("a", "b"):
        build_table(*small_table, tmp_path / name, "t")
        build_figure(*small_table[:2], tmp_path / name / "t.png")
    for suffix in ("csv", "md", "tex", "html", "png", "svg"):
        assert (tmp_path / f"a/t.{suffix}").read_bytes() == (tmp_path / f"b/t.{suffix}").read_bytes()


def test_cells_that_are_not_there_are_pending(small_table, tmp_path):
    recipe, cells, published = small_table
    table = build_table(recipe, [cells[0], tmp_path / "absent.json", cells[0]], published, tmp_path / "out", "t")
    assert [entry.mean for entry in table.columns[0].entries] == [5.2, None, None]


def test_nothing_is_written_when_something_is_broken_or_not_given(small_table, tmp_path):
    recipe, cells, published = small_table
    with pytest.raises(TableError, match="no file of published numbers"):
        build_table(recipe, cells, None, tmp_path / "out", "t")
    cells[-1].write_text("{")
    for build in (build_table, build_figure):
        with pytest.raises(TableError, match=str(cells[-1])):
            build(recipe, cells, *((published, tmp_path / "out", "t") if build is build_table else (tmp_path / "out/t.png",)))
    assert not (tmp_path / "out").exists()


def test_figure_shows_values_direction_and_notes(small_table, tmp_path, texts_of):
    build_figure(*small_table[:2], tmp_path / "t.png")
    texts = texts_of(tmp_path / "t.svg")
    assert {"A table", "Made-up numbers.", "PR PER %", "Stable-FT", "96.50", "0.1011", "pending", "5.20"} <= set(texts)
    assert (texts.count("better →"), texts.count("← better")) == (2, 1)
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_figure_of_several_finetunings_and_of_nothing(tmp_path, texts_of):
    models = ("e/none/pretrained", "e/f/stable_ft", "e/g/stable_ft", "d/none/pretrained", "d/f/stable_ft")
    rows = [TableRow(**dict(zip(("encoder", "finetuning", "method"), model.split("/"), strict=True)), label="x") for model in models]
    build_figure(TableRecipe(title="Several", rows=rows, tasks=("ks", "sid", "pr", "er", "ic")), [], tmp_path / "t.png")
    texts = texts_of(tmp_path / "t.svg")
    assert texts.count("pending") == 5 * 6  # also of the score over PR, SID and ER
    assert (texts.count("f"), texts.count("g")) == (2 * 2, 2)  # a heading in each line of panels for each encoder


def test_pending_cells_come_with_the_command_that_makes_them(make_recipe, cells_of, tmp_path):
    cells = cells_of("none/pretrained", PR=50, SID=50) + cells_of("f/stable_ft", PR=40)
    command = "snakemake --cores all --configfile my.yaml -- results/cells/"
    build_table(make_recipe("pr", "sid", command=command), cells, None, tmp_path, "t")
    expected = [f"{command}e/f/stable_ft/sid.json", f"{command}e/f/speech_ft/{{pr,sid}}.json"]
    markdown, latex, page = ((tmp_path / f"t.{suffix}").read_text() for suffix in ("md", "tex", "html"))
    assert markdown[markdown.index("```") :] == "\n".join(["```", *expected, "```", ""])
    assert latex.endswith("".join(f"% {line}\n" for line in expected))
    assert "\n".join(expected) in page
    assert "none/pretrained" not in markdown + latex + page
    frame = pd.read_csv(tmp_path / "t.csv", keep_default_na=False)
    commands = {(row.method, row.metric): row.command for row in frame.itertuples()}
    assert commands[("speech_ft", "SID")] == f"{command}e/f/speech_ft/sid.json"
    assert commands[("pretrained", "SID")] == commands[("stable_ft", "PR")] == ""
    build_table(make_recipe("pr"), [], None, tmp_path, "t")  # of unknown origin
    assert "snakemake" not in "".join((tmp_path / f"t.{suffix}").read_text() for suffix in ("md", "tex", "html", "csv"))
