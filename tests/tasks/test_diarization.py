import json
from itertools import groupby

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tasks.recorded_steps import train_as_recorded
from torch.nn.utils.rnn import pad_sequence

from speechft.corpora.rttm import Turn
from speechft.errors import TaskError
from speechft.tasks import get_task
from speechft.tasks.base import LabelSet
from speechft.tasks.heads import DiarizationHead, fit_frames
from speechft.tasks.sd import best_assignment, chunk_bounds, frame_errors, frame_labels

LABELS = LabelSet(("speaker 1", "speaker 2"))


class Recorded:
    """The head of SD as the reference trained it for three steps."""

    def __init__(self, golden):
        folder = golden / "heads" / "sd"
        self.meta = json.loads((folder / "meta.json").read_text())
        self.io = np.load(folder / "io.npz")
        self.init, self.after = (load_file(folder / name) for name in ("init.safetensors", "after_3_steps.safetensors"))

    @staticmethod
    def reference_name(ours):
        return f"model.{ours.replace('classifier', 'linear')}"

    def head(self):
        head = DiarizationHead(32, 2, self.meta["model_config"]["hidden_size"])
        head.load_state_dict({name: self.init[self.reference_name(name)] for name in head.state_dict()})
        return head

    def batch(self, k):
        """Features at the frames of the labels, their lengths and labels. The reference brings the padded batch to that length, so that
        every item counts as long as the longest."""
        features, labels = [], []
        while f"b{k}_feat_{len(features)}" in self.io:
            features.append(torch.from_numpy(self.io[f"b{k}_feat_{len(features)}"]))
            labels.append(torch.from_numpy(self.io[f"b{k}_label_{len(labels)}"]))
        padded = pad_sequence(features, batch_first=True)
        longest = torch.full((len(features),), padded.shape[1])
        wanted = torch.full((len(features),), max(len(label) for label in labels))
        lengths = torch.tensor([len(label) for label in labels])
        assert lengths.tolist() == self.io[f"b{k}_label_lengths"].tolist()
        return fit_frames(padded, longest, wanted), lengths, labels


@pytest.fixture
def recorded(golden):
    return Recorded(golden)


def test_logits_losses_and_accuracies_equal_the_reference(recorded):
    head, task = recorded.head(), get_task("sd")
    for k, record in enumerate(recorded.meta["eval_records"]):
        features, lengths, labels = recorded.batch(k)
        logits, logit_lengths = head(features, lengths)
        torch.testing.assert_close(logits, torch.from_numpy(recorded.io[f"b{k}_eval_logits"]), atol=5e-5, rtol=0)
        torch.testing.assert_close(
            task.loss(logits, logit_lengths, labels), torch.tensor(recorded.io[f"b{k}_eval_loss"]), atol=5e-5, rtol=0
        )
        errors = frame_errors(best_assignment(logits, logit_lengths, labels))
        assert (errors.correct.sum() / lengths.sum()).item() == pytest.approx(record["acc"][0], abs=1e-9)
        wrong = errors.missed + errors.false_alarm + errors.confused
        assert (wrong.sum() / errors.scored.sum()).item() == pytest.approx(record["der"][0], abs=1e-9)


def test_three_optimizer_steps_equal_the_reference(recorded):
    head, task = recorded.head(), get_task("sd")
    train_as_recorded(head, task, recorded, recorded.reference_name)
    for name, value in head.state_dict().items():
        torch.testing.assert_close(value, recorded.after[recorded.reference_name(name)], atol=3e-5, rtol=0)


def test_permutation_invariant_loss_and_counts_equal_the_reference(golden):
    arrays = np.load(golden / "metrics" / "sd_pit.npz")
    for record in json.loads((golden / "metrics" / "sd_pit.json").read_text()):
        key = record["key"]
        logits = torch.from_numpy(arrays[f"{key}_logits"])
        lengths = torch.from_numpy(arrays[f"{key}_lengths"])
        targets = [label[:length] for label, length in zip(torch.from_numpy(arrays[f"{key}_labels"]), lengths.tolist(), strict=True)]
        task = get_task("sd")
        assert task.loss(logits, lengths, targets).item() == pytest.approx(record["loss"], abs=1e-6)
        best = best_assignment(logits, lengths, targets)
        assert best.order.tolist() == record["permutation_index"]
        errors = frame_errors(best)
        found = [errors.correct, errors.scored, errors.missed, errors.false_alarm, errors.confused]
        names = ["correct", "speaker_scored", "speaker_miss", "speaker_falarm", "speaker_error"]
        assert [value.sum().item() for value in found] == [record[name] for name in names]
        assert (errors.correct.sum() / lengths.sum()).item() == pytest.approx(record["acc"], abs=1e-9)
        counts = task.statistics(logits, lengths, targets, LABELS)
        assert task.scores(counts)["SD_FRAME_DER"] == pytest.approx(record["der"], abs=1e-9)
        assert task.scores(counts)["SD_ACC"] == pytest.approx((errors.correct / lengths).mean().item(), abs=1e-9)


def test_frame_labels_equal_the_reference(golden):
    recorded = json.loads((golden / "metrics" / "sd_labels.json").read_text())
    arrays = np.load(golden / "metrics" / "sd_labels.npz")
    turns = {}
    for segment in recorded["segments"]:
        turn = Turn(segment["rec"], segment["start"], segment["end"] - segment["start"], segment["spk"])
        turns.setdefault(segment["rec"], []).append(turn)
    for chunk in recorded["chunks"]:
        labels = frame_labels(turns[chunk["rec"]], chunk["start_frame"], chunk["end_frame"], chunk["frame_shift"])
        assert labels.tolist() == arrays[chunk["key"]].tolist(), chunk["key"]

    def pass_over(chunk):
        return chunk["mode"], chunk["frame_shift"], chunk["chunk_size"], chunk["rec"]

    for (_, shift, size, recording), chunks in groupby(recorded["chunks"], pass_over):
        samples = round(recorded["recordings_duration_s"][recording] * 16000)
        assert chunk_bounds(samples, size, shift) == [(chunk["start_frame"], chunk["end_frame"]) for chunk in chunks]


def test_a_turn_around_a_whole_chunk_gives_it_no_label():
    turns = [Turn("r", 0.0, 3.0, "a"), Turn("r", 1.2, 0.4, "b")]
    assert not frame_labels(turns, 50, 100)[:, 0].any()
    assert frame_labels(turns, 50, 100)[:, 1].nonzero().flatten().tolist() == list(range(10, 30))
    assert frame_labels(turns, 0, 50)[:, 0].all()


def test_ends_of_turns_are_not_moved_by_rounding_in_sums():
    # 0.01 + 0.2 s are 10.5 frames, which go to the even one; in floating point the sum is a little more.
    assert frame_labels([Turn("r", 0.01, 0.2, "a")], 0, 20)[:, 0].nonzero().flatten().tolist() == list(range(10))


@pytest.mark.parametrize(
    ("frames", "wanted", "expected"),
    [
        ([0, 1, 2], 3, [0, 1, 2]),
        ([0, 1, 2], 4, [0, 1, 2, 2]),
        ([0, 1, 2], 2, [0, 1]),
        ([0, 1, 2], 6, [0, 0, 1, 1, 2, 2]),
        ([0, 1, 2], 7, [0, 0, 1, 1, 2, 2, 2]),
        ([0, 1, 2], 5, [0, 0, 1, 1, 2]),
        ([0], 3, [0, 0, 0]),
    ],
)
def test_frames_are_brought_to_those_of_the_labels(frames, wanted, expected):
    # The other item of the batch and the padding have no influence.
    batch = torch.full((2, 9, 1), 7.0)
    batch[0, : len(frames), 0] = torch.tensor(frames, dtype=torch.float32)
    fitted = fit_frames(batch, torch.tensor([len(frames), 9]), torch.tensor([wanted, 8]))
    assert fitted.shape == (2, 8, 1)
    assert fitted[0, :wanted, 0].tolist() == expected
    states = fit_frames(batch.expand(3, 2, 9, 1), torch.tensor([len(frames), 9]), torch.tensor([wanted, 8]))
    assert torch.equal(states, fitted.expand(3, -1, -1, -1))


def test_padded_frames_and_batch_mates_do_not_change_the_loss():
    torch.manual_seed(0)
    logits, lengths = torch.randn(2, 9, 2), torch.tensor([9, 6])
    targets = [torch.randint(2, (length, 2)).float() for length in lengths.tolist()]
    task = get_task("sd")
    before = task.loss(logits, lengths, targets)
    logits[1, 6:] = float("nan")
    after = task.loss(logits, lengths, targets)
    assert torch.equal(before, after)
    swapped = [targets[0].flip(1), targets[1]]
    assert torch.equal(task.loss(logits, lengths, swapped), before)


def test_one_frame_less_than_the_labels_is_completed():
    # Features of a chunk of n frames by itself are n - 1.
    logits, target = torch.randn(1, 4, 2), torch.zeros(5, 2)
    longer = torch.cat([logits, logits[:, -1:]], dim=1)
    task = get_task("sd")
    assert torch.equal(task.loss(logits, torch.tensor([4]), [target]), task.loss(longer, torch.tensor([5]), [target]))


def test_recordings_of_another_number_of_speakers_are_named():
    from types import SimpleNamespace

    def cut(cut_id, *speakers):
        return SimpleNamespace(id=cut_id, supervisions=[SimpleNamespace(start=0.0, duration=1.0, speaker=speaker) for speaker in speakers])

    task = get_task("sd")
    assert [turn.speaker for turn in task.turns(cut("good", "b", "a", "b"))] == ["b", "a", "b"]
    with pytest.raises(TaskError, match=r"(?s)2 utterance\(s\).*one: has 1 speaker\(s\) \(a\).*three: has 3 speaker\(s\) \(a, b, c\)"):
        task.targets([cut("one", "a", "a"), cut("three", "a", "c", "b")], LABELS, "The dev split")
    with pytest.raises(TaskError, match="none: has 0 speaker"):
        task.target(cut("none"), LABELS)
    with pytest.raises(TaskError, match="x: a turn has no speaker"):
        task.target(cut("x", "a", None), LABELS)


def test_published_sizes():
    head = get_task("sd").build_head(768, LABELS)
    assert {name: tuple(value.shape) for name, value in head.state_dict().items()} == {
        "rnn.weight_ih_l0": (2048, 768),
        "rnn.weight_hh_l0": (2048, 512),
        "rnn.bias_ih_l0": (2048,),
        "rnn.bias_hh_l0": (2048,),
        "classifier.weight": (2, 512),
        "classifier.bias": (2,),
    }
    assert get_task("sd", hidden=8).build_head(768, LABELS).state_dict()["classifier.weight"].shape == (2, 8)
    with pytest.raises(TaskError, match="sd: hidden=True must be a positive integer"):
        get_task("sd", hidden=True)
