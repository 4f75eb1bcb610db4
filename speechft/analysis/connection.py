"""Loss and error of a fine-tuning's own task on the line between two encoders, with the head of stage 1, and their barriers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from speechft.analysis.connection_report import Connection, ConnectionPoint, barriers
from speechft.encoders import load_encoder
from speechft.encoders.checkpoints.on_the_fly import encoder_directory
from speechft.encoders.directory.layout import HEAD, WEIGHTS
from speechft.encoders.directory.provenance import PROVENANCE
from speechft.errors import AnalysisError
from speechft.evaluate.data.features import FrameFeatures, FrozenEncoder, exact_fp32
from speechft.evaluate.data.splits import make_splits, manifest_hash
from speechft.evaluate.probes.bank import isolated_rng, summed
from speechft.evaluate.probes.batches import all_rows, scoring_batches
from speechft.files.hashes import sha256_file
from speechft.files.output_kinds import CONNECTION
from speechft.files.outputs import check_file
from speechft.files.structured import read_json_mapping, write_json
from speechft.finetune.parts import Parts
from speechft.finetune.splits import load_stage1_split
from speechft.recipes.cell import ModelName, model_names
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.values import validate
from speechft.runtime.devices import resolve_device
from speechft.tasks.base import Head, Task
from speechft.tasks.catalog import task_entry

Tensors = Mapping[str, Tensor]


class OwnTask:
    """A fine-tuning's task, labels, encoder and head, and a split to measure them on.

    If the fine-tuning left out a fold of the corpus, `dev` is the dev part of stage 1 and `test` is that fold.

    Raises:
        AnalysisError: the directory has no single-task head, or the task has its own protocol (ASV, SD).
        CheckpointError, CorpusError, TaskError: the inputs are unusable.
    """

    def __init__(self, tuned_dir: Path, manifests: str | Path, split: Literal["dev", "test"]) -> None:
        self.task, fold = _task_of(tuned_dir)
        self.encoder = load_encoder(tuned_dir)
        if not (tuned_dir / HEAD).is_file():
            raise AnalysisError(
                f"{tuned_dir}: has no {HEAD}, because an earlier speechft wrote it. Remove the directory and fine-tune again."
            )
        cuts = {name: tuple(load_stage1_split(self.task, manifests, name, fold)) for name in ("train", split)}
        hashes = {name: manifest_hash(members) for name, members in cuts.items()}
        self.labels, splits = make_splits(self.task, cuts, hashes, self.encoder, 1, fold)
        self.split = splits[split]
        with isolated_rng(0, torch.device("cpu")):
            self.head = self.task.build_head(self.encoder.hidden_size, self.labels)
        if (weights := _head_of(tuned_dir, self.head)) is None:
            raise AnalysisError(
                f"{tuned_dir}: its {HEAD} does not match task {self.task.name!r} on these manifests. Name those of the fine-tuning."
            )
        self.head.load_state_dict(weights)

    @torch.no_grad()
    def measure(self, device: torch.device) -> tuple[float, dict[str, float]]:
        """Measure the loss (mean over utterances) and the scores in the units of tables."""
        head, features = self.head.to(device).eval(), FrameFeatures(FrozenEncoder(self.encoder, device, self.task.gain), self.split.clips)
        losses, counts = 0.0, []
        for rows, targets in scoring_batches(self.split, all_rows(self.split), frame_level=True):
            hidden_states, lengths = features[rows]
            logits, logit_lengths = head(hidden_states[-1], lengths)
            losses += float(self.task.loss(logits.float(), logit_lengths, targets)) * len(rows)
            counts.append(self.task.statistics(logits, logit_lengths, targets, self.labels))
        scores = self.task.scores(summed(counts))
        return losses / len(self.split), {metric.key: metric.of_fraction(scores[metric.key]) for metric in self.task.dev_metrics}


@exact_fp32()
def connect(
    start_dir: str | Path,
    end_dir: str | Path,
    manifests: str | Path,
    out_json: str | Path,
    alphas: Sequence[float],
    split: Literal["dev", "test"] = "dev",
    names: tuple[str | None, str | None] = (None, None),
    device: str | None = None,
) -> Connection:
    """Measure loss and scores of `end_dir`'s task at start + alpha * (end - start), and write them to `out_json`.

    The head is that of the end. If the start was fine-tuned on the same task and manifests and its head has the same shape, the heads are
    interpolated like the encoders. Nothing is trained.

    Args:
        start_dir: encoder directory: theta0, or another fine-tuned encoder of the same size.
        end_dir: output of a fine-tuning on one task, with its head.
        manifests: manifests of that fine-tuning.
        out_json: the result, a `Connection`.
        alphas: positions on the line, including 0 and 1.
        split: split to score; see `OwnTask`.
        names: "encoder/finetuning/method" of start and end, stored in the result.
        device: "cpu" or "cuda"; default: a GPU if available.

    Raises:
        AnalysisError: the end has no single-task head, encoders differ in shape, or the task has its own protocol (ASV, SD).
        ConfigError: one of `names` does not have three parts.
        CheckpointError, CorpusError, TaskError, AudioError: the inputs are unusable.
        OutputError: `out_json` exists and is not a connection, or is an input.
    """
    check_file(out_json, CONNECTION, [start_dir, end_dir, manifests])
    start_name, end_name = map(model_names, names)
    alphas = sorted(set(alphas))
    if not {0.0, 1.0} <= {*alphas} or not all(0 <= alpha <= 1 for alpha in alphas):
        raise AnalysisError("The alphas must range from 0 to 1 and include both.")
    with encoder_directory(start_dir) as start_path, encoder_directory(end_dir) as end_path:
        own = OwnTask(end_path, manifests, split)
        task, end, head = own.task, own.encoder, own.head
        start = load_encoder(start_path)
        start_head = _head_of(start_path, head) if _trained_on(start_path) == _trained_on(end_path) else None
        # Copies, because encoder and head of the end are reused for every alpha.
        first, last, end_head = (
            {name: value.clone() for name, value in module.state_dict().items()} for module in (start.backbone, end.backbone, head)
        )
        hashes = [sha256_file(path / WEIGHTS) for path in (start_path, end_path)]
    if {name: value.shape for name, value in first.items()} != {name: value.shape for name, value in last.items()}:
        raise AnalysisError(f"{start_dir} and {end_dir}: the encoders differ in shape. Name two of the same family and size.")
    where, points = resolve_device(device), []
    for alpha in alphas:
        end.backbone.load_state_dict(_between(first, last, alpha))
        head.load_state_dict(_between(start_head or end_head, end_head, alpha))
        loss, scores = own.measure(where)
        if not math.isfinite(loss):
            raise AnalysisError(f"{start_dir} and {end_dir}: the loss at alpha {alpha:g} is {loss}. Fine-tune again with a lower peak_lr.")
        points.append(ConnectionPoint(alpha=alpha, loss=loss, scores=scores))
    loss_barrier, error_barrier = barriers(points, task.dev_metrics[0])
    connection = Connection(
        schema=1,
        task=task.name,
        metrics=task.dev_metrics,
        split=split,
        utterances=len(own.split),
        head="interpolated" if start_head else "end",
        start=ModelName(**start_name, sha256=hashes[0]),
        end=ModelName(**end_name, sha256=hashes[1]),
        points=tuple(points),
        loss_barrier=loss_barrier,
        error_barrier=error_barrier,
    )
    write_json(out_json, connection.model_dump(mode="json", by_alias=True))
    return connection


def _provenance(folder: Path) -> Mapping[str, Any]:
    """Provenance of a fine-tuning; empty for other encoder directories."""
    provenance = folder / PROVENANCE
    record = read_json_mapping(provenance) if provenance.is_file() else {}
    return record if record.get("kind") == "finetune" and isinstance(record.get("recipe"), dict) else {}


def _trained_on(folder: Path) -> tuple[Any, Any]:
    """Task and training manifest of a fine-tuning."""
    record = _provenance(folder)
    return record.get("recipe", {}).get("task"), record.get("inputs", {}).get("manifest_train", {}).get("sha256")


def _task_of(end: Path) -> tuple[Task, str | None]:
    """Task of a fine-tuning, and the fold it left out."""
    recorded = _provenance(end).get("recipe")
    if not recorded:
        raise AnalysisError(f"{end}: is not an output of `speechft finetune`. Name one, because its task and head are needed.")
    known = {key: value for key, value in recorded.items() if key in FinetuneRecipe.model_fields}
    parts = Parts(validate(FinetuneRecipe, known, f"{end / 'provenance.json'}"))
    if len(parts) > 1:
        raise AnalysisError(f"{end}: was fine-tuned on several tasks jointly. Name a fine-tuning on a single task.")
    (task,) = parts.tasks.values()
    if task_entry(task.name, task.kind).protocol != "default":
        raise AnalysisError(f"{end}: was fine-tuned on {task.name!r}, whose dev scores are not sums over utterances. Name another.")
    return task, next(iter(parts.recipes.values())).fold


def _head_of(folder: Path, head: Head) -> dict[str, Tensor] | None:
    """Head in a directory, if it has the shape of `head`."""
    try:
        tensors = load_file(folder / HEAD)
    except (OSError, SafetensorError):
        return None
    wanted = {name: value.shape for name, value in head.state_dict().items()}
    return tensors if {name: value.shape for name, value in tensors.items()} == wanted else None


def _between(first: Tensors, second: Tensors, alpha: float) -> dict[str, Tensor]:
    """Interpolate: first + alpha * (second - first). At 0 and 1 exactly the ends; integers are those of the first."""
    if alpha in (0.0, 1.0):
        return dict(second if alpha else first)
    return {name: value + alpha * (second[name] - value) if value.is_floating_point() else value for name, value in first.items()}
