"""Cells that cannot stand in a table are refused, by file name."""

import json

import pytest

from speechft.errors import TableError
from speechft.tables.cells import read_cells


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


@pytest.mark.parametrize(
    ("task", "key", "value"),
    [("ks", "KS", -5.0), ("ks", "KS", 250.0), ("ks", "KS", 1e300), ("asr", "ASR", -0.1), ("asr", "ASR", 1e5), ("qbe", "QbE", 3.0)],
)
def test_values_that_no_evaluation_gives(write_cell, task, key, value):
    path = write_cell("e", "f", "m", task, {key: [value]})
    assert f"{path}: values.{key} is {value:g}; it can be 0 to" in refused(path)


def test_error_rates_pass_100_percent(write_cell):
    assert read_cells([write_cell("e", "f", "m", "asr", {"ASR": [130.0]})])[0].metrics == {"ASR": 130.0}


@pytest.mark.parametrize("value", ["96.6", True, None, "NaN"])
def test_values_that_are_no_numbers(write_cell, value):
    assert "KS" in refused(change(write_cell("e", "f", "m", "ks", {"KS": [1.0]}), metrics={"KS": value}, values={"KS": [value]}))


def test_a_mean_that_is_nan(write_cell):
    assert "KS" in refused(change(write_cell("e", "f", "m", "ks", {"KS": [1.0]}), metrics={"KS": float("nan")}))


def test_scores_of_folds_that_no_evaluation_gives(write_cell):
    path = write_cell("e", "f", "m", "er", {"ER": [50.0]})
    value = json.loads(path.read_text())
    value["selected"] = [{**value["selected"][0], "fold": fold, "test": {"ER": score}} for fold, score in (("1", -50.0), ("2", 150.0))]
    path.write_text(json.dumps(value))
    assert "selected.test.ER is -50" in refused(path)


@pytest.mark.parametrize("key", ["selected", "trials"])
def test_a_seed_that_is_there_twice(write_cell, key):
    path = write_cell("e", "f", "m", "ks", {"KS": [1.0, 2.0]})
    value = json.loads(path.read_text())
    value[key].append(value[key][0])
    path.write_text(json.dumps(value))
    assert f"{key}: seed 0 appears twice" in refused(path)


def test_a_recipe_that_was_changed(write_cell):
    path = write_cell("e", "f", "m", "ks", {"KS": [1.0]})
    recipe = json.loads(path.read_text())["recipe"]
    assert "hashes.recipe" in refused(change(path, recipe={**recipe, "steps": 999}))


def test_a_protocol_that_is_not_that_of_the_recipe(write_cell):
    assert "protocol: is 'superb', and 'quick' in the recipe" in refused(
        change(write_cell("e", "f", "m", "ks", {"KS": [1.0]}), protocol="superb")
    )


def test_a_key_that_is_there_twice(write_cell):
    path = write_cell("e", "f", "m", "ks", {"KS": [1.0]})
    path.write_text(path.read_text().replace('"task": "ks"', '"task": "ks",\n "task": "ks"', 1))
    assert f"{path}: line 2: key 'task' appears twice" in refused(path)
