"""Audio through the encoder: by hand, and against what was counted in finished cells."""

import json

import pytest
from conftest import ROOT

from speechft.conventions import SPLITS
from speechft.evaluate.estimate import estimate_evaluation
from speechft.experiment.schema import load_experiment
from speechft.finetune.estimate import estimate_finetuning
from speechft.planning.corpus_sizes import CorpusSize, SplitSize, corpus_size
from speechft.planning.shapes import base_shape, shape_of
from speechft.pretrain.estimate import estimate_pretraining
from speechft.recipes.evaluation import EvaluationRecipe, evaluation_recipe
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.pretraining import ContinuedPretrainRecipe, PretrainRecipe

BASE = base_shape("hubert")
CELLS = sorted(path for name in ("mini", "demo") for path in (ROOT / f"docs/results/{name}/cells").rglob("*.json"))
SIZES = CorpusSize({"train": SplitSize(1000, 2.0), "dev": SplitSize(100, 0.3), "test": SplitSize(50, 0.1)}, "published")


@pytest.fixture(scope="module")
def mini():
    experiment = load_experiment(ROOT / "config/mini.yaml")
    at_root = {name: corpus.model_copy(update={"path": ROOT / corpus.path}) for name, corpus in experiment.corpora.items()}
    at_root["verification"] = at_root["verification"].model_copy(update={"trials": ROOT / at_root["verification"].trials})
    return experiment, at_root, {}


@pytest.mark.parametrize("cell", CELLS, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_finished_cells_took_as_many_passes(cell, mini):
    """All tasks of the mini benchmark, with what was counted while they ran."""
    experiment, corpora, known = mini
    found = json.loads(cell.read_text())
    counts = {split: SplitSize(found["counts"][split]["utterances"], found["counts"][split]["hours"]) for split in SPLITS}
    corpus = experiment.tasks[found["task"]].corpus
    size = known.setdefault(corpus, corpus_size(corpus, corpora, ROOT / "nowhere"))
    assert size.source == "table"
    # All recordings of a corpus with folds are test once.
    if counts["test"].utterances != (size.whole if size.folds else size["test"]).utterances:
        # Dev and test have grown since; what is kept in memory depends on the durations of train.
        same = size["train"].utterances == counts["train"].utterances
        size = CorpusSize({**counts, "train": size["train"] if same else counts["train"]}, "manifests")
    entry = experiment.encoders[found["model"]["encoder"]]
    if hasattr(entry, "path"):
        entry = entry.model_copy(update={"path": ROOT / entry.path})
    cost = estimate_evaluation(EvaluationRecipe(**found["recipe"]), size, shape_of(entry)[0])
    assert cost.encoder_passes == pytest.approx(found["counts"]["encoder_passes"])


def test_there_are_cells_of_all_tasks():
    assert {path.stem for path in CELLS} >= {"pr", "asr", "ks", "qbe", "sid", "asv", "sd", "er", "ic", "sf", "pc"}


def test_frames_that_cannot_be_kept_are_computed_at_every_visit():
    recipe = evaluation_recipe("pr", {"protocol": "quick", "steps": 25, "batch_size": 4, "accumulate": 2, "eval_every": 10, "cache_gb": 0})
    cost = estimate_evaluation(recipe, SIZES, BASE)
    # 200 training utterances of 7.2 s; dev at three evaluations and test once.
    assert cost.encoder_passes == pytest.approx(200 + 3 * 100 + 50)
    assert cost.encoder_hours == pytest.approx(0.4 + 0.9 + 0.1)
    assert cost.head_hours == pytest.approx(7 * 0.4)
    assert cost.scored_hours == pytest.approx(7 * 0.9 + 0.1)
    assert estimate_evaluation(recipe.model_copy(update={"seeds": (1, 2)}), SIZES, BASE).encoder_hours == pytest.approx(2 * 1.4)


def test_what_fits_is_kept_from_the_shortest():
    recipe = evaluation_recipe("pr", {"protocol": "quick", "steps": 100, "batch_size": 10, "accumulate": 1, "eval_every": 50})
    hour = 3600 * 50 * 13 * 768 * 4 / 1e9
    everything = estimate_evaluation(recipe.model_copy(update={"cache_gb": 10 * hour}), SIZES, BASE)
    assert everything.encoder_hours == pytest.approx(2.0 + 0.3 + 0.1)
    half = estimate_evaluation(recipe.model_copy(update={"cache_gb": hour}), SIZES, BASE)
    # 1000 visits are one pass over train: half of it is kept, the other half is computed as often as it comes.
    assert half.encoder_hours == pytest.approx(1.0 + 1.0 + 2 * 0.3 + 0.1)
    known = CorpusSize({**SIZES.splits, "train": SplitSize.of([3600.0, 7200.0])}, "manifests")
    kept = estimate_evaluation(recipe.model_copy(update={"cache_gb": 1.5 * hour}), known, BASE)
    assert kept.memory_gb == pytest.approx(1.3 * hour)


def test_crops_are_new_at_every_visit_of_a_long_utterance():
    size = CorpusSize({"train": SplitSize.of([4.0, 10.0, 12.0, 6.0]), "dev": SplitSize.of([5.0]), "test": SplitSize.of([5.0])}, "manifests")
    recipe = evaluation_recipe("sid", {"protocol": "quick", "steps": 10, "batch_size": 4, "accumulate": 1, "crop_draws": "every"})
    cost = estimate_evaluation(recipe, size, BASE)
    assert cost.encoder_passes == pytest.approx(2 + 2 * 10 + 2)
    assert 3600 * cost.encoder_hours == pytest.approx(4 + 6 + 20 * 8 + 10)
    once = estimate_evaluation(recipe.model_copy(update={"crop_draws": 3}), size, BASE)
    assert 3600 * once.encoder_hours == pytest.approx(4 + 6 + 2 * 3 * 8 + 10)


def test_search_and_trials():
    documents = CorpusSize({"dev": SplitSize(10, 0.01), "test": SplitSize(110, 1.01)})
    cost = estimate_evaluation(evaluation_recipe("qbe", {"protocol": "quick", "cache_gb": 0.0}), documents, BASE)
    assert (cost.encoder_passes, cost.encoder_hours) == (pytest.approx(360), pytest.approx(3.06))
    assert cost.search_frames == pytest.approx(0.01 * 1.0 * (3600 * 50) ** 2 * 14)
    # Without dev, test chooses: at each evaluation and once more in the end.
    trials = CorpusSize({"train": SplitSize(100, 1.0), "test": SplitSize(20, 0.1)})
    changes = {"protocol": "quick", "steps": 10, "batch_size": 5, "accumulate": 1, "eval_every": 5, "cache_gb": 0.0}
    assert estimate_evaluation(evaluation_recipe("asv", changes), trials, BASE).encoder_passes == pytest.approx(50 + 2 * 20 + 20)


def test_finetuning():
    recipe = FinetuneRecipe(task="sid", updates=100, batch_size=10, accumulate=2, validate_every=30, head_only=0.2)
    cost = estimate_finetuning(recipe, {"sid": SIZES})
    # 2000 utterances of 7.2 s; dev at four validations.
    assert cost.update_hours == pytest.approx(0.8 * 4.0)
    assert cost.forward_hours == pytest.approx(0.2 * 4.0 + 4 * 0.3)
    # Utterances of unknown length may be cropped.
    assert cost.kept_hours == pytest.approx(0.3)
    assert estimate_finetuning(recipe.model_copy(update={"max_batch_seconds": 36.0}), {"sid": SIZES}).update_hours == pytest.approx(
        0.8 * 2.0
    )


def test_joint_finetuning_and_folds():
    recipe = FinetuneRecipe(task="er", updates=10, batch_size=1, validate_every=10, head_only=0.0, fold="1", jointly={"pr": {"task": "pr"}})
    folds = CorpusSize({"train": SplitSize(100, 1.0)}, folds=5)
    cost = estimate_finetuning(recipe, {"er": folds, "pr": SIZES})
    assert cost.update_hours == pytest.approx((5 * 36.0 + 5 * 16 * 7.2) / 3600)
    assert cost.forward_hours == pytest.approx(0.16 + 0.3)
    assert cost.kept_hours == pytest.approx(0.64 + 0.16 + 2.0 + 0.3)
    assert estimate_finetuning(recipe.model_copy(update={"freeze_extractor": False}), {"er": folds, "pr": SIZES}).kept_hours == 0


def test_pretraining():
    train = SplitSize(1000, 10.0)
    cost = estimate_pretraining(PretrainRecipe(updates=90, batch_seconds=40, validate_every=45, valid_fraction=0.1), train)
    assert (cost.update_hours, cost.forward_hours, cost.frozen_extractor) == (pytest.approx(1.0), pytest.approx(2.0), False)
    again = estimate_pretraining(ContinuedPretrainRecipe(updates=90, batch_seconds=40, validate_every=90, valid_fraction=0.1), train)
    # A tenth of the updates is without the encoder; the targets are its own, one pass over the audio.
    assert (again.update_hours, again.forward_hours) == (pytest.approx(0.9), pytest.approx(0.1 + 1.0 + 10.0))
