"""The fairseq task of stage 1: data, freezing, and the best encoder on dev."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask, register_task
from torch import Tensor

from speechft.errors import TrainingError
from speechft.fairseq_plugin.criterion import STATISTIC, nan_message
from speechft.fairseq_plugin.jobs import FinetuneJob, is_main_process
from speechft.fairseq_plugin.model import EncoderWithHead, unwrapped
from speechft.finetune.batches import CutDataset, PartsDataset
from speechft.finetune.best import BestEncoder, save_plain_weights
from speechft.finetune.feature_cache import SUFFIX, FeatureCache, room_for_features
from speechft.finetune.method import early_updates, head_only_updates
from speechft.finetune.parts import Parts, take_turns
from speechft.finetune.splits import load_stage1_split


@dataclass
class FinetuneTaskConfig(FairseqDataclass):  # type: ignore[misc]
    """Options of `speechft_finetune`."""

    job: str = field(default="", metadata={"help": "job file in the work directory"})


@register_task("speechft_finetune", dataclass=FinetuneTaskConfig)
class FinetuneTask(FairseqTask):  # type: ignore[misc]
    """One of our tasks, or several with a head each, trained by fairseq.

    `completed_updates`, `utterances` and `losses` (per batch) describe the current update, for error messages.
    """

    running: ClassVar[FinetuneTask | None] = None
    """The task of this process, since fairseq's errors do not name the batch."""

    def __init__(self, cfg: FinetuneTaskConfig) -> None:
        super().__init__(cfg)
        self.job = FinetuneJob.load(Path(cfg.job))
        recipe = self.job.recipe
        self.parts = Parts(recipe)
        self.train_cuts = {name: self._cuts(name, "train") for name in self.parts.tasks}
        self.labels = {name: task.label_set(self.train_cuts[name]) for name, task in self.parts.tasks.items()}
        for name, task in self.parts.tasks.items():
            task.check({"train": self.train_cuts[name], "dev": self._cuts(name, "dev")})
        self.head_only = head_only_updates(recipe.updates, recipe.head_only)
        self.early = early_updates(recipe)
        self.best = BestEncoder(self.job.best_path, self.parts.selection_metric.higher_is_better)
        self.completed_updates = 0
        self.utterances: list[str] = []
        self.losses: list[tuple[list[str], Tensor]] = []
        self.caches: dict[tuple[str, str], FeatureCache] = {}
        FinetuneTask.running = self

    def _cuts(self, part: str, split: str) -> list[Any]:
        return load_stage1_split(self.parts.tasks[part], self.job.manifests[part], split, self.parts.recipes[part].fold)

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> EncoderWithHead:
        """Build the model and keep it, since data sets need it to extract features."""
        self.model = cast(EncoderWithHead, super().build_model(cfg, from_checkpoint))
        return self.model

    def load_dataset(self, split: str, **kwargs: Any) -> None:  # noqa: ARG002
        """Build the data set "train" (the planned run) or "dev" (each utterance once)."""
        recipe = self.job.recipe
        turns: list[int] | None = None
        world_size = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        if split == "train":
            shares = [part.share for part in self.parts.recipes.values()]
            turns = take_turns(shares, recipe.updates * recipe.accumulate * world_size)
        members = {}
        for index, (name, task) in enumerate(self.parts.tasks.items()):
            part = self.parts.recipes[name]
            cuts = self.train_cuts[name] if split == "train" else self._cuts(name, split)
            members[name] = CutDataset(
                cuts,
                split,
                task,
                self.labels[name],
                batch_size=part.batch_size,
                max_batch_seconds=part.max_batch_seconds,
                num_batches=None if turns is None else turns.count(index),
                seed=recipe.seed,
                order=part.order,
            )
            self._cache_features(members[name], name, split)
        self.datasets[split] = PartsDataset(members, turns, world_size)

    def _cache_features(self, dataset: CutDataset, part: str, split: str) -> None:
        """Give a data set a cache for the output of the frozen extractor."""
        if not self.model.extracts or not self.job.cache_gb:
            return
        encoder = self.model.encoder
        frames = [
            encoder.frame_count(length) if unchanging else None
            for length, unchanging in zip(dataset.lengths, dataset.unchanging, strict=True)
        ]
        (example,) = self.model.extract([torch.zeros(encoder.min_samples)])
        others = sum(cache.bytes for key, cache in self.caches.items() if key != (part, split))
        room = room_for_features(self.job.features, self.job.cache_gb) - others
        dataset.cache = self.caches[part, split] = FeatureCache(
            self.job.features / f"{part}-{split}{SUFFIX}", frames, example.shape[1], room
        )

    def _extracted(self, sample: dict[str, Any], split: str) -> dict[str, Any]:
        """Replace waveforms in a sample by features if the extractor is frozen, and cache new features."""
        if not self.model.extracts:
            return sample
        features = self.model.extract(sample["speech"])
        if (cache := self.caches.get((sample["part"], split))) is not None:
            for position, given, extracted in zip(sample["positions"], sample["speech"], features, strict=True):
                if given is not extracted:
                    cache.write(position, extracted)
        return {**sample, "speech": features}

    def train_step(
        self, sample: dict[str, Any], model: Any, criterion: Any, optimizer: Any, update_num: int, ignore_grad: bool = False
    ) -> Any:
        """Run forward and backward of one batch, with frozen the parameters that this update must not change."""
        if update_num != self.completed_updates:
            self.utterances, self.losses = [], []
            self._keep_early(model, update_num)
        self.completed_updates = update_num
        self.utterances += sample["ids"]
        # Not in `set_num_updates`, which fairseq calls on a restart before it collects the optimizer's parameters.
        unwrapped(model).freeze_for(update_num, self.head_only)
        metrics.log_scalar("used_lr", optimizer.get_lr(), weight=0)
        return super().train_step(self._extracted(sample, "train"), model, criterion, optimizer, update_num, ignore_grad)

    def valid_step(self, sample: dict[str, Any], model: Any, criterion: Any) -> Any:
        """Compute loss and statistics of a dev batch."""
        return super().valid_step(self._extracted(sample, "dev"), model, criterion)

    def _keep_early(self, model: Any, completed_updates: int) -> None:
        """Write an early encoder if the recipe requests it; a resumed run repeats the update and writes the same file."""
        for share, update in self.early.items():
            if update == completed_updates and is_main_process():
                trained = unwrapped(model)
                save_plain_weights(trained.encoder.backbone, trained.head, self.job.early_path(share), {"update": str(update)})

    def optimizer_step(self, optimizer: Any, model: Any, update_num: int) -> None:
        """Update the weights, unless the loss of a batch was not finite."""
        self.refuse_nan()
        super().optimizer_step(optimizer, model, update_num)

    def refuse_nan(self) -> None:
        """Check and clear the losses recorded since the last call.

        Raises:
            TrainingError: a loss is NaN or infinite; names the update and the utterances.
        """
        if (problem := self._nan_problem()) is not None:
            raise TrainingError(problem)
        self.losses.clear()

    def _nan_problem(self) -> str | None:
        for ids, loss in self.losses:
            if not math.isfinite(loss):
                return nan_message(f"the loss is {float(loss)}", self.completed_updates, ids)
        return None

    @classmethod
    def explain(cls, problem: str) -> str:
        """Format an error about `problem` in the current update; a loss that is not finite takes precedence."""
        task = cls.running
        if task is None:
            return problem
        return task._nan_problem() or nan_message(problem, task.completed_updates, list(dict.fromkeys(task.utterances)))

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        """Log the criterion's values; fairseq's own method also logs words per second and warns that there are none."""
        criterion.__class__.reduce_metrics(logging_outputs)

    def post_validate(self, model: Any, stats: dict[str, Any], agg: Any) -> None:  # noqa: ARG002
        """Compute scores from the summed dev statistics, and keep the encoder if it is the best so far."""
        statistics: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for key in [key for key in stats if key.startswith(STATISTIC)]:
            part, name = key.removeprefix(STATISTIC).split("/", 1)
            statistics[part][name] = float(stats.pop(key))
        scores = self.parts.scores(statistics)
        stats.update(scores)
        if is_main_process():
            trained, score = unwrapped(model), scores[self.parts.selection_metric.key]
            self.best.consider(trained.encoder.backbone, trained.head, int(stats["num_updates"]), score)

    @property
    def target_dictionary(self) -> None:
        """Not used: see `labels`."""
        return
