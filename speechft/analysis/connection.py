"""Loss and error of a fine-tuning's own task along the line between two encoders, with the head of stage 1: barriers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from speechft.analysis.barrier import Connection, ConnectionPoint, barrier
from speechft.encoders import load_encoder
from speechft.encoders.checkpoints.on_the_fly import encoder_directory
from speechft.encoders.model import Encoder
from speechft.errors import AnalysisError
from speechft.evaluate.data.features import FrameFeatures, FrozenEncoder, exact_fp32
from speechft.evaluate.data.splits import Split, load_splits
from speechft.evaluate.engine import resolve_device
from speechft.evaluate.probes.bank import isolated_rng, summed
from speechft.evaluate.probes.batches import all_rows, scoring_batches
from speechft.files.hashes import sha256_file
from speechft.files.output_kinds import CONNECTION
from speechft.files.outputs import check_file
from speechft.files.structured import read_json_mapping, write_json
from speechft.finetune.parts import Parts
from speechft.finetune.stage1 import HEAD
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.values import validate
from speechft.tasks.base import Head, LabelSet, Task
from speechft.tasks.catalog import task_entry

Tensors = Mapping[str, Tensor]


@exact_fp32()
def connect(
    start_dir: str | Path,
    end_dir: str | Path,
    manifests: str | Path,
    out_json: str | Path,
    alphas: Sequence[float],
    split: Literal["dev", "test"] = "dev",
    device: str | None = None,
) -> Connection:
    """Measure loss and scores of the task of `end_dir` at start + alpha * (end - start), and write them to `out_json`.

    The head is that of stage 1 at the end. Where the start is a fine-tuning of the same task with a head of the same form, both heads are
    interpolated as the encoders are. Nothing is trained.

    Args:
        start_dir: encoder directory: theta0, or another fine-tuned encoder of the same size.
        end_dir: output of a fine-tuning on one task, with its head.
        manifests: those that it was fine-tuned on.
        out_json: the result, `Connection`.
        alphas: places on the line, 0 and 1 among them.
        split: on which split.
        device: "cpu" or "cuda"; by default a GPU where there is one.

    Raises:
        AnalysisError: the end has no head of one task, encoders or heads differ in form, or the task has a protocol of its own (ASV, SD).
        CheckpointError, CorpusError, TaskError, AudioError: the inputs are not usable.
        OutputError: `out_json` is something else, or an input.
    """
    check_file(out_json, CONNECTION, [start_dir, end_dir, manifests])
    alphas = sorted(set(alphas))
    if alphas[:1] != [0.0] or alphas[-1] != 1.0:
        raise AnalysisError("The line goes from alpha 0 to alpha 1: give both ends.")
    with encoder_directory(start_dir) as start_path, encoder_directory(end_dir) as end_path:
        task = _task_of(end_path)
        start, end = load_encoder(start_path), load_encoder(end_path)
        labels, splits = load_splits(task, manifests, end, 1)
        with isolated_rng(0, torch.device("cpu")):
            head = task.build_head(end.hidden_size, labels)
        end_head = _head_of(end_path, head)
        start_head = _head_of(start_path, head) if _recorded(start_path).get("task") == _recorded(end_path)["task"] else None
        if end_head is None:
            raise AnalysisError(f"{end_dir}: has no {HEAD} of task {task.name!r} for these manifests. Name those of the fine-tuning.")
        # Copies, because one of the encoders is loaded with what lies between.
        first, last = ({name: value.clone() for name, value in encoder.backbone.state_dict().items()} for encoder in (start, end))
        hashes = [sha256_file(path / "model.safetensors") for path in (start_path, end_path)]
    if {name: value.shape for name, value in first.items()} != {name: value.shape for name, value in last.items()}:
        raise AnalysisError(f"{start_dir} and {end_dir}: are encoders of different form. Name two of the same family and size.")
    where, points = resolve_device(device), []
    for alpha in alphas:
        end.backbone.load_state_dict(_between(first, last, alpha))
        head.load_state_dict(_between(start_head or end_head, end_head, alpha))
        points.append(_measured(alpha, task, labels, splits[split], end, head.to(where).eval(), where))
    metric = task.dev_metrics[0]
    found = Connection(
        schema=1,
        task=task.name,
        metrics=task.dev_metrics,
        split=split,
        utterances=len(splits[split]),
        head="interpolated" if start_head else "end",
        start_sha256=hashes[0],
        end_sha256=hashes[1],
        points=tuple(points),
        loss_barrier=barrier([(point.alpha, point.loss) for point in points]),
        error_barrier=barrier([(point.alpha, point.scores[metric.key] * (-1 if metric.higher_is_better else 1)) for point in points]),
    )
    write_json(out_json, found.model_dump(mode="json", by_alias=True))
    return found


def _recorded(folder: Path) -> Mapping[str, Any]:
    """The recipe of the fine-tuning that made an encoder directory; empty for others."""
    provenance = folder / "provenance.json"
    found = read_json_mapping(provenance) if provenance.is_file() else {}
    recipe = found.get("recipe") if found.get("kind") == "finetune" else None
    return recipe if isinstance(recipe, dict) else {}


def _task_of(end: Path) -> Task:
    recorded = _recorded(end)
    if not recorded:
        raise AnalysisError(f"{end}: is no output of `speechft finetune`, whose task and head are needed.")
    known = {key: value for key, value in recorded.items() if key in FinetuneRecipe.model_fields}
    parts = Parts(validate(FinetuneRecipe, known, f"{end / 'provenance.json'}"))
    if len(parts) > 1:
        raise AnalysisError(f"{end}: was fine-tuned on several tasks jointly, which have no single loss.")
    (task,) = parts.tasks.values()
    if task_entry(task.name, task.kind).protocol != "default":
        raise AnalysisError(f"{end}: was fine-tuned on {task.name!r}, whose dev scores are not sums over utterances.")
    return task


def _head_of(folder: Path, head: Head) -> dict[str, Tensor] | None:
    """The head in a directory, if it has the form of `head`."""
    try:
        found = load_file(folder / HEAD)
    except (OSError, SafetensorError):
        return None
    wanted = {name: value.shape for name, value in head.state_dict().items()}
    return found if {name: value.shape for name, value in found.items()} == wanted else None


def _between(first: Tensors, second: Tensors, alpha: float) -> dict[str, Tensor]:
    """First + alpha * (second - first); at 0 and 1 the ends themselves, and counters those of the first."""
    if alpha in (0.0, 1.0):
        return dict(second if alpha else first)
    return {name: value + alpha * (second[name] - value) if value.is_floating_point() else value for name, value in first.items()}


@torch.no_grad()
def _measured(
    alpha: float, task: Task, labels: LabelSet, split: Split, encoder: Encoder, head: Head, device: torch.device
) -> ConnectionPoint:
    features = FrameFeatures(FrozenEncoder(encoder, device, task.gain), split.clips)
    losses, counts = 0.0, []
    for rows, targets in scoring_batches(split, all_rows(split), frame_level=True):
        hidden_states, lengths = features[rows]
        logits, logit_lengths = head(hidden_states[-1], lengths)
        losses += float(task.loss(logits.float(), logit_lengths, targets)) * len(rows)
        counts.append(task.statistics(logits, logit_lengths, targets, labels))
    scores = task.scores(summed(counts))
    shown = {metric.key: metric.of_fraction(scores[metric.key]) for metric in task.dev_metrics}
    return ConnectionPoint(alpha=alpha, loss=losses / len(split), scores=shown)
