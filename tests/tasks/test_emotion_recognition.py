import json
from types import SimpleNamespace

import numpy as np
import pytest

from speechft.errors import TaskError
from speechft.tasks import get_task
from speechft.tasks.er import er_fold_split


def cut(cut_id, fold=None, label="sad"):
    custom = None if fold is None else {"fold": fold}
    return SimpleNamespace(id=cut_id, custom=custom, supervisions=[SimpleNamespace(text=None, speaker=None, custom={"label": label})])


def test_the_split_is_that_of_the_reference(golden):
    arrays = np.load(golden / "metrics" / "er_folds.npz")
    for record in json.loads((golden / "metrics" / "er_folds.json").read_text()):
        train, dev = er_fold_split(record["train_json_entries"])
        assert train == arrays[f"{record['fold']}_train_indices"].tolist()
        assert dev == arrays[f"{record['fold']}_dev_indices"].tolist()


def test_the_split_of_a_recorded_training_is_that_of_the_reference(golden):
    corpus = json.loads((golden / "replay" / "er.trace.json").read_text())["corpus"]
    rest = [cut(item["path"].removesuffix(".wav"), "1", item["label"]) for item in corpus["train_json_order"]]
    test = [cut(item["path"].removesuffix(".wav"), "2", item["label"]) for item in corpus["test_json_order"]]
    # Where the test recordings stand in the table does not matter, the order of the others does.
    found = get_task("er").folds([test[0], *rest, *test[1:]])["2"]
    assert [item.id for item in found["train"]] == corpus["train_split_utterances"]
    assert [item.id for item in found["dev"]] == corpus["dev_split_utterances"]
    assert [item.id for item in found["test"]] == [item.id for item in test]


def test_sizes_are_those_of_the_benchmark():
    # Utterances outside of each session of IEMOCAP: train and dev of the SUPERB recipe.
    sizes = {4446: (3556, 890), 4508: (3606, 902), 4380: (3504, 876), 4500: (3600, 900), 4290: (3432, 858)}
    assert {n: tuple(map(len, er_fold_split(n))) for n in sizes} == sizes


def test_every_utterance_is_test_once():
    cuts = [cut(f"u{i}", f"Session{1 + i % 3}") for i in range(30)]
    folds = get_task("er").folds(cuts)
    assert list(folds) == ["Session1", "Session2", "Session3"]
    for name, splits in folds.items():
        assert [item.id for item in splits["test"]] == [item.id for item in cuts if item.custom["fold"] == name]
        assert {len(splits["train"]), len(splits["dev"])} == {16, 4}
        assert len({item.id for part in splits.values() for item in part}) == 30


def test_folds_are_checked():
    task = get_task("er")
    assert task.folds([cut("a"), cut("b")]) is None
    with pytest.raises(TaskError, match=r"(?s)1 utterance\(s\) name no fold.*b: has no fold"):
        task.folds([cut("a", "1"), cut("b"), cut("c", "2")])
    with pytest.raises(TaskError, match="two folds or more"):
        task.folds([cut("a", "1"), cut("b", "1")])
    with pytest.raises(TaskError, match="one utterance is left"):
        task.folds([cut("a", "1"), cut("b", "2"), cut("c", "2")])


def test_other_tasks_do_not_cross_validate():
    assert get_task("ks").folds([cut("a", "1"), cut("b", "2")]) is None


def test_classes_are_labels():
    labels = get_task("er").label_set([cut("a", label="sad"), cut("b", label="happy")])
    assert labels.symbols == ("happy", "sad")
    with pytest.raises(TaskError, match="c: has no label"):
        get_task("er").label_set([cut("c", label=None)])
