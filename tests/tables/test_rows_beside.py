"""Rows that only repeat published numbers, below those of an experiment."""

import csv

import pytest
from conftest import ROOT

from speechft.errors import TableError
from speechft.recipes.tables import ScoreRecipe, TableRecipe, TableRow
from speechft.tables.arrange import arrange
from speechft.tables.build import build_table
from speechft.tables.cells import read_cells
from speechft.tables.published import load_published
from speechft.tables.scores import SUPERB_FULL_NORMALIZERS
from speechft.tasks.catalog import TASKS

HEADER = "table,encoder,finetuning,method,metric,value,source,where"
MINE = TableRow(encoder="e", finetuning="none", method="pretrained", label="Mine")


@pytest.fixture(scope="module")
def superb():
    return load_published(ROOT / "config/superb_rows.csv")


def recipe(**changes):
    return TableRecipe(**{"title": "t", "rows": (MINE,), "tasks": ("pr", "ks"), "beside": ("known",), "command": "make ", **changes})


@pytest.fixture
def known(write_published):
    return write_published(
        "known,hubert,none,pretrained,KS,96.3,first_hand,a page",
        "known,hubert,none,pretrained,SID,81.4,second_hand,a table",
        "known,e,none,pretrained,PR,7,second_hand,another",
        "known,other,none,pretrained,SID,1,second_hand,nowhere",
        header=HEADER,
    )


def test_every_row_of_the_project_has_source_and_place_and_agrees_with_the_ends_of_the_scores(superb):
    metrics = {metric.key for task in TASKS.values() if task.superb for metric in task.metrics}
    assert {key[4] for key in superb.values} <= metrics
    assert set(superb.sources) == set(superb.places) == set(superb.values)
    for key, scale in SUPERB_FULL_NORMALIZERS.items():
        value = superb.value("superb", "fbank", "none", "pretrained", key)
        assert value == pytest.approx(100 * scale.fbank if key == "SID" else scale.fbank)  # the score counts SID's as a share
        if scale.source.startswith("WavLM"):
            assert superb.value("superb", "wavlm_large", "none", "pretrained", key) == scale.sota


def test_such_rows_show_numbers_alone_and_say_where_they_are_from(known, cells_of, tmp_path):
    build_table(recipe(), cells_of("e/none/pretrained", KS=90), known, tmp_path / "out", "t")
    rows = list(csv.DictReader((tmp_path / "out/t.csv").open()))
    assert [(row["encoder"], row["metric"], row["status"], row["value"], row["published"]) for row in rows] == [
        ("e", "PR", "pending", "", ""),
        ("e", "KS", "measured", "90.0", ""),
        ("hubert", "PR", "undefined", "", ""),
        ("hubert", "KS", "published", "", "96.3"),
        ("e", "PR", "published", "", "7.0"),
        ("e", "KS", "undefined", "", ""),  # a cell of the same name is ours
    ]
    page = (tmp_path / "out/t.md").read_text()
    assert "| published (known) | hubert  | none        |            | (96.30)    |" in page
    assert "- hubert, published (known). KS: a page.\n" in page
    assert "make e/none/pretrained/pr.json\n" in page
    assert page.count("make ") == 1


def test_a_row_is_left_out_where_an_earlier_one_of_the_model_has_its_numbers(write_published):
    rows = [f"{table},h,none,pretrained,{key},{value}" for table, key, value in (("a", "PR", 5), ("a", "KS", 96), ("b", "PR", 5))]
    table = arrange(recipe(beside=("a", "b")), [], load_published(write_published(*rows, "b,g,none,pretrained,PR,5")), "t")
    assert [(row.only_published, row.encoder) for row in table.rows[1:]] == [("a", "h"), ("b", "g")]


def test_they_do_not_count_for_the_score_of_a_table(known, cells_of):
    floor = TableRow(encoder="fbank", finetuning="none", method="pretrained", label="FBANK")
    cells = read_cells([*cells_of("e/none/pretrained", KS=90, PR=10), *cells_of("fbank/none/pretrained", KS=10, PR=80)])
    asked = {"rows": (MINE, floor), "score": ScoreRecipe(label="score", floor=floor, tasks=("pr", "ks"))}
    for beside in ((), ("known",)):
        column = arrange(recipe(**asked, beside=beside), cells, load_published(known), "t").columns[-1]
        assert [entry.mean for entry in column.entries[:2]] == pytest.approx([1000, 0])
        assert [entry.alone for entry in column.entries[2:]] == [True] * (2 * len(beside))


def test_a_table_of_numbers_that_is_not_there_and_a_place_without_a_value(known, write_published):
    with pytest.raises(TableError, match=r"No published numbers for table 'unknown'. Available: known"):
        arrange(recipe(beside=("unknown",)), [], load_published(known), "t")
    with pytest.raises(TableError, match="column where: 'p' has no value"):
        load_published(write_published("t,e,f,m,PR,,,p", header=HEADER))


def test_two_files_with_the_same_table(superb, tmp_path):
    copy = tmp_path / "copy.csv"
    copy.write_bytes((ROOT / "config/superb_rows.csv").read_bytes())
    with pytest.raises(TableError, match="both have a table 'superb'"):
        load_published([ROOT / "config/superb_rows.csv", copy])
    both = load_published([ROOT / "config/published.csv", copy])
    assert both.values == load_published(ROOT / "config/published.csv").values | superb.values
