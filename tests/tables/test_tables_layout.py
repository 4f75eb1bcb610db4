"""What stands in the entries of a table: means, intervals, differences, best values, scores and notes."""

import numpy as np
import pytest

from speechft.errors import TableError
from speechft.tables.arrange import arrange
from speechft.tables.cells import existing_cells
from speechft.tables.estimate import Estimate
from speechft.tables.metrics import METRICS
from speechft.tables.published import Published, load_published
from speechft.tables.table import Column, Entry

FOUR = ("pr", "sid", "er", "sf")
RNG = np.random.default_rng(0)
FIRST = tuple(RNG.normal(5, 1, 5))
HUBERT = {"PR": 5.17, "SID": 81.86, "ER": 64.99, "SF_F1": 88.54, "SF_CER": 24.70}


def table(recipe, cells, published=None):
    return arrange(recipe, existing_cells(cells), published or Published({}), "t")


def keys(found):
    return [column.metric.key for column in found.columns]


def test_mean_interval_and_difference_of_an_entry():
    entry = Entry((1.0, 2.0, 6.0), published=5.0)
    assert (entry.mean, entry.difference, entry.std) == (3.0, -2.0, pytest.approx(7**0.5))
    # 0.975 quantile of Student's t with 2 degrees of freedom: 4.302653.
    assert entry.half_width == pytest.approx(4.302653 * (7 / 3) ** 0.5, rel=1e-6)
    assert (Entry((1.0,)).mean, Entry((1.0,)).half_width) == (1.0, None)
    assert (Entry().mean, Entry().half_width, Entry(published=1.0).difference) == (None, None, None)
    assert Entry((3.0,), published=5.0, comparable=False).difference is None


def test_a_sample_of_one_value_is_exact():
    assert Estimate(((1.0,), (2.0,))).half_width is None
    assert Estimate((FIRST, (10.0,))).half_width == Estimate((FIRST,)).half_width
    assert Estimate((FIRST, (10.0,))).mean == pytest.approx(np.mean(FIRST) + 10)


def test_equal_values_have_no_width_and_tiny_variances_do_not_vanish():
    assert Estimate(((3.0, 3.0), (1.0, 1.0, 1.0))).half_width == 0
    small = Estimate((tuple(1e-100 * value for value in FIRST),))
    assert small.half_width == pytest.approx(1e-100 * Estimate((FIRST,)).half_width)


def test_intervals_of_sums_hold_what_they_promise():
    """Of many experiments with unequal spread and numbers of seeds about 95 % cover the truth."""
    covered = 0
    for _ in range(2000):
        estimate = Estimate((tuple(RNG.normal(1, 2, 5)), tuple(RNG.normal(2, 1, 3)), tuple(RNG.normal(3, 3, 4))))
        covered += abs(estimate.mean - 6) <= estimate.half_width
    assert 0.93 < covered / 2000 < 0.98


@pytest.mark.parametrize(
    ("key", "values", "bold"),
    [
        ("PR", [(5.1, 5.2), (5.2, 5.3), (3.9, 3.9)], {2}),
        ("PR", [(5.1, 5.2), (5.2, 5.3), (1.9, 5.9)], set()),  # best by the mean, and not by more than the interval
        ("KS", [(96.5, 96.6), (97.9, 97.9), (96.5, 96.7)], {1}),
        ("KS", [(96.5, 96.6), (97.9, 97.9), (97.9, 97.9)], set()),
        ("KS", [(96.5, 96.6), (97.9,), (96.5, 96.7)], set()),  # nobody knows how much a single value varies
        ("QbE", [(0.0687,), (0.1,)], set()),
        ("KS", [(97.9, 97.9), (), (96.5, 96.7)], {0}),
        ("KS", [(96.59, 96.6), (), ()], set()),
        ("KS", [()], set()),
    ],
)
def test_only_what_is_surely_best_is_bold(key, values, bold):
    assert Column(METRICS[key], tuple(map(Entry, values))).bold == bold


def test_rows_and_columns_are_those_of_the_recipe(make_recipe, cells_of):
    cells = cells_of("f/stable_ft", SF_F1=80, SF_CER=30, SID=99) + cells_of("none/pretrained", KS=50)
    found = table(make_recipe("sf", "ks"), cells + cells_of("g/stable_ft", KS=99))
    assert {column.metric.key: [entry.mean for entry in column.entries] for column in found.columns} == {
        "SF_F1": [None, 80.0, None],
        "SF_CER": [None, 30.0, None],
        "KS": [50.0, None, None],
    }
    with pytest.raises(TableError, match="'xy'"):
        table(make_recipe("ks", "xy"), [])


def test_published_numbers_stand_beside_their_row_only(make_recipe, cells_of, write_published):
    published = load_published(write_published("t,e,none,pretrained,KS,51", "u,e,f,stable_ft,KS,52", "t,e,g,stable_ft,KS,53"))
    found = table(make_recipe("ks", published="t"), cells_of("none/pretrained", KS=50), published)
    assert [(entry.published, entry.difference) for entry in found.columns[0].entries] == [(51.0, -1.0), (None, None), (None, None)]
    with pytest.raises(TableError, match="No published numbers for table 'supervized'"):
        table(make_recipe("ks", published="supervized"), [], published)


def test_superb_s_of_rows_that_have_all_four_tasks(make_recipe, cells_of):
    cells = cells_of("none/pretrained", **{key: [value] * 3 for key, value in HUBERT.items()}, protocol="superb")
    found = table(make_recipe(*FOUR), cells + cells_of("f/stable_ft", PR=5, SID=80, ER=60, protocol="superb"))
    assert keys(found)[-1] == "SUPERB_S"
    assert [entry.mean for entry in found.columns[-1].entries] == [pytest.approx(870.20, abs=0.01), None, None]
    assert any("inferred" in note for note in found.notes)


def test_no_superb_s_under_the_quick_protocol(make_recipe, cells_of):
    cells = cells_of("none/pretrained", **HUBERT)
    found = table(make_recipe(*FOUR), cells + cells_of("f/stable_ft", **HUBERT, protocol="superb"))
    assert [(entry.mean is None, entry.defined) for entry in found.columns[-1].entries] == [(True, False), (False, True), (True, True)]
    found = table(make_recipe(*FOUR), [*cells, *cells_of("f/stable_ft", **HUBERT), *cells_of("f/speech_ft", **HUBERT)])
    assert "SUPERB_S" not in keys(found)
    assert any("No score" in note for note in found.notes)


def test_some_of_the_four_tasks_give_a_score_that_is_not_called_superb_s(make_recipe, cells_of):
    cells = cells_of("none/pretrained", PR=5.17, SID=81.86, protocol="superb")
    found = table(make_recipe("pr", "ks", "sid"), cells)
    assert found.columns[-1].metric.title == "score over PR, SID (of PR, SID, ER, SF) ↑"
    assert "SUPERB_S" not in keys(found)
    assert found.columns[-1].entries[0].mean is not None
    for tasks in (("pr", "ks"), ("ks",)):
        assert keys(table(make_recipe(*tasks), cells)) == [task.upper() for task in tasks]


def test_superb_full_has_no_difference_and_the_ends_of_the_scales_are_stated(make_recipe, cells_of, write_published):
    rest = {"ASR": 6.38, "KS": 96.59, "QbE": 0.07, "ASV": 5.56, "SD": 6.32, "IC": 98.02}
    published = load_published(write_published("t,e,none,pretrained,SUPERB_FULL,815.47"))
    recipe = make_recipe(*FOUR, *map(str.lower, rest), published="t")
    found = table(recipe, cells_of("none/pretrained", **HUBERT, **rest, protocol="superb"), published)
    assert keys(found)[-2:] == ["SUPERB_S", "SUPERB_FULL"]
    entry = found.columns[-1].entries[0]
    assert (entry.mean > 800, entry.published, entry.difference) == (True, 815.47, None)
    notes = " ".join(found.notes)
    assert "not quoted: PR 2.42, SID 95.11, ER 70.68, SF F1 92.40, SF CER 17.69." in notes
    assert "WavLM Large for the other tasks (ASR 3.44, KS 97.86, QbE 0.0886, ASV 3.77, SD 3.24, IC 99.31);" in notes


def test_the_protocol_is_noted_and_mixtures_are_pointed_out(make_recipe, cells_of):
    quick, superb = cells_of("none/pretrained", KS=50), cells_of("f/stable_ft", KS=50, SID=50, protocol="superb")
    recipe = make_recipe("ks", "sid", note="Synthetic speech.")
    assert table(recipe, []).notes == ("Synthetic speech.",)
    assert "Protocol: quick (" in table(recipe, quick).notes[1]
    assert "Protocol: superb (" in table(recipe, superb).notes[1]
    notes = table(recipe, quick + superb).notes
    assert notes[1].startswith("Protocol: KS quick (")
    assert "; KS, SID superb (" in notes[1]
    assert notes[2].startswith("KS: the rows are under different protocols")
    assert notes[2].endswith("quick are Pre-trained (e, none).")


def test_the_protocol_of_pending_cells_is_noted(make_recipe, cells_of):
    (note,) = table(make_recipe("ks", "sid", protocols={"ks": "quick", "sid": "superb"}), []).notes
    assert note.startswith("Protocol of the pending cells: KS quick (reduced")
    assert note.endswith("; SID superb (published steps and sampling).")
    recipe = make_recipe("ks", protocols={"ks": "quick"})
    for cells, start in (([], "Protocol of the pending cells"), (cells_of("none/pretrained", KS=50), "Protocol")):
        assert [note.split(":")[0] for note in table(recipe, cells).notes] == [start]


def test_cells_of_one_row_made_from_different_weights(make_recipe, cells_of):
    cells = cells_of("f/stable_ft", KS=50, sha256="1" * 64) + cells_of("f/stable_ft", SID=50, sha256="2" * 64)
    with pytest.raises(TableError, match=r"e/f/stable_ft have different weights \(SHA-256 111111111111, 222222222222\)"):
        table(make_recipe("ks", "sid"), cells)
    assert table(make_recipe("ks"), cells).hashes == ("", "1" * 64, "")


def test_tasks_that_superb_does_not_have_are_pointed_out(make_recipe, cells_of):
    note = "PC is no task of SUPERB; its recipe is ours."
    assert note in table(make_recipe("ks", "pc", protocols={"ks": "superb", "pc": "superb"}), []).notes
    assert note in table(make_recipe("pc"), cells_of("none/pretrained", PC=50, protocol="superb")).notes
    assert note not in table(make_recipe("pc"), cells_of("f/stable_ft", PC=50)).notes
