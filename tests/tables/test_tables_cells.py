"""Cells that can not stand in a table are refused, by file name."""

import json

import pytest

from speechft.errors import TableError
from speechft.tables import read_cells


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def refused(path):
    with pytest.raises(TableError) as caught:
        read_cells([path])
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_good_cells_are_read_in_order(write_cell):
    paths = [write_cell("e", "f", "m", "sf", {"SF_F1": [80.0], "SF_CER": [30.0]}), write_cell("e", "f", "m", "ks", {"KS": [1.0, 2.0]})]
    assert [cell.metrics for cell in read_cells(paths)] == [{"SF_F1": 80.0, "SF_CER": 30.0}, {"KS": 1.5}]


def test_missing_file(tmp_path):
    assert "no such file" in refused(tmp_path / "absent.json")
    assert "no such file" in refused(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"schema": 1}', b"\xff\xfe"])
def test_files_that_are_no_cells(tmp_path, content):
    path = tmp_path / "cell.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(path)


def test_another_schema_version(write_cell):
    assert "schema" in refused(change(write_cell("e", "f", "m", "ks", {"KS": [1.0]}), schema=2))


def test_a_mean_that_is_not_the_mean(write_cell):
    # 0.966 is the share where 96.6 percent belongs.
    assert "KS" in refused(change(write_cell("e", "f", "m", "ks", {"KS": [0.966]}), metrics={"KS": 96.6}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(write_cell, value):
    refused(change(write_cell("e", "f", "m", "ks", {"KS": [1.0]}), metrics={"KS": value}, values={"KS": [value]}))


def test_metrics_of_another_task(write_cell):
    assert "gives SF_CER, SF_F1, found SF_F1" in refused(write_cell("e", "f", "m", "sf", {"SF_F1": [80.0]}))
    assert "gives KS, found SID" in refused(write_cell("e", "f", "m", "ks", {"SID": [80.0]}))


def test_an_unknown_task(write_cell):
    assert "No metric is known of task 'xy'" in refused(write_cell("e", "f", "m", "xy", {"XY": [80.0]}))


def test_a_cell_without_the_name_of_its_model(write_cell):
    path = write_cell("e", "f", "m", "ks", {"KS": [1.0]})
    model = {**json.loads(path.read_text())["model"], "method": None}
    assert "does not say which model" in refused(change(path, model=model))


def test_the_same_cell_twice(write_cell, tmp_path):
    path = write_cell("e", "f", "m", "ks", {"KS": [1.0]})
    copy = tmp_path / "copy.json"
    copy.write_bytes(path.read_bytes())
    with pytest.raises(TableError, match=r"both are the cell e/f/m/ks"):
        read_cells([path, copy])
