"""Tasks of the user's own, evaluated on columns of one corpus."""

import json

import numpy as np
import pytest
from evaluate.corpora import SMALL
from evaluate.tone_corpus import PITCH, make_splits, write_splits
from typer.testing import CliRunner

from speechft.cli import app
from speechft.corpora.trials import Trial, write_trials
from speechft.errors import ConfigError, TaskError
from speechft.evaluate import evaluate, plan_evaluation
from speechft.tasks import get_task

# Kind, its options, and the metrics of the cell.
CASES = [
    ("classification", {"label": "accent", "metric": ["uar", "acc"]}, ["uar", "acc"]),
    ("regression", {"label": "age"}, ["mse"]),
    ("multilabel", {"label": "moods", "metric": "f1_micro"}, ["f1_micro"]),
    ("ctc", SMALL, ["cer"]),
    ("frame_classification", {"label": "vad", "metric": "f1"}, ["f1"]),
    ("verification", {"width": 8, "pooled_width": 16}, ["eer"]),
]
FAST = {"steps": 6, "eval_every": 3, "learning_rates": [1e-2, 1e-3], "batch_size": 4, "accumulate": 1}


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """Tones with a column for each kind; dev and test have trials."""
    folder = tmp_path_factory.mktemp("mine")
    splits = make_splits(folder)
    for cut in (cut for cuts in splits.values() for cut in cuts):
        kind = list(PITCH).index(cut.supervisions[0].custom["label"])
        cut.supervisions[0].custom = {
            "accent": ("north", "south", "west")[kind],
            "age": str(20.5 + 10 * kind),
            "moods": ("glad|loud", "sad", "")[kind],
            "vad": f"{('a', 'b', 'c')[kind]}:0.1-0.3 sil:0.3-0.4",
        }
    manifests = write_splits(folder, splits)
    pairs = [
        (split, first, second) for split in ("dev", "test") for first in splits[split] for second in splits[split] if first is not second
    ]
    trials = [Trial(a.supervisions[0].speaker == b.supervisions[0].speaker, a.id, b.id) for _, a, b in pairs]
    write_trials(manifests / "trials.csv", trials)
    return manifests


@pytest.mark.parametrize(("kind", "options", "metrics"), CASES)
def test_every_kind_gives_a_cell(kind, options, metrics, mine, model_dir, tmp_path):
    cell = evaluate(model_dir, "mine", mine, tmp_path / "mine.json", {**FAST, "kind": kind, "task_options": options})
    keys = [f"mine_{metric}" for metric in metrics]
    assert list(cell["metrics"]) == keys == [metric["key"] for metric in cell["described"]]
    assert (cell["task"], cell["protocol"], cell["recipe"]["kind"], cell["selected_on"]) == ("mine", "quick", kind, "dev")
    plan = plan_evaluation(model_dir, "mine", mine, {**FAST, "kind": kind, "task_options": options})
    assert plan.encoder_passes == pytest.approx(cell["counts"]["encoder_passes"], abs=3)


def test_a_regression_is_scored_in_the_unit_of_its_column(mine, model_dir, tmp_path):
    """The pitch says the age, so the head learns it: errors are far below the variance of the column, 66.7."""
    task = get_task("regression", name="years", label="age", metric=["mse", "ccc"])
    cell = evaluate(model_dir, task, mine, tmp_path / "years.json")
    assert cell["metrics"]["years_mse"] < 7
    assert cell["metrics"]["years_ccc"] > 0.9
    assert cell["recipe"]["task_options"] == {"label": "age", "metric": ["mse", "ccc"]}
    assert (cell["recipe"]["steps"], cell["recipe"]["eval_every"], len(cell["trials"])) == (200, 10, 3), "auto, for 18 utterances"
    by_name = evaluate(model_dir, "years", mine, tmp_path / "again.json", cell["recipe"])
    assert by_name["metrics"] == cell["metrics"]
    assert by_name["recipe"] == cell["recipe"]


def test_dev_is_followed_by_a_metric_that_is_no_mean_over_batches(mine, model_dir, tmp_path):
    """The reported correlation is that of all predictions, however dev and test are cut into batches."""
    changes = {**FAST, "kind": "regression", "task_options": {"label": "age", "metric": "pearson"}}
    whole = evaluate(model_dir, "years", mine, tmp_path / "whole.json", changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("speechft.evaluate.probes.batches.SCORING_CLIPS", 4)
        cut = evaluate(model_dir, "years", mine, tmp_path / "cut.json", changes)
    assert cut["metrics"] == {"years_pearson": pytest.approx(whole["metrics"]["years_pearson"], rel=1e-6)}
    assert np.isclose(
        [trial["dev"]["years_pearson"] for trial in cut["trials"]], [t["dev"]["years_pearson"] for t in whole["trials"]]
    ).all()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"kind": "regression", "task_options": {"label": "accent"}}, TaskError, "train000: accent 'north' is not a number"),
        ({"kind": "classification", "task_options": {"label": "acent"}}, TaskError, "Did you mean 'accent'?"),
        ({}, ConfigError, "A task of your own needs a kind: classification"),
        ({"kind": "ctc", "task": "theirs"}, ConfigError, "The recipe is for task 'theirs', not 'mine'."),
    ],
)
def test_refused_before_the_encoder_runs(changes, error, words, mine, model_dir, tmp_path, count_passes):
    with pytest.raises(error) as caught:
        evaluate(model_dir, "mine", mine, tmp_path / "mine.json", changes)
    assert words in str(caught.value)
    assert not count_passes


def test_the_command(mine, model_dir, tmp_path):
    recipe = tmp_path / "fast.yaml"
    recipe.write_text("learning_rates: [0.01]\nsteps: 4\nlike: er\n")
    arguments = ["evaluate", str(model_dir), "accent", str(mine), "--kind", "classification", "--label", "accent", "--metric", "uar"]
    arguments += ["--recipe", str(recipe), "--out", str(tmp_path / "accent.json")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    cell = json.loads((tmp_path / "accent.json").read_text())
    assert done.stdout.split() == ["accent_uar", f"{cell['metrics']['accent_uar']:.2f}"]
    used = cell["recipe"]
    assert (used["steps"], used["learning_rates"], used["batch_size"], used["accumulate"]) == (4, [0.01], 4, 8)
    recipe.write_text("stps: 4\n")
    failed = CliRunner().invoke(app, arguments)
    assert str(failed.exception).startswith(f"{recipe}: recipe of accent: 1 problem\n  stps: unknown key; did you mean 'steps'?")
    arguments.remove("--kind")
    arguments.remove("classification")
    assert CliRunner().invoke(app, arguments).exit_code == 2
    nameless = CliRunner().invoke(app, [*arguments[:4], "--out", str(tmp_path / "accent.json")])
    assert str(nameless.exception).startswith("recipe of accent: Unknown task 'accent'.")
