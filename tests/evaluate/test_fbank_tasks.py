"""Every task runs on FBANK, which has one hidden state; what heads learn from it."""

import json

import numpy as np
import pytest
from evaluate import test_diarization_evaluation, test_frame_level_tasks, test_query_by_example, test_verification
from evaluate.test_cross_validation import folded_cuts
from evaluate.tone_corpus import make_cut, make_splits, write_manifest, write_splits

from speechft.encoders import fbank_encoder
from speechft.errors import TaskError
from speechft.evaluate import evaluate, plan_evaluation
from speechft.recipes.cell import read_cell
from speechft.recipes.pretraining import FbankRecipe
from speechft.tasks import TASK_NAMES

SHORT = {"protocol": "quick", "steps": 4, "batch_size": 4, "accumulate": 1, "eval_every": 2, "learning_rates": [1e-2, 1e-4]}
RECIPES = {
    **dict.fromkeys(TASK_NAMES, SHORT),
    "asr": {**SHORT, "task_options": test_frame_level_tasks.SMALL},
    "sf": {**SHORT, "task_options": test_frame_level_tasks.SMALL},
    "asr_zh": {**SHORT, "task_options": test_frame_level_tasks.SMALL},
    "ic": {**SHORT, "task_options": {"slots": ["pitch", "voice"]}},
    "asv": test_verification.QUICK,
    "qbe": {},
}


@pytest.fixture(scope="module")
def fbank_dir(tmp_path_factory):
    return fbank_encoder(tmp_path_factory.mktemp("fbank") / "fbank")


def intents(folder):
    splits = make_splits(folder, {"train": 12, "dev": 6, "test": 6})
    for cut in (cut for cuts in splits.values() for cut in cuts):
        supervision = cut.supervisions[0]
        supervision.custom = {"label": f"{supervision.custom['label']}|{supervision.speaker}"}
    return write_splits(folder, splits)


def folds(folder):
    write_manifest(folder / "train.jsonl.gz", folded_cuts(folder))
    return folder


def annotated(folder):
    return write_splits(folder, test_frame_level_tasks.annotated_splits(folder))


CORPORA = {
    "pr": annotated,
    "asr": annotated,
    "asr_zh": annotated,
    "sf": annotated,
    "pc": annotated,
    "er": folds,
    "ic": intents,
    "asv": test_verification.make_corpus,
    "sd": test_diarization_evaluation.make_corpus,
    "qbe": lambda folder: write_splits(folder, test_query_by_example.make_splits(folder)),
}


@pytest.mark.parametrize("task", TASK_NAMES)
def test_every_task_runs(task, fbank_dir, manifests, tmp_path):
    corpus = CORPORA[task](tmp_path / "corpus") if task in CORPORA else manifests
    cell = evaluate(fbank_dir, task, corpus, tmp_path / "cell.json", RECIPES[task], model_name="fbank/none/pretrained")
    read_cell(tmp_path / "cell.json")
    assert cell["task"] == task
    assert all(np.isfinite(values).all() for values in cell["values"].values())
    if task == "qbe":
        assert [trial["layer"] for trial in cell["trials"]] == [0]
    passes = plan_evaluation(fbank_dir, task, corpus, RECIPES[task]).encoder_passes
    assert passes == pytest.approx(cell["counts"]["encoder_passes"], rel=0.2)


def test_heads_that_average_need_features_that_are_not_normalized(fbank_dir, manifests, tmp_path):
    """The mean of normalized values is zero for every utterance, so that the tones cannot be told apart."""
    recipe = {**SHORT, "steps": 100, "eval_every": 50, "batch_size": 8}
    plain = fbank_encoder(tmp_path / "plain", FbankRecipe(normalize=False))
    chance = evaluate(fbank_dir, "ks", manifests, tmp_path / "chance.json", recipe)["metrics"]["KS"]
    known = evaluate(plain, "ks", manifests, tmp_path / "known.json", recipe)["metrics"]["KS"]
    assert chance == pytest.approx(100 / 3)
    assert known == 100.0


def test_utterances_that_are_too_short_are_the_same_as_for_other_encoders(fbank_dir, model_dir, tmp_path):
    splits = make_splits(tmp_path)
    splits["train"].append(make_cut(tmp_path / "wav", "short-train", np.zeros(399)))
    splits["train"].append(make_cut(tmp_path / "wav", "one-frame", np.zeros(400)))
    corpus = write_splits(tmp_path / "kept", splits)
    dropped = [evaluate(model, "ks", corpus, tmp_path / "ks.json", SHORT)["counts"]["train"]["dropped"] for model in (fbank_dir, model_dir)]
    assert dropped[0] == dropped[1] == {"shorter than one frame": 1}
    splits["test"].append(make_cut(tmp_path / "wav", "short-test", np.zeros(399)))
    with pytest.raises(TaskError, match="test split: 1 recording.*shorter than one frame .400 samples"):
        evaluate(fbank_dir, "ks", write_splits(tmp_path / "refused", splits), tmp_path / "no.json", SHORT)


def test_cells_of_different_settings_can_be_told_apart(fbank_dir, manifests, tmp_path):
    other = fbank_encoder(tmp_path / "plain", FbankRecipe(normalize=False))
    hashes = []
    for model in (fbank_dir, other):
        evaluate(model, "ks", manifests, tmp_path / "ks.json", SHORT)
        hashes.append(json.loads((tmp_path / "ks.json").read_text())["hashes"]["model"])
    assert hashes[0] != hashes[1]
