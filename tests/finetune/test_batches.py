import pytest
import torch

from speechft.corpora import load_split
from speechft.errors import TaskError
from speechft.finetune.batches import CutDataset, epoch_batches, in_multiples, plan_run, split_into_batches
from speechft.tasks import get_task

LENGTHS = [100 + 7 * (index * 37 % 50) for index in range(103)]


def padded(batches):
    return [max(LENGTHS[item] for item in batch) * len(batch) for batch in batches]


def test_batches_respect_count_and_padded_size():
    batches = split_into_batches(sorted(range(103), key=LENGTHS.__getitem__), LENGTHS, 8, 2000)
    assert sorted(item for batch in batches for item in batch) == list(range(103))
    assert max(map(len, batches)) <= 8
    assert max(padded(batches)) <= 2000
    assert split_into_batches([0, 1, 2], [10, 500, 10], 8, 100) == [[0], [1], [2]]


def test_every_epoch_holds_everything_once_in_another_order_and_like_lengths_together():
    epochs = [epoch_batches(LENGTHS, 8, 10**6, seed=1, epoch=epoch) for epoch in range(3)]
    for batches in epochs:
        assert sorted(item for batch in batches for item in batch) == list(range(103))
        assert sum(padded(batches)) / sum(LENGTHS) < 1.1
    assert epochs[0] != epochs[1] != epochs[2]
    assert epoch_batches(LENGTHS, 8, 10**6, seed=1, epoch=1) == epochs[1] != epoch_batches(LENGTHS, 8, 10**6, seed=2, epoch=1)


def test_batches_by_seconds_alone_stay_within_the_bound():
    bound = 3 * max(LENGTHS)
    batches = epoch_batches(LENGTHS, None, bound, seed=1, epoch=0)
    assert sorted(item for batch in batches for item in batch) == list(range(103))
    assert max(padded(batches)) <= bound
    assert sum(padded(batches)) / len(batches) > 0.7 * bound
    assert len({len(batch) for batch in batches}) > 2


def test_plan_goes_over_epoch_ends_and_is_a_prefix_of_a_longer_one():
    plan = plan_run(LENGTHS, 8, 10**6, seed=3, num_batches=30)
    assert len(plan) == 30
    assert {epoch for batch in plan for epoch, _ in batch} == {0, 1, 2}
    assert plan_run(LENGTHS, 8, 10**6, seed=3, num_batches=40)[:30] == plan


def test_dataset_serves_the_plan_and_crops_alike_every_time(corpus):
    task = get_task("sid")
    task.train_crop_seconds = 0.2
    cuts = load_split(corpus, "train")
    labels = task.label_set(cuts)
    options = {"batch_size": 4, "max_batch_seconds": 100.0}
    data = CutDataset(cuts, "train", task, labels, num_batches=12, seed=5, **options)
    assert len(data.batch_by_size(data.ordered_indices(), max_tokens=1)) == 12
    first, again, later = (data[index] for index in (3, 3, 3 + len(cuts)))
    assert first["id"] == later["id"] == "train3"
    assert len(first["speech"]) == 3200
    assert not any(data.unchanging), "all utterances are longer than the crop"
    assert torch.equal(first["speech"], again["speech"])
    assert not torch.equal(first["speech"], later["speech"])
    dev = CutDataset(load_split(corpus, "dev"), "dev", task, labels, **options)
    served = [index for batch in dev.batch_by_size(dev.ordered_indices()) for index in batch]
    assert sorted(served) == list(range(9))
    assert all(dev.unchanging)
    assert all(len(dev[index]["speech"]) == dev.lengths[index] > 3200 for index in served)


def test_too_short_utterances_are_named(corpus):
    task = get_task("sid")
    cuts = list(load_split(corpus, "train"))
    short = cuts[1].truncate(duration=0.02)
    short.id = "short-one"
    with pytest.raises(TaskError, match="short-one"):
        CutDataset([*cuts, short], "train", task, task.label_set(cuts), batch_size=4, max_batch_seconds=10.0)


def test_batches_of_dev_are_halved_until_all_processes_have_as_many():
    assert in_multiples([[1, 2], [3]], 1) == [[1, 2], [3]]
    assert in_multiples([[1, 2, 3], [4]], 3) == [[1], [2, 3], [4]]
    with pytest.raises(TaskError, match="too few utterances for 4 processes"):
        in_multiples([[1, 2]], 4)
