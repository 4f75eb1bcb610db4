import json
from types import SimpleNamespace

import pytest
import torch

from speechft.errors import TaskError
from speechft.tasks import get_task
from speechft.tasks.base import LabelSet
from speechft.tasks.ks import SUPERB_CLASSES, speech_commands_split


def cut(cut_id, label=None, speaker=None, duration=1.0):
    custom = None if label is None else {"label": label}
    return SimpleNamespace(id=cut_id, duration=duration, supervisions=[SimpleNamespace(text=None, speaker=speaker, custom=custom)])


def test_classes_are_those_of_train_sorted():
    cuts = [cut("a", "two"), cut("b", "one"), cut("c", "two")]
    task = get_task("ks")
    labels = task.label_set(cuts)
    assert labels.symbols == ("one", "two")
    assert [int(target) for target in task.targets(cuts, labels, "train")] == [1, 0, 1]


def test_classes_can_be_given():
    assert get_task("ks", classes="superb").label_set([]).symbols == SUPERB_CLASSES
    assert get_task("ks", classes=["b", "a"]).label_set([cut("x", "a")]).symbols == ("b", "a")
    for wrong in ("other", ["a"], ["a", "a"]):
        with pytest.raises(TaskError, match="classes="):
            get_task("ks", classes=wrong)


def test_unseen_classes_are_all_named():
    task = get_task("sid")
    labels = task.label_set([cut("a", speaker="ann"), cut("b", speaker="bob")])
    with pytest.raises(TaskError) as error:
        task.targets([cut("c", speaker="cid"), cut("d", speaker="ann"), cut("e", speaker="eve")], labels, "The dev split")
    assert "2 utterance(s)" in str(error.value)
    assert "c: class 'cid'" in str(error.value)
    assert "e: class 'eve'" in str(error.value)


def test_missing_labels_are_all_named():
    with pytest.raises(TaskError, match=r"(?s)2 utterance\(s\).*b: has no label.*c: has no label"):
        get_task("ks").label_set([cut("a", "one"), cut("b"), cut("c", "")])
    with pytest.raises(TaskError, match="a: has no speaker"):
        get_task("sid").label_set([cut("a")])
    with pytest.raises(TaskError, match=r"at least two different labels \(class\)"):
        get_task("sid").label_set([cut("a", speaker="ann")])
    with pytest.raises(TaskError, match="0 supervisions"):
        get_task("ks").label_set([SimpleNamespace(id="x", supervisions=[])])


def test_speaker_from_the_label_column():
    assert get_task("sid", source="label").label_set([cut("a", "x", "ann"), cut("b", "y", "ann")]).symbols == ("x", "y")
    with pytest.raises(TaskError, match="source="):
        get_task("sid", source="text")


def test_unknown_task_and_option():
    with pytest.raises(TaskError, match="no task 'nothing'"):
        get_task("nothing")
    with pytest.raises(TaskError, match="Task 'sid'"):
        get_task("sid", color="red")


def test_labels_survive_json():
    labels = LabelSet(("a", "b"), {"lexicon": {"x": "1"}})
    assert LabelSet.from_json(json.loads(json.dumps(labels.to_json()))) == labels


def test_accuracy():
    task = get_task("ks")
    labels = LabelSet(("a", "b"))
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    counts = task.statistics(logits, torch.ones(4), list(torch.tensor([0, 1, 1, 1])), labels)
    assert task.scores(counts) == {"KS": 0.75}
    assert task.selection_metric.shown(0.75) == 75.0


def test_crops():
    ks, sid = get_task("ks"), get_task("sid")
    silence = cut("noise", "_silence_", duration=61.5)
    assert ks.crop(silence, "train").seconds == 1.0
    assert ks.crop(silence, "dev").draws == 61
    assert ks.crop(silence, "test") is None
    assert ks.crop(cut("word", "yes", duration=61.5), "train") is None
    assert sid.crop(cut("long", speaker="a", duration=20.0), "train").seconds == 8.0
    assert sid.crop(cut("long", speaker="a", duration=20.0), "dev") is None


def test_speech_commands_split(golden):
    recorded = json.loads((golden / "metrics" / "ks_split.json").read_text())
    assert recorded["classes"] == list(SUPERB_CLASSES)
    assert {item["path"]: speech_commands_split(item["path"]) for item in recorded["files"]} == {
        item["path"]: item["split"] for item in recorded["files"]
    }


def test_gain_is_minus_three_decibels():
    assert get_task("ks").gain == pytest.approx(10 ** (-3 / 20), abs=1e-5)
    assert get_task("sid").gain == 1.0
