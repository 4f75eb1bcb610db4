"""Cells that cannot stand in a table are refused, by file name."""

import json

import pytest

from speechft.errors import TableError
from speechft.tables.cells import read_cells

NAN = float("nan")


def changed(path, changes):
    """The cell with other values; `changes` may be a function that edits the cell."""
    value = json.loads(path.read_text())
    value.update(changes(value) if callable(changes) else changes)
    path.write_text(json.dumps(value))
    return path


def refused(path):
    with pytest.raises(TableError) as caught:
        read_cells([path])
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_good_cells_are_read_in_order(cells_of):
    paths = cells_of("f/m", SF_F1=80, SF_CER=30, KS=[1, 2], ASR=130)  # error rates pass 100 percent
    assert [cell.metrics for cell in read_cells(paths)] == [{"SF_F1": 80.0, "SF_CER": 30.0}, {"KS": 1.5}, {"ASR": 130.0}]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"schema": 1}', b"\xff\xfe"])
def test_files_that_are_no_cells(tmp_path, content):
    path = tmp_path / "cell.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(path)
    for missing in (tmp_path / "absent.json", tmp_path):
        assert "no such file" in refused(missing)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 2}, "schema"),
        # 0.966 is the share where 96.6 percent belongs.
        ({"metrics": {"KS": 96.6}, "values": {"KS": [0.966]}}, "KS"),
        ({"metrics": {"KS": NAN}}, "KS"),
        *(({"metrics": {"KS": value}, "values": {"KS": [value]}}, "KS") for value in (NAN, float("inf"), "96.6", True, None, "NaN")),
        (lambda cell: {"model": {**cell["model"], "method": None}}, "has no model name"),
        *((lambda cell, name=name: {"model": {**cell["model"], "encoder": name}}, "model.encoder") for name in ("../x", "a\0b", "")),
        (lambda cell: {"selected": cell["selected"] * 2}, "selected: seed 0 appears twice"),
        (lambda cell: {"trials": cell["trials"] * 2}, "trials: seed 0 appears twice"),
        (lambda cell: {"recipe": {**cell["recipe"], "steps": 999}}, "hashes.recipe"),
        ({"protocol": "superb"}, "protocol: is 'superb', but 'quick' in the cell's recipe"),
        (
            lambda cell: {
                "selected": [{**cell["selected"][0], "fold": fold, "test": {"KS": score}} for fold, score in (("1", -50), ("2", 52))]
            },
            "selected.test.KS is -50",
        ),
    ],
)
def test_a_changed_cell(cells_of, changes, said):
    assert said in refused(changed(*cells_of("f/m", KS=1), changes))


@pytest.mark.parametrize(
    ("task", "values", "said"),
    [
        ("sf", {"SF_F1": 80}, "needs SF_CER, SF_F1, found SF_F1"),
        ("ks", {"SID": 80}, "needs KS, found SID"),
        ("xy", {"XY": 80}, "No known metrics for task 'xy'"),
        *((task, {key: value}, f"values.{key} is {value:g}; allowed: 0 to")
          for task, key, value in (("ks", "KS", -5), ("ks", "KS", 250), ("ks", "KS", 1e300), ("asr", "ASR", -0.1), ("asr", "ASR", 1e5),
                                   ("qbe", "QbE", 3))),
    ],
)  # fmt: skip
def test_metrics_and_values_that_no_evaluation_gives(cells_of, task, values, said):
    assert said in refused(*cells_of("f/m", task=task, **values))


def test_the_same_cell_or_key_twice(cells_of, tmp_path):
    (path,) = cells_of("f/m", KS=1)
    copy = tmp_path / "copy.json"
    copy.write_bytes(path.read_bytes())
    with pytest.raises(TableError, match=r"are both the cell e/f/m/ks"):
        read_cells([path, copy])
    path.write_text(path.read_text().replace('"task": "ks"', '"task": "ks",\n "task": "ks"', 1))
    assert f"{path}: line 2: key 'task' appears twice" in refused(path)
