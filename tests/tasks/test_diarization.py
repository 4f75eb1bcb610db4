import json
from itertools import groupby

import numpy as np
import pytest
import torch
from tasks.samples import mixture

from speechft.corpora.rttm import Turn
from speechft.tasks import get_task
from speechft.tasks.base import LabelSet
from speechft.tasks.heads import fit_frames
from speechft.tasks.sd import best_assignment, chunk_bounds, frame_errors, frame_labels


def test_permutation_invariant_loss_and_counts_equal_the_reference(golden):
    arrays, task = np.load(golden / "metrics" / "sd_pit.npz"), get_task("sd")
    for record in json.loads((golden / "metrics" / "sd_pit.json").read_text()):
        logits, lengths, labels = (torch.from_numpy(arrays[f"{record['key']}_{kind}"]) for kind in ("logits", "lengths", "labels"))
        targets = [label[:length] for label, length in zip(labels, lengths.tolist(), strict=True)]
        assert task.loss(logits, lengths, targets).item() == pytest.approx(record["loss"], abs=1e-6)
        best = best_assignment(logits, lengths, targets)
        assert best.order.tolist() == record["permutation_index"]
        errors = frame_errors(best)
        found = [errors.correct, errors.scored, errors.missed, errors.false_alarm, errors.confused]
        names = ["correct", "speaker_scored", "speaker_miss", "speaker_falarm", "speaker_error"]
        assert [value.sum().item() for value in found] == [record[name] for name in names]
        assert (errors.correct.sum() / lengths.sum()).item() == pytest.approx(record["acc"], abs=1e-9)
        scores = task.scores(task.statistics(logits, lengths, targets, LabelSet(("1", "2"))))
        assert scores["SD_FRAME_DER"] == pytest.approx(record["der"], abs=1e-9)
        assert scores["SD_ACC"] == pytest.approx((errors.correct / lengths).mean().item(), abs=1e-9)


def test_frame_labels_equal_the_reference(golden):
    recorded = json.loads((golden / "metrics" / "sd_labels.json").read_text())
    arrays, turns = np.load(golden / "metrics" / "sd_labels.npz"), {}
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


def test_one_frame_less_than_the_labels_is_completed():
    # Features of a chunk of n frames by itself are n - 1.
    task, logits, target = get_task("sd"), torch.randn(1, 4, 2), torch.zeros(5, 2)
    longer = torch.cat([logits, logits[:, -1:]], dim=1)
    assert torch.equal(task.loss(logits, torch.tensor([4]), [target]), task.loss(longer, torch.tensor([5]), [target]))


def test_turns_are_the_supervisions():
    assert [turn.speaker for turn in get_task("sd").turns(mixture("good", "b", "a", "b"))] == ["b", "a", "b"]
