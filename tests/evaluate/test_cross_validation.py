import json

import numpy as np
import pytest
import torch
from evaluate.tone_corpus import INTENT_OPTIONS, PITCH, SPEAKERS, make_cut, make_splits, tone, with_intents, write_manifest, write_splits

from speechft.encoders import load_encoder
from speechft.errors import CorpusError, TableError, TaskError
from speechft.evaluate import evaluate
from speechft.evaluate.data.features import FrozenEncoder, mean_vectors
from speechft.evaluate.data.folds import FoldMeans, load_folds
from speechft.recipes.cell import read_cell
from speechft.tasks import get_task

QUICK = {"protocol": "quick", "steps": 30, "batch_size": 4, "accumulate": 2, "eval_every": 10, "learning_rates": [1e-2, 1e-4]}
SIZES = {"Ses1": 9, "Ses2": 12, "Ses3": 10}


def folded_cuts(folder, sizes=None):
    generator = np.random.default_rng(3)
    cuts = []
    for fold, size in (sizes or SIZES).items():
        for index in range(size):
            label, speaker = list(PITCH)[index % 3], SPEAKERS[index % 2]
            waveform = tone(PITCH[label], speaker, int(generator.integers(6000, 9000)), generator)
            cut = make_cut(folder / "wav", f"{fold}_{index:02d}", waveform, speaker=speaker, label=label)
            cut.custom = {"fold": fold}
            cuts.append(cut)
    return [cuts[index] for index in generator.permutation(len(cuts))]


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    """Manifests of a corpus with three folds."""
    folder = tmp_path_factory.mktemp("folds")
    write_manifest(folder / "train.jsonl.gz", folded_cuts(folder))
    return folder


def test_a_cell_is_the_mean_over_folds(model_dir, folded, tmp_path):
    cell = evaluate(model_dir, "er", folded, tmp_path / "er.json", {**QUICK, "seeds": [1, 2]})
    assert [(chosen["fold"], chosen["seed"]) for chosen in cell["selected"]] == [(fold, seed) for fold in SIZES for seed in (1, 2)]
    for seed, value in zip((1, 2), cell["values"]["ER"], strict=True):
        of_folds = [chosen["test"]["ER"] for chosen in cell["selected"] if chosen["seed"] == seed]
        assert value == pytest.approx(sum(of_folds) / 3)
    assert cell["metrics"]["ER"] == pytest.approx(sum(cell["values"]["ER"]) / 2)
    assert cell["metrics"]["ER"] > 80
    assert len(cell["trials"]) == 3 * 2 * 2
    assert sum(trial["selected"] for trial in cell["trials"]) == 6
    # int(0.8 n) of the others are train, the rest is dev.
    assert cell["counts"]["folds"] == {
        "Ses1": {"train": 17, "dev": 5, "test": 9},
        "Ses2": {"train": 15, "dev": 4, "test": 12},
        "Ses3": {"train": 16, "dev": 5, "test": 10},
    }
    assert cell["counts"]["test"]["utterances"] == 31
    assert cell["counts"]["encoder_passes"] == 31, "each utterance goes through the encoder once for all folds, seeds and learning rates"
    assert list(cell["hashes"]["manifests"]) == ["train"]
    read_cell(tmp_path / "er.json")


def test_every_fold_is_an_evaluation_by_itself(model_dir, folded, tmp_path):
    """A fold gives the scores that its train, dev and test give as ordinary splits."""
    task = get_task("er")
    (fold,) = (fold for fold in load_folds(task, folded, load_encoder(model_dir), 1) if fold.name == "Ses2")
    splits = {}
    for name, split in fold.splits.items():
        splits[name] = [cut.copy() if hasattr(cut, "copy") else cut for cut in split.cuts]
        for cut in splits[name]:
            cut.custom = None
    alone = evaluate(model_dir, "er", write_splits(tmp_path, splits), tmp_path / "alone.json", QUICK)
    together = evaluate(model_dir, "er", folded, tmp_path / "together.json", QUICK)
    (chosen,) = (chosen for chosen in together["selected"] if chosen["fold"] == "Ses2")
    assert {**chosen, "fold": None} == alone["selected"][0]
    assert [{**trial, "fold": None} for trial in together["trials"] if trial["fold"] == "Ses2"] == alone["trials"]


def test_folds_share_mean_vectors(model_dir, folded, tmp_path):
    folds = load_folds(get_task("er"), folded, load_encoder(model_dir), 1)
    encoder = FrozenEncoder(load_encoder(model_dir), torch.device("cpu"))
    means = FoldMeans(encoder, folds, tmp_path / "all")
    assert encoder.passes == 31
    for fold in folds:
        for name, split in fold.splits.items():
            own = mean_vectors(encoder, split.clips, tmp_path / f"{fold.name}", name)
            torch.testing.assert_close(means.of(split), own, atol=1e-5, rtol=1e-4)


def test_the_division_does_not_depend_on_the_seed_but_heads_do(model_dir, folded, tmp_path):
    """The reference divides with seed 0 whatever the seed; that its heads then also start alike is not followed."""
    recipe = {**QUICK, "steps": 3, "eval_every": 1, "learning_rates": [1e-1]}
    cells = [evaluate(model_dir, "er", folded, tmp_path / f"{seed}.json", {**recipe, "seeds": [seed]}) for seed in (1, 2, 3, 4)]
    assert len({json.dumps(cell["counts"]) for cell in cells}) == 1
    assert len({json.dumps([{**trial, "seed": 0} for trial in cell["trials"]]) for cell in cells}) > 1


def test_ordinary_splits_are_used_once(model_dir, manifests, tmp_path):
    cell = evaluate(model_dir, "er", manifests, tmp_path / "er.json", QUICK)
    assert cell["counts"]["folds"] == {}
    assert [chosen["fold"] for chosen in cell["selected"]] == [None]
    assert cell["counts"]["encoder_passes"] == 30


def test_folds_and_splits_together_are_refused(model_dir, tmp_path):
    splits = make_splits(tmp_path, {"train": 6, "dev": 3, "test": 3})
    for index, cut in enumerate(splits["train"]):
        cut.custom = {"fold": str(index % 2)}
    with pytest.raises(TaskError, match="both folds and a dev and a test split"):
        evaluate(model_dir, "er", write_splits(tmp_path, splits), tmp_path / "a.json", QUICK)


def test_a_corpus_without_folds_needs_its_splits(model_dir, tmp_path):
    manifests = write_splits(tmp_path, make_splits(tmp_path, {"train": 6}))
    with pytest.raises(CorpusError, match="no split 'dev'"):
        evaluate(model_dir, "er", manifests, tmp_path / "a.json", QUICK)


def test_a_class_of_one_fold_only_is_refused(model_dir, tmp_path):
    cuts = folded_cuts(tmp_path, {"Ses1": 8, "Ses2": 8})
    cuts[0].supervisions[0].custom = {"label": "rare"}
    folds = write_splits(tmp_path, {"train": cuts})
    fold = cuts[0].custom["fold"]
    with pytest.raises(TaskError, match=rf"of fold 'Ses\d': 1 utterance\(s\) have no target(?s:.*){fold}.*class 'rare' is not among the 3"):
        evaluate(model_dir, "er", folds, tmp_path / "a.json", QUICK)


def test_a_too_short_utterance_is_named_with_its_fold(model_dir, tmp_path):
    cuts = folded_cuts(tmp_path, {"Ses1": 8, "Ses2": 8})
    short = make_cut(tmp_path / "wav", "short", np.zeros(300))
    short.custom = {"fold": "Ses1"}
    folds = write_splits(tmp_path, {"train": [*cuts, short]})
    with pytest.raises(TaskError, match=r"(?s)test split of fold 'Ses1': 1 recording.*short: 300 samples"):
        evaluate(model_dir, "er", folds, tmp_path / "a.json", QUICK)


def test_scores_of_folds_are_checked(model_dir, folded, tmp_path):
    cell = evaluate(model_dir, "er", folded, tmp_path / "er.json", QUICK)
    changed = {**cell, "selected": [{**chosen, "test": {"ER": 1.0}} for chosen in cell["selected"]]}
    (tmp_path / "er.json").write_text(json.dumps(changed))
    with pytest.raises(TableError, match="of seed 1337 is not the mean of its scores"):
        read_cell(tmp_path / "er.json")


def test_intents(model_dir, tmp_path):
    splits = with_intents(make_splits(tmp_path, {"train": 18, "dev": 6, "test": 6}))
    recipe = {**QUICK, "steps": 200, "eval_every": 50, "learning_rates": [1e-2], "task_options": INTENT_OPTIONS}
    cell = evaluate(model_dir, "ic", write_splits(tmp_path, splits), tmp_path / "ic.json", recipe)
    assert cell["metrics"]["IC"] == 100.0
    assert cell["counts"]["labels"] == 5
    assert cell["counts"]["trainable_parameters"] == load_encoder(model_dir).num_states + 257 * 5 + 256 * (
        load_encoder(model_dir).hidden_size + 1
    )
