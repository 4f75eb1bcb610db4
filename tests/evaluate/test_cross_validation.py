import json

import numpy as np
import pytest
import torch
from evaluate.corpora import FEW, FOLDS, QUICK, folded_cuts
from evaluate.tone_corpus import make_cut, make_splits, write_splits

from speechft.encoders import load_encoder
from speechft.errors import CorpusError, TableError, TaskError
from speechft.evaluate import evaluate, plan_evaluation
from speechft.evaluate.data.features import FrozenEncoder, mean_vectors
from speechft.evaluate.data.folds import FoldMeans, load_folds
from speechft.recipes.cell import read_cell
from speechft.tasks import get_task

CHANGES = {"steps": 30, "eval_every": 10, "learning_rates": [1e-2, 1e-4]}


@pytest.fixture
def folded(corpus_of):
    return corpus_of("folds")


def test_a_cell_is_the_mean_over_folds(cell_of, model_dir, folded):
    cell = cell_of("er", "folds", **CHANGES, seeds=[1, 2])
    assert [(chosen["fold"], chosen["seed"]) for chosen in cell["selected"]] == [(fold, seed) for fold in FOLDS for seed in (1, 2)]
    for seed, value in zip((1, 2), cell["values"]["ER"], strict=True):
        assert value == pytest.approx(sum(chosen["test"]["ER"] for chosen in cell["selected"] if chosen["seed"] == seed) / 3)
    assert cell["metrics"]["ER"] == pytest.approx(sum(cell["values"]["ER"]) / 2)
    assert cell["metrics"]["ER"] > 80
    assert len(cell["trials"]) == 3 * 2 * 2
    assert sum(trial["selected"] for trial in cell["trials"]) == 6
    # int(0.8 n) of the others are train, the rest is dev.
    assert {fold: list(sizes.values()) for fold, sizes in cell["counts"]["folds"].items()} == {
        "Ses1": [17, 5, 9],
        "Ses2": [15, 4, 12],
        "Ses3": [16, 5, 10],
    }
    assert cell["counts"]["test"]["utterances"] == 31
    assert cell["counts"]["encoder_passes"] == 31, "each utterance goes through the encoder once for all folds, seeds and learning rates"
    assert list(cell["hashes"]["manifests"]) == ["train"]
    plan = plan_evaluation(model_dir, "er", folded, QUICK["er"])
    assert (plan.encoder_passes, plan.head_steps) == (31, 3 * 60)


def test_every_fold_is_an_evaluation_by_itself(cell_of, model_dir, folded, tmp_path):
    """A fold gives the scores that its train, dev and test give as ordinary splits."""
    (fold,) = (fold for fold in load_folds(get_task("er"), folded, load_encoder(model_dir), 1) if fold.name == "Ses2")
    splits = {name: list(split.cuts) for name, split in fold.splits.items()}
    for cut in (cut for cuts in splits.values() for cut in cuts):
        cut.custom = None
    alone = evaluate(model_dir, "er", write_splits(tmp_path, splits), tmp_path / "alone.json", {**QUICK["er"], **CHANGES})
    together = cell_of("er", "folds", **CHANGES)
    for kind in ("selected", "trials"):
        assert [{**found, "fold": None} for found in together[kind] if found["fold"] == "Ses2"] == alone[kind]


def test_folds_share_mean_vectors(model_dir, folded, tmp_path):
    division = load_folds(get_task("er"), folded, load_encoder(model_dir), 1)
    encoder = FrozenEncoder(load_encoder(model_dir), torch.device("cpu"))
    means = FoldMeans(encoder, division, tmp_path / "all")
    assert encoder.passes == 31
    for fold in division:
        for name, split in fold.splits.items():
            own = mean_vectors(encoder, split.clips, tmp_path / f"{fold.name}", name)
            torch.testing.assert_close(means.of(split), own, atol=1e-5, rtol=1e-4)


def test_the_division_does_not_depend_on_the_seed_but_heads_do(cell_of):
    """The reference divides with seed 0 whatever the seed; that its heads then also start alike is not followed."""
    cells = [cell_of("er", "folds", steps=3, eval_every=1, learning_rates=[1e-1], seeds=[seed]) for seed in (1, 2, 3, 4)]
    assert len({json.dumps(cell["counts"]) for cell in cells}) == 1
    assert len({json.dumps([{**trial, "seed": 0} for trial in cell["trials"]]) for cell in cells}) > 1


def rare(cuts, folder):
    cuts[0].supervisions[0].custom = {"label": "rare"}


def short(cuts, folder):
    cuts.append(make_cut(folder / "wav", "short", np.zeros(300)))
    cuts[-1].custom = {"fold": "a"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rare, r"of fold '[ab]': 1 utterance\(s\) have no target(?s:.*)class 'rare' is not among the 3"),
        (short, r"(?s)test split of fold 'a': 1 recording.*short: 300 samples"),
    ],
)
def test_refusals_name_the_fold(change, message, model_dir, tmp_path):
    cuts = folded_cuts(tmp_path, {"a": 8, "b": 8})
    change(cuts, tmp_path)
    with pytest.raises(TaskError, match=message):
        evaluate(model_dir, "er", write_splits(tmp_path, {"train": cuts}), tmp_path / "a.json", QUICK["er"])


def test_folds_or_splits_but_not_both(model_dir, tmp_path):
    splits = make_splits(tmp_path, FEW)
    with pytest.raises(CorpusError, match="no split 'dev'"):
        evaluate(model_dir, "er", write_splits(tmp_path / "train", {"train": splits["train"]}), tmp_path / "a.json", QUICK["er"])
    for index, cut in enumerate(splits["train"]):
        cut.custom = {"fold": str(index % 2)}
    with pytest.raises(TaskError, match="both folds and a dev and a test split"):
        evaluate(model_dir, "er", write_splits(tmp_path, splits), tmp_path / "a.json", QUICK["er"])


def test_scores_of_folds_are_checked(cell_of, tmp_path):
    cell = cell_of("er", "folds", **CHANGES)
    changed = {**cell, "selected": [{**chosen, "test": {"ER": 1.0}} for chosen in cell["selected"]]}
    (tmp_path / "er.json").write_text(json.dumps(changed))
    with pytest.raises(TableError, match="of seed 1337 is not the mean of its scores"):
        read_cell(tmp_path / "er.json")
