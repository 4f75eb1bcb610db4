"""Tables from cells alone: what a cell says of its metrics, and folders of cells without any recipe."""

import json

import pytest
from tables.conftest import cell_json
from typer.testing import CliRunner

from speechft.cli import app
from speechft.errors import TableError
from speechft.files.structured import write_json
from speechft.recipes.tables import TableRecipe
from speechft.tables.build import build_table
from speechft.tables.cells import read_cells
from speechft.tables.folder import cell_files, folder_curves, folder_differences, folder_table
from speechft.tasks.catalog import metrics_of


def own_cell(model, value, task="age", kind="regression", metric="pearson"):
    """A cell of a task of the user's own, as an evaluation writes it."""
    metrics = metrics_of(task, kind, {"metric": metric})
    described = [vars(found) for found in metrics]
    return {**cell_json(model, task, {metrics[0].key: [value]}), "described": described}


@pytest.fixture
def folder(tmp_path):
    """Cells of an encoder before and after fine-tuning, and of merges of both."""
    models = {"none/pretrained": -0.25, "age/stable_ft": 0.5, "age/speech_ft@0.75": 0.25, "age/speech_ft@0.50": 0.75}
    for model, value in models.items():
        write_cell(tmp_path, f"e/{model}", "age", own_cell(f"e/{model}", value))
        write_cell(tmp_path, f"e/{model}", "er", cell_json(f"e/{model}", "er", {"ER": [60.0 + value]}))
    (tmp_path / "cells/.work").mkdir()
    (tmp_path / "cells/.work/state.json").write_text("{}")
    return tmp_path / "cells"


def write_cell(tmp_path, model, task, content):
    path = tmp_path / f"cells/{model}/{task}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)
    return path


def test_rows_and_columns_are_those_of_the_cells(folder):
    recipe = folder_table(cell_files(folder), "All")
    assert [(row.label, row.finetuning) for row in recipe.rows] == [
        ("Pre-trained", "none"), ("speech_ft@0.50", "age"), ("speech_ft@0.75", "age"), ("stable_ft", "age"),
    ]  # fmt: skip
    assert list(recipe.metrics) == ["er", "age"], "built-in tasks first"


def test_the_commands(folder, tmp_path):
    out = tmp_path / "out"
    for command in (["table"], ["figure"], ["alpha"]):
        target = out / "cells.png" if command == ["figure"] else out
        done = CliRunner().invoke(app, ["report", *command, str(folder), "--out", str(target)])
        assert done.exit_code == 0, done.output
    table = (out / "cells.md").read_text()
    assert "| method         | encoder | fine-tuning | ER acc % ↑ | age Pearson r ↑ |" in table
    assert "| Pre-trained    | e       | none        | 59.75      | -0.250          |" in table
    curve = (out / "e_age_speech_ft.md").read_text()
    assert [line[2:6] for line in curve.splitlines() if line[2:3].isdigit()] == ["0.00", "0.50", "0.75", "1.00"]
    assert (out / "e_age_speech_ft.png").is_file()
    done = CliRunner().invoke(app, ["report", "differences", str(folder), "--out", str(tmp_path / "differences")])
    assert done.exit_code == 0, done.output
    assert "| speech_ft@0.50 minus Pre-trained |" in (tmp_path / "differences/cells.md").read_text()
    other = ["report", "differences", str(folder), "--against", "age/stable_ft", "--out", str(tmp_path / "other")]
    assert CliRunner().invoke(app, other).exit_code == 0
    assert "| Pre-trained minus stable_ft " in (compared := (tmp_path / "other/cells.md").read_text())
    assert "stable_ft minus stable_ft" not in compared
    assert CliRunner().invoke(app, ["report", "table", str(folder), str(folder), "--out", str(out)]).exit_code == 2


def test_ends_of_a_curve(folder):
    (curve,) = folder_curves(cell_files(folder)).values()
    assert [(point.alpha, point.method) for point in curve.points] == [
        (0.0, "pretrained"), (0.5, "speech_ft@0.50"), (0.75, "speech_ft@0.75"), (1.0, "stable_ft"),
    ]  # fmt: skip
    write_cell(folder.parent, "e/age/plain", "er", cell_json("e/age/plain", "er", {"ER": [1.0]}))
    assert "stable_ft" in [point.method for point in folder_curves(cell_files(folder))["e_age_speech_ft"].points]


def test_what_a_folder_cannot_be_compared_with(folder):
    with pytest.raises(
        TableError, match="No model can be compared with 'pr/stable_ft'. Name one of these with --against: none/pretrained, "
    ):
        folder_differences(cell_files(folder), "All", "pr/stable_ft")


def test_curves_of_two_merges_never_share_a_file(folder):
    for model in ("e/x_age", "e_x/age"):
        for method in ("m@0.25", "m@0.50"):
            write_cell(folder.parent, f"{model}/{method}", "er", cell_json(f"{model}/{method}", "er", {"ER": [1.0]}))
    with pytest.raises(TableError, match="e_x/age/m: another merge would have the same files e_x_age_m"):
        folder_curves(cell_files(folder))


def test_folders_that_show_nothing(folder, tmp_path):
    with pytest.raises(TableError, match="no such file, needed as the folder of cells"):
        cell_files(tmp_path / "sells")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match="contains no cells"):
        cell_files(tmp_path / "empty")
    with pytest.raises(TableError, match="No merge has cells at two alphas"):
        folder_curves([path for path in cell_files(folder) if "@" not in str(path)])
    write_cell(folder.parent, "e/age/other", "age", own_cell("e/age/other", 0.5, metric="ccc"))
    with pytest.raises(TableError, match="other cells of task 'age' have different metrics"):
        folder_table(cell_files(folder), "All")


def test_the_range_is_that_of_the_description(tmp_path):
    path = write_cell(tmp_path, "e/none/pretrained", "age", own_cell("e/none/pretrained", -1.5))
    with pytest.raises(TableError, match=r"values\.age_pearson is -1\.5; allowed: -1 to 1"):
        read_cells([path])
    path = write_cell(tmp_path, "e/none/pretrained", "age", own_cell("e/none/pretrained", 1e9, metric="mse"))
    assert read_cells([path])[0].described[0].name == "MSE"
    path = write_cell(tmp_path, "e/none/pretrained", "er", cell_json("e/none/pretrained", "er", {"ER": [101.0]}))
    with pytest.raises(TableError, match=r"values\.ER is 101; allowed: 0 to 100"):
        read_cells([path])


def test_cells_with_another_metric_than_the_table(tmp_path):
    path = write_cell(tmp_path, "e/none/pretrained", "age", own_cell("e/none/pretrained", 0.5))
    recipe = folder_table([path], "All")
    write_json(path, own_cell("e/none/pretrained", 0.5, metric="ccc"))
    with pytest.raises(TableError, match=r"Cell e/none/pretrained/age has age_ccc, but the table needs age_pearson"):
        build_table(recipe, [path], None, tmp_path / "out", "t")


def test_pending_cells_have_a_column_and_published_numbers(tmp_path, write_published):
    path = write_cell(tmp_path, "e/none/pretrained", "age", own_cell("e/none/pretrained", 0.5))
    recipe = TableRecipe.model_validate({**json.loads(folder_table([path], "All").model_dump_json()), "published": "t"})
    build_table(recipe, [], write_published("t,e,none,pretrained,age_pearson,0.4"), tmp_path / "out", "t")
    assert "| Pre-trained | e       | none        | pending (0.400) |" in (tmp_path / "out/t.md").read_text()
