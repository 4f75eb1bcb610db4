"""The cell of every task: what it holds, that it is the same again, and what it costs."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from evaluate.corpora import QUICK

from speechft.encoders import fbank_encoder, load_encoder
from speechft.errors import TableError
from speechft.evaluate import evaluate, plan_evaluation
from speechft.recipes.cell import read_cell
from speechft.recipes.pretraining import FbankRecipe
from speechft.tasks import TASK_NAMES, get_task

ALL = {"train": 18, "dev": 6, "test": 6}


def linear(classes):
    return lambda width: (width + 1) * 256 + 257 * classes


# Task -> outputs, metrics, utterances of each split, parameters of the head for features of a width.
HELD = {
    "ks": (3, ["KS"], ALL, linear(3)),
    "sid": (2, ["SID"], ALL, linear(2)),
    "er": (3, ["ER"], ALL, linear(3)),
    "ic": (5, ["IC"], ALL, linear(5)),
    "pr": (74, ["PR"], ALL, linear(74)),
    "pc": (39, ["PC"], ALL, linear(39)),
    "asr": (32, ["ASR"], ALL, None),
    "sf": (35, ["SF_F1", "SF_CER"], ALL, None),
    "sd": (2, ["SD"], {"train": 6, "dev": 2, "test": 3}, lambda width: 4 * 512 * (width + 512 + 2) + 2 * 513),
    "asv": (3, ["ASV"], {"train": 12, "dev": 5, "test": 6}, None),
    "qbe": (0, ["QbE"], {"train": 0, "dev": 3, "test": 8}, lambda width: None),
}


def without_times(cell):
    return {key: value for key, value in cell.items() if key != "seconds"}


@pytest.mark.parametrize("task", HELD)
def test_a_cell_holds_everything_and_is_the_same_again(task, model_dir, corpus_of, cell_of, tmp_path):
    outputs, metrics, utterances, parameters = HELD[task]
    torch.manual_seed(3)
    expected_random = torch.rand(2)
    torch.manual_seed(3)
    out = tmp_path / f"{task}.json"
    cell = evaluate(model_dir, task, corpus_of(task), out, QUICK[task], model_name="hubert/none/pretrained")
    assert torch.equal(torch.rand(2), expected_random), "the global random state was changed"
    assert json.loads(out.read_text()) == cell
    read_cell(out)
    assert without_times({**cell, "model": None}) == without_times({**cell_of(task), "model": None})
    assert {**cell["model"], "sha256": None} == {"encoder": "hubert", "finetuning": "none", "method": "pretrained", "sha256": None}
    assert list(cell["metrics"]) == metrics
    assert cell["values"] == {key: [value] for key, value in cell["metrics"].items()}
    counts, trained = cell["counts"], QUICK[task].get("learning_rates")
    assert {name: counts[name]["utterances"] for name in utterances} == utterances
    assert (counts["labels"], counts["folds"]) == (outputs, {})
    # Each recording goes through the encoder once.
    assert counts["encoder_passes"] == sum(utterances.values())
    assert set(cell["hashes"]["manifests"]) == {name for name, size in utterances.items() if size}
    encoder = load_encoder(model_dir)
    if parameters is not None:
        assert counts["trainable_parameters"] == ((encoder.num_states + parameters(encoder.hidden_size)) if trained else 0)
    assert (cell["selected_on"], cell["selected"][0]["fold"]) == ("dev", None)
    metric = get_task(task).metrics[0] if task == "asv" else get_task(task).selection_metric
    (chosen,) = (trial for trial in cell["trials"] if trial["selected"])
    of_trials = [trial["dev"][metric.key] for trial in cell["trials"]]
    assert chosen["dev"][metric.key] == (max if metric.higher_is_better else min)(of_trials)
    if trained:
        assert [trial["learning_rate"] for trial in cell["trials"]] == trained
        assert all(trial["best_step"] % QUICK[task]["eval_every"] == 0 for trial in cell["trials"])
        assert cell["recipe"]["steps"] == QUICK[task]["steps"]
    plan = plan_evaluation(model_dir, task, corpus_of(task), QUICK[task])
    assert plan.encoder_passes == pytest.approx(counts["encoder_passes"], rel=0.2)
    assert plan.head_steps == QUICK[task].get("steps", 0)
    # Nothing is left beside the cell but the lock, and the lengths of recordings without silence.
    assert [path.suffix for path in (tmp_path / ".work").iterdir() if not path.name.startswith("silence-")] == [".lock"]


def test_tones_are_recognized(cell_of):
    assert [cell_of(task)["metrics"][key] for task, key in (("ks", "KS"), ("sid", "SID"), ("ic", "IC"))] == [100.0] * 3
    chosen, other = cell_of("ks")["trials"]
    assert chosen["selected"]
    assert chosen["dev"]["KS"] > other["dev"]["KS"]
    # A third by chance; frames near a border hear both sides.
    pc = cell_of("pc", steps=80, eval_every=40)
    assert pc["metrics"]["PC"] > 80.0
    assert pc["trials"][0]["dev"]["PC"] > pc["trials"][1]["dev"]["PC"]


@pytest.mark.parametrize("task", ["ks", "pr"])
def test_a_seed_does_not_depend_on_the_others(task, cell_of):
    first, other = cell_of(task, seeds=[1, 2]), cell_of(task, seeds=[3, 2])
    assert len(first["trials"]) == 4
    assert len(next(iter(first["values"].values()))) == 2
    assert other["selected"][1] == first["selected"][1]


def test_seeds_train_different_heads(cell_of):
    cell = cell_of("pr", steps=4, eval_every=1, learning_rates=[1e-1], seeds=[1, 2, 3])
    assert len({json.dumps(trial["dev"]) + str(trial["best_step"]) for trial in cell["trials"]}) > 1


@pytest.mark.parametrize(
    ("task", "changes", "passes", "tolerance"),
    [
        # Steps x batches x utterances, two evaluations on dev, test. A rate that does not amplify rounding.
        ("pr", {"learning_rates": [1e-4]}, 20 * 2 * 4 + 2 * 6 + 6, 1.0),
        # Buckets of 6 are halved.
        ("asr", {"learning_rates": [1e-4]}, 8 * 3 + 2 * 6 + 6, 1.0),
        ("asv", {}, 4 * 2 * 4 + 2 * 5 + 6, 5.0),
        # Statistics, then dev, then test; documents three times, the queries of a split twice.
        ("qbe", {}, 3 * 5 + 2 * 3 + 2 * 3, 1e-6),
    ],
)
def test_the_budget_for_frames_changes_the_cost_only(task, changes, passes, tolerance, model_dir, corpus_of, cell_of):
    kept, recomputed = cell_of(task, **changes), cell_of(task, **changes, cache_gb=0.0)
    assert recomputed["counts"]["encoder_passes"] == passes > kept["counts"]["encoder_passes"]
    for key, (value,) in kept["values"].items():
        assert recomputed["values"][key] == pytest.approx([value], abs=tolerance)
        if task == "qbe":
            assert [trial["dev"] for trial in recomputed["trials"]] == [pytest.approx(trial["dev"], abs=1e-6) for trial in kept["trials"]]
    plan = plan_evaluation(model_dir, task, corpus_of(task), {**QUICK[task], **changes, "cache_gb": 0.0})
    assert plan.encoder_passes == pytest.approx(passes, rel=0.25)


@pytest.fixture(scope="module")
def fbank_dir(tmp_path_factory):
    return fbank_encoder(tmp_path_factory.mktemp("fbank") / "fbank")


SHORT = {"protocol": "quick", "steps": 4, "eval_every": 2, "batch_size": 4, "accumulate": 1, "learning_rates": [1e-2, 1e-4]}


@pytest.mark.parametrize("task", TASK_NAMES)
def test_every_task_runs_on_filterbanks(task, fbank_dir, corpus_of, tmp_path):
    """FBANK has one hidden state."""
    options = {"task_options": QUICK["asr" if task == "asr_zh" else task].get("task_options", {})}
    recipe, corpus = {} if task == "qbe" else SHORT | options, corpus_of("folds" if task == "er" else task)
    cell = evaluate(fbank_dir, task, corpus, tmp_path / "cell.json", recipe)
    assert read_cell(tmp_path / "cell.json").task == task
    assert all(np.isfinite(values).all() for values in cell["values"].values())
    if task == "qbe":
        assert [trial["layer"] for trial in cell["trials"]] == [0]
    assert plan_evaluation(fbank_dir, task, corpus, recipe).encoder_passes == pytest.approx(cell["counts"]["encoder_passes"], rel=0.2)


def test_heads_that_average_need_features_that_are_not_normalized(fbank_dir, manifests, tmp_path):
    """The mean of normalized values is zero for every utterance, so that the tones cannot be told apart."""
    recipe = {**SHORT, "steps": 100, "eval_every": 50, "batch_size": 8}
    plain = fbank_encoder(tmp_path / "plain", FbankRecipe(normalize=False))
    chance, known = (evaluate(model, "ks", manifests, tmp_path / "ks.json", recipe) for model in (fbank_dir, plain))
    assert chance["metrics"]["KS"] == pytest.approx(100 / 3)
    assert known["metrics"]["KS"] == 100.0
    assert chance["hashes"]["model"] != known["hashes"]["model"]


def test_labels_enter_the_hash(cell_of):
    given = cell_of("ks", task_options={"classes": ["low", "middle", "high"]})
    assert given["hashes"]["labels"] != cell_of("ks")["hashes"]["labels"]


def test_cells_are_checked(cell_of, tmp_path):
    out = tmp_path / "a.json"
    for change in ({"schema": 2}, {"metrics": {"KS": 1.0}}, {"trials": []}, {"protocol": "other"}, {"unknown": 1}):
        out.write_text(json.dumps({**cell_of("ks"), **change}))
        with pytest.raises(TableError, match="a.json"):
            read_cell(out)
    out.write_text("{")
    with pytest.raises(TableError, match="not valid JSON"):
        read_cell(out)
    with pytest.raises(TableError, match="no such file"):
        read_cell(tmp_path / "none.json")


def test_reading_cells_needs_no_torch():
    code = "import sys, speechft.evaluate, speechft.recipes.cell; sys.exit('torch' in sys.modules or 'lhotse' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
