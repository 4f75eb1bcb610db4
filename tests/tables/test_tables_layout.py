"""What stands in the entries of a table: means, intervals, differences, best values, scores and notes."""

import pytest

from speechft.errors import TableError
from speechft.tables.arrange import arrange
from speechft.tables.cells import existing_cells
from speechft.tables.metrics import METRICS
from speechft.tables.published import Published, load_published
from speechft.tables.table import Column, Entry

NOTHING = Published({})


def table(recipe, cells, published=NOTHING):
    return arrange(recipe, existing_cells(cells), published, "t")


def column(key, *means):
    return Column(METRICS[key], tuple(Entry(() if mean is None else (mean,)) for mean in means))


def keys(found):
    return [column.metric.key for column in found.columns]


def test_mean_and_interval_over_seeds():
    entry = Entry((1.0, 2.0, 6.0))
    assert entry.mean == 3.0
    assert entry.std == pytest.approx(7**0.5)
    # 0.975 quantile of Student's t with 2 degrees of freedom: 4.302653.
    assert entry.half_width == pytest.approx(4.302653 * (7 / 3) ** 0.5, rel=1e-6)


def test_no_interval_for_one_seed_and_nothing_without_a_cell():
    assert (Entry((1.0,)).mean, Entry((1.0,)).half_width) == (1.0, None)
    assert (Entry().mean, Entry().half_width, Entry(published=1.0).difference) == (None, None, None)


def test_difference_is_ours_minus_published():
    assert Entry((3.0, 5.0), published=5.5).difference == -1.5
    assert Entry((3.0,), published=5.0, comparable=False).difference is None


def test_best_respects_the_direction():
    assert column("PR", 5.17, 5.22, 3.94).bold == {2}
    assert column("KS", 96.59, 96.92, 96.69).bold == {1}


def test_best_ties_and_pending():
    assert column("KS", 96.59, 96.92, 96.92).bold == {1, 2}
    assert column("KS", 96.59, 96.918, 96.921).bold == {1, 2}  # both are printed as 96.92
    assert column("QbE", 0.0687, 0.09701, 0.0971).bold == {2}
    assert column("KS", 96.59, None, 96.0).bold == {0}
    assert column("KS", 96.59, None, None).bold == set()
    assert column("KS", 96.59, 96.59).bold == set()
    assert column("KS", None).bold == set()


def test_rows_and_columns_are_those_of_the_recipe(make_recipe, write_cell):
    cells = [
        write_cell("e", "f", "stable_ft", "sf", {"SF_F1": [80.0], "SF_CER": [30.0]}),
        write_cell("e", "none", "pretrained", "ks", {"KS": [50.0]}),
        write_cell("e", "g", "stable_ft", "ks", {"KS": [99.0]}),  # of another fine-tuning
        write_cell("e", "f", "stable_ft", "sid", {"SID": [99.0]}),  # of another task
    ]
    found = table(make_recipe(("sf", "ks")), cells)
    assert keys(found) == ["SF_F1", "SF_CER", "KS"]
    assert [[entry.mean for entry in column.entries] for column in found.columns] == [
        [None, 80.0, None],
        [None, 30.0, None],
        [50.0, None, None],
    ]


def test_published_numbers_stand_beside_their_row_only(make_recipe, write_cell, write_published):
    published = load_published(write_published("t,e,none,pretrained,KS,51", "u,e,f,stable_ft,KS,52", "t,e,g,stable_ft,KS,53"))
    cells = [write_cell("e", "none", "pretrained", "ks", {"KS": [50.0]})]
    found = table(make_recipe(("ks",), published="t"), cells, published)
    assert [entry.published for entry in found.columns[0].entries] == [51.0, None, None]
    assert found.columns[0].entries[0].difference == -1.0


def superb_cells(write_cell, method, protocol="superb", tasks=("pr", "sid", "er", "sf"), seeds=1):
    values = {"pr": {"PR": 5.17}, "sid": {"SID": 81.86}, "er": {"ER": 64.99}, "sf": {"SF_F1": 88.54, "SF_CER": 24.70}}
    model = ("e", "none" if method == "pretrained" else "f", method)
    return [write_cell(*model, task, {key: [value] * seeds for key, value in values[task].items()}, protocol=protocol) for task in tasks]


FOUR = ("pr", "sid", "er", "sf")


def test_superb_s_of_rows_that_have_all_four_tasks(make_recipe, write_cell):
    cells = [*superb_cells(write_cell, "pretrained", seeds=3), *superb_cells(write_cell, "stable_ft", tasks=("pr", "sid", "er"))]
    found = table(make_recipe(FOUR), cells)
    assert keys(found)[-1] == "SUPERB_S"
    assert found.columns[-1].entries[0].mean == pytest.approx(870.20, abs=0.01)
    assert [entry.mean for entry in found.columns[-1].entries[1:]] == [None, None]
    assert any("inferred" in note for note in found.notes)


def test_no_superb_s_under_the_quick_protocol(make_recipe, write_cell):
    cells = superb_cells(write_cell, "pretrained", protocol="quick")
    found = table(make_recipe(FOUR), cells + superb_cells(write_cell, "stable_ft"))
    assert [entry.mean is None for entry in found.columns[-1].entries] == [True, False, True]
    assert [entry.defined for entry in found.columns[-1].entries] == [False, True, True]
    every = [cell for method in ("pretrained", "stable_ft", "speech_ft") for cell in superb_cells(write_cell, method, protocol="quick")]
    found = table(make_recipe(FOUR), every)
    assert "SUPERB_S" not in keys(found)
    assert any("No score" in note for note in found.notes)


def test_some_of_the_four_tasks_give_a_score_that_is_not_called_superb_s(make_recipe, write_cell):
    cells = superb_cells(write_cell, "pretrained", tasks=("pr", "sid"))
    found = table(make_recipe(("pr", "ks", "sid")), cells)
    assert found.columns[-1].metric.title == "score over PR, SID (of PR, SID, ER, SF) ↑"
    assert "SUPERB_S" not in keys(found)
    assert found.columns[-1].entries[0].mean is not None
    assert keys(table(make_recipe(("pr", "ks")), cells)) == ["PR", "KS"]
    assert keys(table(make_recipe(("ks",)), cells)) == ["KS"]


def test_superb_full_has_no_difference(make_recipe, write_cell, write_published):
    rest = {"asr": ("ASR", 6.38), "ks": ("KS", 96.59), "qbe": ("QbE", 0.07), "asv": ("ASV", 5.56), "sd": ("SD", 6.32), "ic": ("IC", 98.02)}
    cells = superb_cells(write_cell, "pretrained")
    cells += [write_cell("e", "none", "pretrained", task, {key: [value]}, protocol="superb") for task, (key, value) in rest.items()]
    published = load_published(write_published("t,e,none,pretrained,SUPERB_FULL,815.47"))
    found = table(make_recipe((*FOUR, *rest), published="t"), cells, published)
    assert keys(found)[-2:] == ["SUPERB_S", "SUPERB_FULL"]
    entry = found.columns[-1].entries[0]
    assert entry.mean > 800
    assert entry.published == 815.47
    assert entry.difference is None


def test_the_protocol_is_noted_and_mixtures_are_pointed_out(make_recipe, write_cell):
    quick = write_cell("e", "none", "pretrained", "ks", {"KS": [50.0]})
    superb = write_cell("e", "f", "stable_ft", "ks", {"KS": [50.0]}, protocol="superb")
    sid = write_cell("e", "f", "stable_ft", "sid", {"SID": [50.0]}, protocol="superb")
    recipe = make_recipe(("ks", "sid"), note="Synthetic speech.")
    assert table(recipe, []).notes == ("Synthetic speech.",)
    assert "Protocol: quick (" in table(recipe, [quick]).notes[1]
    assert "Protocol: superb (" in table(recipe, [superb, sid]).notes[1]
    notes = table(recipe, [quick, superb, sid]).notes
    assert notes[1].startswith("Protocol: KS quick (")
    assert "; KS, SID superb (" in notes[1]
    assert notes[2].startswith("KS: the rows are under different protocols")
    assert notes[2].endswith("quick are Pre-trained (e, none).")


def test_cells_of_one_row_made_from_different_weights(make_recipe, write_cell):
    cells = [
        write_cell("e", "f", "stable_ft", task, {task.upper(): [50.0]}, sha256=digit * 64) for task, digit in [("ks", "1"), ("sid", "2")]
    ]
    with pytest.raises(TableError, match=r"e/f/stable_ft were made from different weights \(SHA-256 111111111111, 222222222222\)"):
        table(make_recipe(("ks", "sid")), cells)
    assert table(make_recipe(("ks",)), cells).hashes == ("", "1" * 64, "")


def test_an_unknown_published_table(make_recipe):
    with pytest.raises(TableError, match="no published numbers of a table 'supervized'"):
        table(make_recipe(("ks",), published="supervized"), [], Published({("supervised", "e", "f", "m", "KS"): 1.0}))


def test_an_unknown_task(make_recipe):
    with pytest.raises(TableError, match="'xy'"):
        table(make_recipe(("ks", "xy")), [])


def test_the_protocol_of_pending_cells_is_noted(make_recipe, write_cell):
    recipe = make_recipe(("ks", "sid"), protocols={"ks": "quick", "sid": "superb"})
    (note,) = table(recipe, []).notes
    assert note.startswith("Protocol of the pending cells: KS quick (reduced")
    assert note.endswith("; SID superb (published steps and sampling).")
    recipe = make_recipe(("ks",), protocols={"ks": "quick"})
    assert [note.split(":")[0] for note in table(recipe, []).notes] == ["Protocol of the pending cells"]
    cell = write_cell("e", "none", "pretrained", "ks", {"KS": [50.0]})
    assert [note.split(":")[0] for note in table(recipe, [cell]).notes] == ["Protocol"]


def test_tasks_that_superb_does_not_have_are_pointed_out(make_recipe, write_cell):
    note = "PC is no task of SUPERB; its recipe is ours."
    assert note in table(make_recipe(("ks", "pc"), protocols={"ks": "superb", "pc": "superb"}), []).notes
    assert note in table(make_recipe(("pc",)), [write_cell("e", "none", "pretrained", "pc", {"PC": [50.0]}, protocol="superb")]).notes
    assert note not in table(make_recipe(("pc",)), [write_cell("e", "f", "stable_ft", "pc", {"PC": [50.0]})]).notes


def test_the_ends_of_the_scales_are_stated(make_recipe):
    notes = " ".join(table(make_recipe((*FOUR, "asr", "ks", "qbe", "asv", "sd", "ic")), []).notes)
    assert "not quoted: PR 2.42, SID 95.11, ER 70.68, SF F1 92.40, SF CER 17.69." in notes
    assert "WavLM Large for the other tasks (ASR 3.44, KS 97.86, QbE 0.0886, ASV 3.77, SD 3.24, IC 99.31);" in notes
