"""Tasks with a class, or the slots of a command, for each utterance: KS, SID, ER and IC."""

import json

import numpy as np
import pytest
import torch
from tasks.samples import cut

from speechft.errors import TaskError
from speechft.tasks import get_task
from speechft.tasks.base import LabelSet
from speechft.tasks.er import er_fold_split
from speechft.tasks.heads import SlotHead
from speechft.tasks.ks import SUPERB_CLASSES, speech_commands_split


@pytest.mark.parametrize("task", ["ks", "er"])
def test_classes_are_the_labels_of_train_sorted(task):
    cuts = [cut(label=label) for label in ("two", "one", "two")]
    labels = get_task(task).label_set(cuts)
    assert labels.symbols == ("one", "two")
    assert [int(target) for target in get_task(task).targets(cuts, labels, "train")] == [1, 0, 1]


def test_classes_can_be_given():
    assert get_task("ks", classes="superb").label_set([]).symbols == SUPERB_CLASSES
    assert get_task("ks", classes=["b", "a"]).label_set([cut(label="a")]).symbols == ("b", "a")
    cuts = [cut(label="x", speaker="ann"), cut(label="y", speaker="ann")]
    assert get_task("sid", source="label").label_set(cuts).symbols == ("x", "y")


def test_accuracy():
    task, logits = get_task("ks"), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    counts = task.statistics(logits, torch.ones(4), list(torch.tensor([0, 1, 1, 1])), LabelSet(("a", "b")))
    assert task.scores(counts) == {"KS": 0.75}
    assert task.selection_metric.of_fraction(0.75) == 75.0


def test_crops():
    ks, sid = get_task("ks"), get_task("sid")
    silence = cut(label="_silence_", duration=61.5)
    assert ks.crop(silence, "train").seconds == 1.0
    assert ks.crop(silence, "dev").draws == 61
    assert ks.crop(silence, "test") is None
    assert ks.crop(cut(label="yes", duration=61.5), "train") is None
    assert sid.crop(cut(duration=20.0), "train").seconds == 8.0
    assert sid.crop(cut(duration=20.0), "dev") is None


def test_speech_commands_split(golden):
    recorded = json.loads((golden / "metrics" / "ks_split.json").read_text())
    assert recorded["classes"] == list(SUPERB_CLASSES)
    assert all(speech_commands_split(item["path"]) == item["split"] for item in recorded["files"])


@pytest.mark.parametrize(("task", "decibels"), [("ks", -3), ("qbe", -3), ("asv", -3), ("sid", 0)])
def test_gains(task, decibels):
    assert get_task(task).gain == pytest.approx(10 ** (decibels / 20), abs=1e-5)


def test_divisions_of_folds_equal_the_reference(golden):
    arrays = np.load(golden / "metrics" / "er_folds.npz")
    for record in json.loads((golden / "metrics" / "er_folds.json").read_text()):
        train, dev = er_fold_split(record["train_json_entries"])
        assert train == arrays[f"{record['fold']}_train_indices"].tolist()
        assert dev == arrays[f"{record['fold']}_dev_indices"].tolist()
    # Utterances outside of each session of IEMOCAP: train and dev of the SUPERB recipe.
    sizes = {4446: (3556, 890), 4508: (3606, 902), 4380: (3504, 876), 4500: (3600, 900), 4290: (3432, 858)}
    assert {n: tuple(map(len, er_fold_split(n))) for n in sizes} == sizes


def test_the_division_of_a_recorded_training_is_that_of_the_reference(golden):
    corpus = json.loads((golden / "replay" / "er.trace.json").read_text())["corpus"]
    rest = [cut(item["path"].removesuffix(".wav"), label=item["label"], fold="1") for item in corpus["train_json_order"]]
    test = [cut(item["path"].removesuffix(".wav"), label=item["label"], fold="2") for item in corpus["test_json_order"]]
    # Where the test recordings stand in the table does not matter, the order of the others does.
    found = get_task("er").folds([test[0], *rest, *test[1:]])["2"]
    assert [item.id for item in found["train"]] == corpus["train_split_utterances"]
    assert [item.id for item in found["dev"]] == corpus["dev_split_utterances"]
    assert found["test"] == tuple(test)


def test_every_utterance_is_test_once():
    cuts = [cut(f"u{i}", fold=f"Session{1 + i % 3}") for i in range(30)]
    folds = get_task("er").folds(cuts)
    assert list(folds) == ["Session1", "Session2", "Session3"]
    for name, splits in folds.items():
        assert [item.id for item in splits["test"]] == [item.id for item in cuts if item.custom["fold"] == name]
        assert {len(splits["train"]), len(splits["dev"])} == {16, 4}
        assert len({item.id for part in splits.values() for item in part}) == 30
    assert get_task("ks").folds(cuts) is None, "other tasks do not cross-validate"


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (["1", None, "2"], r"(?s)1 utterance\(s\) have no fold.*u1: has no fold"),
        (["1", "1"], "at least two folds"),
        (["1", "2", "2"], "one utterance is left"),
    ],
)
def test_folds_are_checked(folds, message):
    assert get_task("er").folds([cut("a"), cut("b")]) is None
    with pytest.raises(TaskError, match=message):
        get_task("er").folds([cut(f"u{i}", fold=fold) for i, fold in enumerate(folds)])


def test_values_of_slots_count_in_order_of_first_appearance():
    wanted = ["change language|none|none", "activate|music|none", "activate|lights|kitchen", "deactivate|lights|bedroom"]
    task, cuts = get_task("ic"), [cut(f"u{i}", label=label) for i, label in enumerate(wanted)]
    labels = task.label_set(cuts)
    assert labels.symbols == (
        *("action=change language", "action=activate", "action=deactivate"),
        *("object=none", "object=music", "object=lights"),
        *("location=none", "location=kitchen", "location=bedroom"),
    )
    assert labels.extra == {"values_per_slot": [3, 3, 3]}
    assert [target.tolist() for target in task.targets(cuts, labels, "train")] == [[0, 0, 0], [1, 1, 0], [1, 2, 1], [2, 2, 2]]
    assert json.loads(json.dumps(labels.to_json())) == labels.to_json()
    others = get_task("ic", slots=["verb", "noun"]).label_set([cut(label="go|home"), cut(label="go|back")])
    assert others.symbols == ("verb=go", "noun=home", "noun=back")


def test_all_slots_must_be_right():
    task, logits = get_task("ic"), torch.zeros(4, 3, 5)
    logits[..., 1] = 1.0
    logits[..., 3:] = float("-inf")
    targets = list(torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1]]))
    assert task.scores(task.statistics(logits, torch.ones(4), targets, LabelSet(()))) == {"IC": 0.5}


def test_absent_values_have_no_gradient():
    head = SlotHead(8, [2, 5, 1])
    logits, lengths = head(torch.randn(3, 4, 8), torch.tensor([4, 4, 2]))
    assert torch.isfinite(logits).sum(dim=-1).tolist() == [[2, 5, 1]] * 3
    loss = get_task("ic").loss(logits, lengths, list(torch.tensor([[0, 4, 0], [1, 0, 0], [1, 2, 0]])))
    loss.backward()
    assert loss.isfinite()
    assert all(bool(torch.isfinite(value.grad).all()) for value in head.parameters())
    # A slot with one value is always right.
    assert head.classifier.bias.grad[-1] == 0.0
