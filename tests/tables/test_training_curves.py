from pathlib import Path

import pytest
from conftest import ROOT

from speechft.errors import TableError
from speechft.tables.training import distinct_names, draw_training_curves, read_training_log, running_mean

RECORDED = ROOT / "docs/results/recorded"


def test_columns_become_points_of_updates_and_of_validations():
    run = read_training_log(RECORDED / "finetuning.csv", "stable")
    assert len(run.training["loss"][0]) == 1000
    assert "phase" not in run.training
    assert set(run.validation) == {"loss", "PR"}
    assert run.head_until == 100
    pretraining = read_training_log(RECORDED / "pretraining.csv", "pretraining")
    assert {"loss_m", "accuracy_m", "lr", "grad_norm"} == set(pretraining.training)
    assert pretraining.validation["loss_m"][0] == [200, 400, 600, 800, 1000]
    assert pretraining.head_until is None


def test_a_row_that_is_being_written_is_left_out(tmp_path):
    log = tmp_path / "training.csv"
    log.write_text("update,loss,dev_loss\n1,2.5,\n2,2.0,1.5\n3,1.")
    run = read_training_log(log, "x")
    assert run.training["loss"] == ([1, 2], [2.5, 2.0])
    assert run.validation["loss"] == ([2], [1.5])


def test_figure_is_written_twice_the_same(tmp_path):
    logs = [RECORDED / "finetuning.csv", RECORDED / "pretraining.csv"]
    draw_training_curves(logs, tmp_path / "a.png")
    draw_training_curves(logs, tmp_path / "b.png")
    for end in (".png", ".svg"):
        content = (tmp_path / "a.png").with_suffix(end).read_bytes()
        assert content == (tmp_path / "b.png").with_suffix(end).read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_names_are_as_long_as_they_must_be():
    logs = ["r/models/hubert/pr/stable_ft/training.csv", "r/models/hubert/pr/plain_ft/training.csv"]
    assert distinct_names([Path(log) for log in logs]) == ["stable_ft", "plain_ft"]
    logs = ["r/models/hubert/pr/stable_ft/training.csv", "r/models/hubert/sid/stable_ft/training.csv"]
    assert distinct_names([Path(log) for log in logs]) == ["pr/stable_ft", "sid/stable_ft"]
    assert distinct_names([Path("a/first.csv"), Path("b/second.csv")]) == ["first", "second"]


def test_running_mean_is_over_the_last_values():
    assert running_mean([1.0, 2.0, 3.0, 4.0], 2) == [1.0, 1.5, 2.5, 3.5]


def test_what_is_no_log_is_named(tmp_path):
    with pytest.raises(TableError, match=r"nothing\.csv: no such file"):
        draw_training_curves([tmp_path / "nothing.csv"], tmp_path / "a.png")
    (tmp_path / "other.csv").write_text("path,text\na,b\n")
    with pytest.raises(TableError, match="no row of a finished update"):
        draw_training_curves([tmp_path / "other.csv"], tmp_path / "a.png")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("update,loss\n1,nan\n2,inf\n", "no value in it is a finite number"),
        ("update,loss\n1,1e400\n2,-inf\n", "no value in it is a finite number"),
        ("update,loss\n²,1.0\n", "no row of a finished update"),
        ("update,loss\n" + "9" * 5000 + ",1.0\n", "no row of a finished update"),
        ("update,loss\n1,1.0,2.0\n", "no row of a finished update"),
        ("loss\n1.0\n", "no row of a finished update"),
        ("update,loss\n1,\0\n", "is no training log"),
        ("update,loss\n1,1\n" + "x" * 200_000, "is no training log"),
    ],
)
def test_a_log_without_anything_to_draw_is_one_error(tmp_path, content, said):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(TableError, match=f"t.csv: {said}|t.csv: has {said}"):
        draw_training_curves([tmp_path / "t.csv"], tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_a_training_that_diverged_later_is_drawn_until_then(tmp_path):
    (tmp_path / "t.csv").write_text("update,loss\n1,2.0\n2,nan\n3,inf\n")
    assert read_training_log(tmp_path / "t.csv", "x").training == {"loss": ([1], [2.0])}
    draw_training_curves([tmp_path / "t.csv"], tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()
