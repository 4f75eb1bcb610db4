"""Batches of a training run, planned before it starts, and the data set that serves them to fairseq."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from fairseq.data import FairseqDataset
from torch import Generator, Tensor

from speechft.conventions import SAMPLE_RATE
from speechft.corpora import load_audio, num_samples_16k
from speechft.errors import ConfigError, TaskError, listing
from speechft.evaluate.data.sampling import balanced, bucketed, shuffled, windows
from speechft.finetune.feature_cache import FeatureCache
from speechft.tasks.base import LabelSet, Sampling, Task

# Receptive field of one frame in every published extractor, in samples.
SHORTEST = 400
# Utterances are sorted by length within pools of this many batches, which limits padding but still varies the batches of each epoch.
POOL_BATCHES = 32


def split_into_batches(order: Sequence[int], lengths: Sequence[int], batch_size: int | None, max_batch_samples: int) -> list[list[int]]:
    """Cut `order` into batches of at most `batch_size` items (None: any number) and a padded size (items x longest) within the bound.

    An item that exceeds the bound alone is a batch of one.
    """
    batches: list[list[int]] = []
    current: list[int] = []
    longest = 0
    for item in order:
        longest_with_item = max(longest, lengths[item])
        if current and (len(current) == batch_size or longest_with_item * (len(current) + 1) > max_batch_samples):
            batches.append(current)
            current, longest_with_item = [], lengths[item]
        current.append(item)
        longest = longest_with_item
    return [*batches, current] if current else batches


def epoch_batches(lengths: Sequence[int], batch_size: int | None, max_batch_samples: int, seed: int, epoch: int) -> list[list[int]]:
    """Return shuffled batches that contain every item once, determined by the arguments."""
    generator = np.random.default_rng([seed, epoch])
    shuffled = generator.permutation(len(lengths))
    batches: list[list[int]] = []
    # Without a batch size, assume as many utterances of mean length as the bound allows.
    usual = batch_size or max(1, max_batch_samples * len(lengths) // max(1, sum(lengths)))
    pool_size = usual * POOL_BATCHES
    for start in range(0, len(shuffled), pool_size):
        pool = sorted((int(item) for item in shuffled[start : start + pool_size]), key=lambda item: (lengths[item], item))
        batches += split_into_batches(pool, lengths, batch_size, max_batch_samples)
    return [batches[position] for position in generator.permutation(len(batches))]


def plan_run(
    lengths: Sequence[int], batch_size: int | None, max_batch_samples: int, seed: int, num_batches: int
) -> list[list[tuple[int, int]]]:
    """Plan the first `num_batches` batches of endless passes over the data, each item as (epoch, position).

    There is one plan for the whole run, so that an update that accumulates batches can cross an epoch boundary, as in s3prl's runner, and
    resuming an interrupted run is an offset into the plan.
    """
    plan: list[list[tuple[int, int]]] = []
    epoch = 0
    while len(plan) < num_batches:
        batches = epoch_batches(lengths, batch_size, max_batch_samples, seed, epoch)
        plan += [[(epoch, item) for item in batch] for batch in batches]
        epoch += 1
    return plan[:num_batches]


def plan_as_superb(
    task: Task, targets: Sequence[Tensor], lengths: Sequence[int], batch_size: int | None, seed: int, num_batches: int
) -> list[list[tuple[int, int]]]:
    """Plan the first `num_batches` batches in the order of the task's SUPERB recipe, each item as (earlier occurrences, position).

    Raises:
        ConfigError: there is no batch size.
    """
    if batch_size is None:
        raise ConfigError("order: superb needs a batch_size.")
    generator = Generator().manual_seed(seed)
    streams: dict[Sampling, Callable[[], Iterator[list[int]]]] = {
        "shuffled": lambda: shuffled(len(lengths), batch_size, generator),
        "balanced": lambda: balanced([int(target) for target in targets], batch_size, generator),
        "windows": lambda: windows([len(target) for target in targets], lengths, batch_size, generator),
        # The paper's released fine-tuning keeps a last bucket of one utterance, which SUPERB's ASR drops.
        "buckets": lambda: bucketed(lengths, batch_size, generator, keep_single=True),
    }
    visits: Counter[int] = Counter()
    plan = []
    for batch in islice(streams[task.sampling](), num_batches):
        items = []
        for item in batch:
            items.append((visits[item], item))
            visits[item] += 1
        plan.append(items)
    return plan


class PlannedDataset(FairseqDataset):  # type: ignore[misc]
    """Data set that serves the planned `batches`."""

    # Otherwise fairseq reads one extra batch to fill uneven shards.
    supports_fetch_outside_dataloader = False
    batches: list[list[int]]

    def batch_by_size(self, indices: Any, **limits: Any) -> list[list[int]]:  # noqa: ARG002
        """Return the planned batches, ignoring fairseq's own order and limits."""
        return self.batches


class CutDataset(PlannedDataset):
    """Waveforms and targets of lhotse cuts, with features of a frozen extractor instead of waveforms if `cache` has them.

    With `num_batches`, items follow a training plan, shuffled and repeated as needed. Without, every cut occurs once, in order of length.
    The task defines crops; the crop of an item depends only on seed, epoch and position, not on the loading process.
    """

    cache: FeatureCache | None = None
    """Features by position of the cut."""

    def __init__(
        self,
        cuts: Iterable[Any],
        split: str,
        task: Task,
        labels: LabelSet,
        *,
        batch_size: int | None,
        max_batch_seconds: float,
        num_batches: int | None = None,
        seed: int = 0,
        order: str = "pooled",
    ) -> None:
        super().__init__()
        self.cuts = list(cuts)
        if not self.cuts:
            raise TaskError(f"The {split} split has no cuts. Check its manifest.")
        self.targets = task.targets(self.cuts, labels, f"the {split} split")
        self.gain = task.gain
        self.seed = seed
        crops = [task.crop(cut, split) for cut in self.cuts]
        self.crop_samples = [None if crop is None else round(crop.seconds * SAMPLE_RATE) for crop in crops]
        whole = [num_samples_16k(cut) for cut in self.cuts]
        self.lengths = [length if crop is None else min(length, crop) for length, crop in zip(whole, self.crop_samples, strict=True)]
        self.unchanging = [num_batches is None or length == uncut for length, uncut in zip(self.lengths, whole, strict=True)]
        """Whether a cut has the same samples at every visit."""
        short = [f"{cut.id}: {length} samples" for cut, length in zip(self.cuts, self.lengths, strict=True) if length < SHORTEST]
        if short:
            heading = f"The {split} split: {len(short)} utterance(s) are shorter than one frame ({SHORTEST} samples). Leave them out."
            raise TaskError(listing(heading, short))
        max_batch_samples = int(max_batch_seconds * SAMPLE_RATE)
        if num_batches is None:
            in_order = sorted(range(len(self.cuts)), key=lambda item: (self.lengths[item], item))
            plan = [[(0, item) for item in batch] for batch in split_into_batches(in_order, self.lengths, batch_size, max_batch_samples)]
        elif order == "superb":
            plan = plan_as_superb(task, self.targets, self.lengths, batch_size, seed, num_batches)
        else:
            plan = plan_run(self.lengths, batch_size, max_batch_samples, seed, num_batches)
        self.batches = [[epoch * len(self.cuts) + item for epoch, item in batch] for batch in plan]

    def __len__(self) -> int:
        return len(self.cuts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Load item `index`, which is epoch x number of cuts + position."""
        epoch, position = divmod(int(index), len(self.cuts))
        features = None if self.cache is None else self.cache.read(position)
        speech = self._waveform(epoch, position) if features is None else features
        return {"id": self.cuts[position].id, "position": position, "speech": speech, "target": self.targets[position]}

    def _waveform(self, epoch: int, position: int) -> Tensor:
        waveform = load_audio(self.cuts[position])
        crop = self.crop_samples[position]
        if crop is not None and len(waveform) > crop:
            start = int(np.random.default_rng([self.seed, epoch, position]).integers(len(waveform) - crop + 1))
            waveform = waveform[start : start + crop]
        return waveform * self.gain

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate without padding, which is up to the encoder."""
        if not samples:
            return {}
        return {
            "ids": [sample["id"] for sample in samples],
            "positions": [sample["position"] for sample in samples],
            "speech": [sample["speech"] for sample in samples],
            "targets": [sample["target"] for sample in samples],
            "nsentences": len(samples),
        }


def in_multiples(batches: Sequence[list[int]], multiple: int) -> list[list[int]]:
    """Halve the largest batches until their number is a multiple of `multiple`.

    Raises:
        TaskError: there are too few utterances.
    """
    split = list(batches)
    while len(split) % multiple:
        largest = max(range(len(split)), key=lambda index: len(split[index]))
        batch = split[largest]
        if len(batch) < 2:
            raise TaskError(f"The dev split of a task has too few utterances for {multiple} processes. Start fewer, or add utterances.")
        split[largest : largest + 1] = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
    return split


class PartsDataset(PlannedDataset):
    """Data sets of several tasks, whose batches take turns; for one task it only adds the task's name.

    Args:
        members: task name -> data set.
        turns: index of the task for each batch of the run; None: all batches task by task (dev).
        world_size: processes that share the batches. On dev they must process the same task at the same time, because they sum their
            statistics.
    """

    def __init__(self, members: Mapping[str, CutDataset], turns: Sequence[int] | None = None, world_size: int = 1) -> None:
        super().__init__()
        self.names = list(members)
        self.members = list(members.values())
        batches = [member.batches for member in self.members]
        if turns is None:
            batches = batches if len(batches) == 1 else [in_multiples(each, world_size) for each in batches]
            turns = [part for part, each in enumerate(batches) for _ in each]
        queues = [iter(each) for each in batches]
        # Item i of task p of P tasks is i x P + p.
        self.batches = [[item * len(self.members) + part for item in next(queues[part])] for part in turns]

    def __len__(self) -> int:
        return sum(len(member) for member in self.members)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Load an item of one of the tasks."""
        item, part = divmod(int(index), len(self.members))
        return {**self.members[part][item], "part": self.names[part]}

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate items of one task and add its name."""
        if not samples:
            return {}
        (part,) = {sample["part"] for sample in samples}
        return {**self.members[self.names.index(part)].collater(samples), "part": part}
