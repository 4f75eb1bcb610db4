from types import SimpleNamespace

import pytest
import torch

from speechft.errors import TaskError
from speechft.tasks import get_task
from speechft.tasks.base import LabelSet
from speechft.tasks.heads import SlotHead

LABELS = ["change language|none|none", "activate|music|none", "activate|lights|kitchen", "deactivate|lights|bedroom"]


def cut(cut_id, label):
    return SimpleNamespace(id=cut_id, supervisions=[SimpleNamespace(text=None, speaker=None, custom={"label": label})])


@pytest.fixture
def cuts():
    return [cut(f"u{i}", label) for i, label in enumerate(LABELS)]


def test_values_count_in_order_of_first_appearance(cuts):
    task = get_task("ic")
    labels = task.label_set(cuts)
    assert labels.symbols == (
        *("action=change language", "action=activate", "action=deactivate"),
        *("object=none", "object=music", "object=lights"),
        *("location=none", "location=kitchen", "location=bedroom"),
    )
    assert labels.extra == {"values_per_slot": [3, 3, 3]}
    assert [target.tolist() for target in task.targets(cuts, labels, "train")] == [[0, 0, 0], [1, 1, 0], [1, 2, 1], [2, 2, 2]]
    assert LabelSet.from_json(labels.to_json()) == labels


def test_equal_values_of_two_slots_are_different(cuts):
    task = get_task("ic")
    labels = task.label_set(cuts)
    with pytest.raises(TaskError, match=r"x: object 'kitchen' is not among the 3 of the training data \(none, music, lights\)"):
        task.target(cut("x", "activate|kitchen|none"), labels)


def test_head_has_one_output_for_every_value(cuts):
    task = get_task("ic")
    head = task.build_head(768, LabelSet(("s",) * 24, {"values_per_slot": [6, 14, 4]}))
    assert isinstance(head, SlotHead)
    assert [tuple(value.shape) for value in head.state_dict().values()] == [(256, 768), (256,), (24, 256), (24,)]
    logits, lengths = head(torch.randn(2, 5, 768), torch.tensor([5, 3]))
    assert logits.shape == (2, 3, 14)
    assert torch.isfinite(logits).sum(dim=-1).tolist() == [[6, 14, 4]] * 2
    assert lengths.tolist() == [1, 1]


def test_all_slots_must_be_right():
    task = get_task("ic")
    logits = torch.zeros(4, 3, 5)
    logits[..., 1] = 1.0
    logits[..., 3:] = float("-inf")
    targets = list(torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1]]))
    assert task.scores(task.statistics(logits, torch.ones(4), targets, LabelSet(()))) == {"IC": 0.5}


def test_absent_values_have_no_gradient():
    task = get_task("ic")
    head = SlotHead(8, [2, 5, 1])
    logits, lengths = head(torch.randn(3, 4, 8), torch.tensor([4, 4, 2]))
    loss = task.loss(logits, lengths, list(torch.tensor([[0, 4, 0], [1, 0, 0], [1, 2, 0]])))
    loss.backward()
    assert loss.isfinite()
    assert all(bool(torch.isfinite(value.grad).all()) for value in head.parameters())
    # A slot with one value is always right.
    assert head.classifier.bias.grad[-1] == 0.0


@pytest.mark.parametrize("label", ["activate|lights", "activate|lights|kitchen|now", "activate||kitchen", "activate, lights, kitchen"])
def test_malformed_labels_are_named(label, cuts):
    with pytest.raises(TaskError, match=r"(?s)1 utterance\(s\) have no intent.*bad: label .* is not of the form action\|object\|location"):
        get_task("ic").label_set([*cuts, cut("bad", label)])


def test_slots_can_be_others():
    task = get_task("ic", slots=["verb", "noun"])
    assert task.label_set([cut("a", "go|home"), cut("b", "go|back")]).symbols == ("verb=go", "noun=home", "noun=back")
    for wrong in ([], ["a", "a"], "verb", [""]):
        with pytest.raises(TaskError, match="slots="):
            get_task("ic", slots=wrong)
    with pytest.raises(TaskError, match="two values or more"):
        task.label_set([cut("a", "go|home")])
    with pytest.raises(TaskError, match="b: has no label"):
        task.label_set([cut("a", "go|home"), cut("b", "")])
