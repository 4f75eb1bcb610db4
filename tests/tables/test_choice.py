"""`speechft choose`: alpha by dev scores, the one-standard-error rule, and what is refused."""

import json

import pytest
from tables.conftest import cell_json
from typer.testing import CliRunner

from speechft.cli import app
from speechft.errors import ConfigError, MergeError, OutputError, TableError
from speechft.recipes.cell import read_cell
from speechft.recipes.choice import Choice, ChoiceRecipe
from speechft.recipes.tables import CurvePoint
from speechft.recipes.values import load_recipe
from speechft.tables.choice import choose, dev_errors
from speechft.tables.metrics import METRICS

ALPHAS = {0.0: ("none", "pretrained"), 0.25: ("f", "merge@0.25"), 0.5: ("f", "merge@0.50"), 1.0: ("f", "stable_ft")}


@pytest.fixture
def write(tmp_path):
    """Write the cells of a task: for each alpha the dev scores of the seeds; test scores say the opposite."""

    def make(task, metric, dev, *, described=True, **changes):
        for (finetuning, method), scores in zip(ALPHAS.values(), dev, strict=True):
            content = cell_json(f"e/{finetuning}/{method}", task, {metric: [0.5 - score / 1000 for score in scores]})
            for trial, score in zip(content["trials"], scores, strict=True):
                trial["dev"] = {metric: score}
            found = METRICS[metric]
            content["described"] = [{name: getattr(found, name) for name in found.__dataclass_fields__}] if described else []
            content |= changes
            path = tmp_path / f"cells/e/{finetuning}/{method}/{task}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
        return sorted((tmp_path / "cells").rglob("*.json"))

    return make


def recipe(*tasks, rule="one_se"):
    points = [CurvePoint(alpha=alpha, encoder="e", finetuning=model[0], method=model[1], label="x") for alpha, model in ALPHAS.items()]
    return ChoiceRecipe(points=points, tasks=tasks, rule=rule)


def test_gains_are_shares_of_the_errors_of_alpha_0(write):
    write("pr", "PR", [[20.0], [18.0], [15.0], [16.0]])
    cells = write("sid", "SID", [[80.0], [82.0], [80.0], [60.0]])
    found = choose(recipe("pr", "sid"), cells)
    # Errors of PR: 20, 18, 15, 16; of SID: 20, 18, 20, 40.
    assert [point.gains["pr"] for point in found.points] == pytest.approx([0, 0.1, 0.25, 0.2])
    assert [point.gains["sid"] for point in found.points] == pytest.approx([0, 0.1, 0, -1])
    assert [point.gain for point in found.points] == pytest.approx([0, 0.1, 0.125, -0.4])
    assert (found.alpha, found.best) == (0.5, 0.5)
    assert found.points[2].standard_error is None
    assert found.without == {"pr": 0.25, "sid": 0.5}
    assert found.points[1].model == "e/f/merge@0.25"


def test_within_one_standard_error_the_smaller_alpha_wins(write):
    cells = write("pr", "PR", [[20.0, 20.0], [16.0, 16.0], [14.0, 17.0], [30.0, 30.0]])
    found = choose(recipe("pr"), cells)
    # Mean gains 0, 0.2, 0.225; the standard error of the best is 1.5 / 20.
    assert found.points[2].standard_error == pytest.approx(1.5 / 20)
    assert (found.alpha, found.best, found.without) == (0.25, 0.5, {})
    assert choose(recipe("pr", rule="best"), cells).alpha == 0.5


def test_a_score_of_which_more_is_better(write):
    cells = write("qbe", "QbE", [[0.4], [0.55], [0.5], [0.1]])
    assert [point.gain for point in choose(recipe("qbe"), cells).points] == pytest.approx([0, 0.25, 1 / 6, -0.5])


def test_where_alpha_0_makes_no_errors_others_can_only_lose(write):
    found = choose(recipe("sid"), write("sid", "SID", [[100.0], [90.0], [80.0], [60.0]]))
    assert [point.gain for point in found.points] == pytest.approx([0, -0.25, -0.5, -1])
    assert found.alpha == 0
    assert choose(recipe("ks"), write("ks", "KS", [[100.0]] * 4)).alpha == 0


def test_test_scores_are_not_read(write):
    cells = write("pr", "PR", [[20.0], [18.0], [15.0], [16.0]])
    before = choose(recipe("pr"), cells)
    for path in cells:
        content = json.loads(path.read_text())
        content["metrics"] = {"PR": 1.0}
        content["values"] = {"PR": [1.0]}
        content["selected"][0]["test"] = {"PR": 1.0}
        path.write_text(json.dumps(content))
    assert choose(recipe("pr"), cells) == before


def test_frame_accuracy_is_known_where_dev_is_followed_by_it(write):
    (cell,) = (path for path in write("sd", "SD", [[10.0]] * 4) if "pretrained" in str(path))
    content = json.loads(cell.read_text())
    content["trials"][0]["dev"] = {"SD_ACC": 90.0}
    cell.write_text(json.dumps(content))
    assert dev_errors(read_cell(cell)) == [pytest.approx(10)]
    content["trials"][0]["dev"] = {"OTHER": 90.0}
    cell.write_text(json.dumps(content))
    with pytest.raises(TableError, match="does not describe its metric OTHER"):
        dev_errors(read_cell(cell))


def test_refusals(write, tmp_path):
    cells = write("pr", "PR", [[20.0], [18.0], [15.0], [16.0]])
    with pytest.raises(TableError, match=r"4 missing cell\(s\): e/none/pretrained/sid"):
        choose(recipe("pr", "sid"), cells)
    with pytest.raises(TableError, match="selected on test"):
        choose(recipe("asv"), write("asv", "ASV", [[10.0]] * 4, selected_on="test"))
    mine = tmp_path / "mine.json"
    mine.write_text('{"mine": 1}')
    with pytest.raises(OutputError, match="is not a choice"):
        choose(recipe("pr"), cells, mine)
    assert mine.read_text() == '{"mine": 1}'
    with pytest.raises(OutputError):
        choose(recipe("pr"), cells, cells[0])


def test_the_command(write, tmp_path):
    write("pr", "PR", [[20.0, 20.0], [16.0, 16.0], [14.0, 17.0], [30.0, 30.0]])
    write("sid", "SID", [[80.0], [82.0], [80.0], [60.0]])
    run, drawn = CliRunner().invoke, ["--figure", str(tmp_path / "alpha.png")]
    done = run(app, ["choose", str(tmp_path / "cells"), "--tasks", "pr,sid", "--out", str(tmp_path / "alpha.json"), *drawn])
    assert done.exit_code == 0, done.output
    assert "alpha 0.25: the best mean gain" in done.output
    assert "without pr: alpha 0.25, which changes the errors of pr by -20.0% on dev" in done.output
    assert json.loads((tmp_path / "alpha.json").read_text())["alpha"] == 0.25
    drawing = (tmp_path / "alpha.svg").read_text()
    assert all(text in drawing for text in ("e, f, merge: alpha by dev", "chosen: 0.25", ">pr<", ">sid<"))
    done = run(app, ["choose", str(tmp_path / "cells"), "--tasks", "pr"])
    assert "alpha 0.25: within one standard error of alpha 0.5, the best" in done.output
    (tmp_path / "recipe.json").write_text(recipe("pr", rule="best").model_dump_json())
    cells = [str(path) for path in (tmp_path / "cells").rglob("pr.json")]
    assert "alpha 0.5: the best mean gain" in run(app, ["choose", str(tmp_path / "recipe.json"), *cells]).output
    twice = run(app, ["choose", str(tmp_path / "cells"), "--tasks", "pr,pr"])
    assert isinstance(twice.exception, ConfigError)
    assert "tasks: 'pr' appears twice" in str(twice.exception)
    same = [str(tmp_path / "same.svg"), "--figure", str(tmp_path / "same.png")]
    assert isinstance(run(app, ["choose", str(tmp_path / "cells"), "--tasks", "pr", "--out", *same]).exception, OutputError)
    assert not (tmp_path / "same.svg").exists(), "the SVG beside the figure has the name of the choice"
    failed = run(app, ["choose", str(tmp_path / "cells"), "--tasks", "pr,ks"])
    assert failed.exit_code != 0
    (tmp_path / "cells/e/f/merge@0.50/sid.json").unlink()
    shown = run(app, ["choose", str(tmp_path / "cells")]).output
    assert "pr" in shown
    assert "sid" not in shown, "only tasks with cells at every alpha count by default"


def test_merge_takes_the_choice(write, tmp_path):
    pytest.importorskip("torch")
    from speechft.encoders import random_encoder

    cells = write("pr", "PR", [[20.0], [18.0], [15.0], [16.0]])
    choose(recipe("pr"), cells, tmp_path / "alpha.json")
    base, tuned = (random_encoder("hubert", tmp_path / name, seed=seed) for seed, name in enumerate(("base", "tuned")))
    (tmp_path / "merge.json").write_text(json.dumps({"alpha": "dev"}))
    run = CliRunner().invoke
    words = ["merge", str(base), str(tuned), "--recipe", str(tmp_path / "merge.json"), "--out", str(tmp_path / "out")]
    refused = run(app, words)
    assert isinstance(refused.exception, MergeError)
    assert "alpha is chosen on dev. Give the output of `speechft choose` as --choice" in str(refused.exception)
    both = run(app, [*words, "--choice", str(tmp_path / "alpha.json"), "--alpha", "0.1"])
    assert both.exit_code == 2
    done = run(app, [*words, "--choice", str(tmp_path / "alpha.json")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out/provenance.json").read_text())["recipe"]["alpha"] == 0.5


def test_a_choice_that_was_changed_by_hand_is_refused(write, tmp_path):
    made = choose(recipe("pr"), write("pr", "PR", [[20.0], [18.0], [15.0], [16.0]]), tmp_path / "alpha.json").model_dump(by_alias=True)
    assert load_recipe(Choice, tmp_path / "alpha.json").alpha == 0.5
    points = made["points"]
    of_other_gains = [{**points[0], "gain": 0.5}, *points[1:]]
    below_zero = [{**points[0], "standard_error": -1.0}, *points[1:]]
    for change in (
        {"alpha": 0.7},
        {"best": 1.0},
        {"tasks": ("pr", "sid")},
        {"points": of_other_gains},
        {"points": below_zero},
        {"points": points[::-1]},
        {"points": ()},
    ):
        (tmp_path / "alpha.json").write_text(json.dumps({**made, **change}))
        with pytest.raises(ConfigError, match=r"alpha\.json: 1 problem"):
            load_recipe(Choice, tmp_path / "alpha.json")
