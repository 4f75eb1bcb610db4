import pytest
import torch
from tasks.samples import cut

from speechft.errors import TaskError
from speechft.tasks import get_task
from speechft.tasks.pc import OUTSIDE
from speechft.tasks.timit_phones import FOLDED, TIMIT_39, TIMIT_61


@pytest.fixture
def task():
    return get_task("pc")


def test_folding_of_timit():
    assert len(TIMIT_61) == len(set(TIMIT_61)) == 61
    assert len(TIMIT_39) == len(set(TIMIT_39)) == 39
    assert set(FOLDED) == {*TIMIT_61, "sil"}
    assert set(FOLDED.values()) == {*TIMIT_39, None}
    pairs = {"ao": "aa", "ax": "ah", "ax-h": "ah", "axr": "er", "hv": "hh", "ix": "ih", "el": "l", "em": "m", "en": "n", "nx": "n"}
    pairs |= {"eng": "ng", "zh": "sh", "ux": "uw", "q": None}
    pairs |= dict.fromkeys(("bcl", "dcl", "gcl", "pcl", "tcl", "kcl", "pau", "epi", "h#"), "sil")
    assert {label: folded for label, folded in FOLDED.items() if folded != label} == pairs


def test_a_frame_has_the_phone_at_its_center(task):
    labels = task.label_set([])
    # Centers at 10, 30, 50, 70, 90 ms: the border at 30 ms belongs to what begins there, that at 71 ms comes after the center.
    target = task.target(cut(duration=0.1, phones=[("h#", 0.0, 0.03), ("axr", 0.03, 0.071), ("zh", 0.071, 0.1)]), labels)
    assert [labels.symbols[index] for index in target.tolist()] == ["sil", "er", "er", "er", "sh"]
    assert target.dtype == torch.int64


def test_every_border_on_a_center_is_exact():
    task = get_task("pc", inventory="corpus")
    for frame in range(1, 2000):
        border = round(0.02 * frame + 0.01, 6)
        made = cut(duration=border + 1, phones=[("a", 0.0, border), ("b", border, border + 1)])
        assert task.target(made, task.label_set([made]))[: frame + 1].tolist() == [0] * frame + [1]


def test_frames_without_a_phone_are_ignored(task):
    labels = task.label_set([])
    target = task.target(cut(duration=0.13, phones=[("iy", 0.02, 0.04), ("q", 0.06, 0.08), ("s", 0.08, 0.3)]), labels)
    # 130 ms have six centers before their end; the glottal stop has no class; the segment may go on after the recording.
    assert target.tolist() == [OUTSIDE, labels.symbols.index("iy"), OUTSIDE, OUTSIDE, *[labels.symbols.index("s")] * 2]


def test_loss_and_accuracy_are_those_of_the_labelled_frames(task):
    torch.manual_seed(0)
    logits, lengths = torch.randn(2, 5, 39), torch.tensor([5, 3])
    # The first target is a frame longer than its logits, the second has a frame past the end of its utterance.
    targets = [torch.tensor([3, OUTSIDE, 7, 8, 8, 1]), torch.tensor([2, 2, OUTSIDE, 4])]
    picked = [(0, 0, 3), (0, 2, 7), (0, 3, 8), (0, 4, 8), (1, 0, 2), (1, 1, 2)]
    expected = -sum(torch.log_softmax(logits[b, t], dim=-1)[c] for b, t, c in picked) / len(picked)
    torch.testing.assert_close(task.loss(logits, lengths, targets), expected)
    counts = task.statistics(logits, lengths, targets, task.label_set([]))
    assert counts == {"correct": sum(int(logits[b, t].argmax()) == c for b, t, c in picked), "frames": 6}
    assert task.scores({"correct": 3, "frames": 4}) == {"PC": 0.75}


def test_a_batch_without_labelled_frames_has_loss_zero(task):
    logits, target = torch.randn(1, 2, 39, requires_grad=True), torch.tensor([OUTSIDE, OUTSIDE, 5])
    loss = task.loss(logits, torch.tensor([2]), [target])
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()
    assert "no labelled frame" in task.without_gradient(target, 2)
    assert task.without_gradient(target, 3) is None
    with pytest.raises(TaskError, match="no frame with a phone"):
        task.scores({"correct": 0, "frames": 0})


def test_labels_of_the_corpus():
    cuts = [cut(phones=[("B", 0.0, 0.1)]), cut(phones=[("AH0", 0.0, 0.1), ("B", 0.1, 0.2)])]
    assert get_task("pc", inventory="corpus").label_set(cuts).symbols == ("AH0", "B")
