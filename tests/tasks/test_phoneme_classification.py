import math
from types import SimpleNamespace

import pytest
import torch
from lhotse.supervision import AlignmentItem

from speechft.errors import TaskError
from speechft.tasks import get_task
from speechft.tasks.pc import OUTSIDE
from speechft.tasks.timit_phones import FOLDED, TIMIT_39, TIMIT_61


def cut(segments, duration=0.2, cut_id="u"):
    items = [AlignmentItem(phone, start, round(end - start, 6)) for phone, start, end in segments]
    supervision = SimpleNamespace(text=None, speaker="s", custom=None, alignment={"phone": items} if items else None)
    return SimpleNamespace(id=cut_id, duration=duration, supervisions=[supervision])


def test_folding_of_timit():
    assert len(TIMIT_61) == len(set(TIMIT_61)) == 61
    assert len(TIMIT_39) == len(set(TIMIT_39)) == 39
    assert set(FOLDED) == {*TIMIT_61, "sil"}
    assert {folded for folded in FOLDED.values() if folded is not None} == set(TIMIT_39)
    assert [phone for phone, folded in FOLDED.items() if folded is None] == ["q"]
    assert {FOLDED[closure] for closure in ("bcl", "dcl", "gcl", "pcl", "tcl", "kcl", "pau", "epi", "h#")} == {"sil"}
    pairs = {"ao": "aa", "ax": "ah", "ax-h": "ah", "axr": "er", "hv": "hh", "ix": "ih", "el": "l", "em": "m", "en": "n", "nx": "n"}
    pairs |= {"eng": "ng", "zh": "sh", "ux": "uw"}
    assert {label: folded for label, folded in FOLDED.items() if folded not in (None, "sil", label)} == pairs


def test_a_frame_has_the_phone_at_its_center():
    task = get_task("pc")
    labels = task.label_set([])
    # Centers at 10, 30, 50, 70, 90 ms: the border at 30 ms belongs to what begins there, that at 71 ms comes after the center.
    target = task.target(cut([("h#", 0.0, 0.03), ("axr", 0.03, 0.071), ("zh", 0.071, 0.1)], 0.1), labels)
    assert [labels.symbols[index] for index in target.tolist()] == ["sil", "er", "er", "er", "sh"]
    assert target.dtype == torch.int64


def test_every_border_on_a_centre_is_exact():
    task = get_task("pc", inventory="corpus")
    for frame in range(1, 2000):
        border = round(0.02 * frame + 0.01, 6)
        made = cut([("a", 0.0, border), ("b", border, border + 1)], border + 1)
        target = task.target(made, task.label_set([made]))
        assert target[: frame + 1].tolist() == [0] * frame + [1]


def test_frames_without_a_phone_are_ignored():
    task = get_task("pc")
    labels = task.label_set([])
    target = task.target(cut([("iy", 0.02, 0.04), ("q", 0.06, 0.08), ("s", 0.08, 0.3)], 0.13), labels)
    # 130 ms have six centers before their end; the glottal stop has no class; the segment may go on after the recording.
    assert target.tolist() == [OUTSIDE, labels.symbols.index("iy"), OUTSIDE, OUTSIDE, *[labels.symbols.index("s")] * 2]


def test_loss_and_accuracy_are_those_of_the_labelled_frames():
    task = get_task("pc")
    labels = task.label_set([])
    torch.manual_seed(0)
    logits, lengths = torch.randn(2, 5, 39), torch.tensor([5, 3])
    # The first target is a frame longer than its logits, the second has a frame past the end of its utterance.
    targets = [torch.tensor([3, OUTSIDE, 7, 8, 8, 1]), torch.tensor([2, 2, OUTSIDE, 4])]
    picked = [(0, 0, 3), (0, 2, 7), (0, 3, 8), (0, 4, 8), (1, 0, 2), (1, 1, 2)]
    expected = -sum(torch.log_softmax(logits[b, t], dim=-1)[c] for b, t, c in picked) / len(picked)
    torch.testing.assert_close(task.loss(logits, lengths, targets), expected)
    counts = task.statistics(logits, lengths, targets, labels)
    assert counts == {"correct": sum(int(logits[b, t].argmax()) == c for b, t, c in picked), "frames": 6}
    assert task.scores({"correct": 3, "frames": 4}) == {"PC": 0.75}


def test_a_batch_without_labelled_frames_has_loss_zero():
    task = get_task("pc")
    logits = torch.randn(1, 2, 39, requires_grad=True)
    target = torch.tensor([OUTSIDE, OUTSIDE, 5])
    loss = task.loss(logits, torch.tensor([2]), [target])
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()
    assert "no labelled frame" in task.without_gradient(target, 2)
    assert task.without_gradient(target, 3) is None
    with pytest.raises(TaskError, match="no frame with a phone"):
        task.scores({"correct": 0, "frames": 0})


def test_labels_of_the_corpus():
    task = get_task("pc", inventory="corpus")
    labels = task.label_set([cut([("B", 0.0, 0.1)]), cut([("AH0", 0.0, 0.1), ("B", 0.1, 0.2)])])
    assert labels.symbols == ("AH0", "B")
    with pytest.raises(TaskError, match=r"dev: 1 utterance.*\n  v: phones Q, X are not among those of the training data"):
        task.targets([cut([("B", 0.0, 0.1)]), cut([("X", 0.0, 0.1), ("Q", 0.1, 0.2)], cut_id="v")], labels, "dev")
    with pytest.raises(TaskError, match=r"(?s)1 utterance.*w: has no phone segments"):
        task.label_set([cut([("B", 0.0, 0.1)]), cut([], cut_id="w")])
    with pytest.raises(TaskError, match=r"at least two different labels \(phones\)"):
        task.label_set([cut([("B", 0.0, 0.1)])])


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([], "has no phone segments"),
        ([("AH0", 0.0, 0.1)], "phones AH0 are not among TIMIT's 61"),
        ([("s", 0.0, 0.1), ("iy", 0.09, 0.2)], "'iy' begins at 0.09 s, before the one before it ends"),
        ([("q", 0.0, 0.2)], "not one frame"),
        ([("s", 0.011, 0.029)], "not one frame"),
    ],
)
def test_alignments_that_can_not_be_used(segments, message):
    task = get_task("pc")
    with pytest.raises(TaskError, match=f"u: .*{message}"):
        task.target(cut(segments), task.label_set([]))


def test_unknown_inventory_and_head():
    with pytest.raises(TaskError, match="inventory='ipa'"):
        get_task("pc", inventory="ipa")
    head = get_task("pc").build_head(768, get_task("pc").label_set([]))
    assert [tuple(value.shape) for value in head.state_dict().values()] == [(256, 768), (256,), (39, 256), (39,)]
    assert math.prod(head(torch.zeros(1, 4, 768), torch.tensor([4]))[0].shape) == 4 * 39
