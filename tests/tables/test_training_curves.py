"""The figure of training logs."""

from pathlib import Path

import pytest
from conftest import ROOT

from speechft.errors import TableError
from speechft.tables import training
from speechft.tables.training import distinct_names, draw_training_curves, read_training_log

RECORDED = ROOT / "docs/results/recorded"


def test_columns_become_points_of_updates_and_of_validations():
    run = read_training_log(RECORDED / "finetuning.csv", "stable")
    assert len(run.training["loss"][0]) == 1000
    assert "phase" not in run.training
    assert (set(run.validation), run.head_until) == ({"loss", "PR"}, 100)
    pretraining = read_training_log(RECORDED / "pretraining.csv", "pretraining")
    assert set(pretraining.training) == {"loss_m", "accuracy_m", "lr", "grad_norm"}
    assert (pretraining.validation["loss_m"][0], pretraining.head_until) == ([200, 400, 600, 800, 1000], None)


def test_unfinished_rows_and_values_that_are_no_numbers_are_left_out(tmp_path):
    log = tmp_path / "training.csv"
    log.write_text("update,loss,dev_loss\n1,2.5,\n2,2.0,1.5\n3,1.")
    run = read_training_log(log, "x")
    assert (run.training["loss"], run.validation["loss"]) == (([1, 2], [2.5, 2.0]), ([2], [1.5]))
    log.write_text("update,loss\n1,2.0\n2,nan\n3,inf\n")
    assert read_training_log(log, "x").training == {"loss": ([1], [2.0])}
    draw_training_curves([log], tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


def test_figure_is_written_twice_the_same(tmp_path):
    for name in "ab":
        draw_training_curves([RECORDED / "finetuning.csv", RECORDED / "pretraining.csv"], tmp_path / f"{name}.png")
    for end in ("png", "svg"):
        assert (tmp_path / f"a.{end}").read_bytes() == (tmp_path / f"b.{end}").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("logs", "names"),
    [
        (["r/models/hubert/pr/stable_ft/training.csv", "r/models/hubert/pr/plain_ft/training.csv"], ["stable_ft", "plain_ft"]),
        (["r/models/hubert/pr/stable_ft/training.csv", "r/models/hubert/sid/stable_ft/training.csv"], ["pr/stable_ft", "sid/stable_ft"]),
        (["a/first.csv", "b/second.csv"], ["first", "second"]),
    ],
)
def test_names_are_as_long_as_they_must_be(logs, names):
    assert distinct_names(list(map(Path, logs))) == names


def test_thick_lines_are_running_means(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(training, "save_figure", lambda draw, _: drawn.append(draw()))
    (tmp_path / "t.csv").write_text("\n".join(["update,loss", *(f"{update},{update}" for update in range(1, 121))]) + "\n")
    draw_training_curves([tmp_path / "t.csv"], tmp_path / "a.png")
    assert list(drawn[0].axes[0].lines[1].get_ydata()[:3]) == [1.0, 1.5, 2.5]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        ("path,text\na,b\n", "has no finished update"),
        ("update,loss\n1,nan\n2,inf\n", "has no finite numbers to draw"),
        ("update,loss\n1,1e400\n2,-inf\n", "has no finite numbers to draw"),
        ("update,loss\n²,1.0\n", "has no finished update"),
        ("update,loss\n" + "9" * 5000 + ",1.0\n", "has no finished update"),
        ("update,loss\n1,1.0,2.0\n", "has no finished update"),
        ("update,loss\n1,\0\n", "is not a training log"),
        ("update,loss\n1,1\n" + "x" * 200_000, "is not a training log"),
    ],
)
def test_a_log_without_anything_to_draw_is_one_error(tmp_path, content, said):
    if content is not None:
        (tmp_path / "t.csv").write_text(content)
    with pytest.raises(TableError, match=f"t.csv: {said}"):
        draw_training_curves([tmp_path / "t.csv"], tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
