"""The best encoder so far, kept on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from speechft.errors import TrainingError
from speechft.files.atomic import atomic_file
from speechft.files.tensor_hash import tensors_sha256
from speechft.finetune.adapter_files import adapter_weights
from speechft.finetune.method import plain_weights

_ADAPTER, _HEAD = "adapter.", "head."


def save_plain_weights(backbone: nn.Module, head: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the weights of an encoder with merged adapters, the adapters, and the head atomically into one file."""
    tensors = plain_weights(backbone) | {_ADAPTER + name: tensor for name, tensor in adapter_weights(backbone).items()}
    tensors |= {_HEAD + name: tensor for name, tensor in head.state_dict().items()}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_file(path) as temporary:
        save_file(weights, temporary, metadata={**metadata, "sha256": tensors_sha256(weights)})


class KeptWeights(NamedTuple):
    """Content of a file of `save_plain_weights`."""

    update: int
    score: float | None
    sha256: str


def read_kept(path: Path, *, check: bool = True) -> KeptWeights | None:
    """Read a file of `save_plain_weights`; None if it is missing or damaged.

    Args:
        path: the file.
        check: compare all tensors with the hash.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        score = float(metadata["score"]) if "score" in metadata else None
        kept = KeptWeights(int(metadata["update"]), score, metadata["sha256"])
        return kept if not check or tensors_sha256(load_file(path)) == kept.sha256 else None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None


def split_kept(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Divide the tensors of `save_plain_weights` into those of the encoder, of its adapters under peft's names, and of the head."""
    adapter, head = (
        {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)} for prefix in (_ADAPTER, _HEAD)
    )
    return {name: tensor for name, tensor in tensors.items() if not name.startswith((_ADAPTER, _HEAD))}, adapter, head


class BestEncoder:
    """Keeps the weights with the best dev score in one file; ties go to the earliest, as in s3prl's runner.

    Weights, score and update are written atomically into one file, so they always belong together. An interrupted run that resumes from an
    earlier checkpoint computes the same scores again and therefore keeps the same weights.
    """

    def __init__(self, path: Path, higher_is_better: bool) -> None:
        self.path = path
        self.higher_is_better = higher_is_better
        self.update: int | None = None
        self.score: float | None = None
        # `speechft.fairseq_plugin.resuming` has checked whether a run may resume without this file.
        if (kept := read_kept(path)) is not None:
            self.update, self.score = kept.update, kept.score

    def consider(self, backbone: nn.Module, head: nn.Module, update: int, score: float) -> bool:
        """Write the weights if `score` is better than all previous ones, and return whether it is."""
        if math.isnan(score):
            return False
        if self.score is not None and not (score > self.score if self.higher_is_better else score < self.score):
            return False
        save_plain_weights(backbone, head, self.path, {"update": str(update), "score": repr(score)})
        self.update, self.score = update, score
        return True

    def weights(self) -> dict[str, Tensor]:
        """Return the kept tensors, including adapters; see `split_kept`.

        Raises:
            TrainingError: no validation had a score.
        """
        if self.score is None:
            raise TrainingError(f"{self.path}: no validation on dev had a score, so there is no best encoder. Check the dev split.")
        loaded: dict[str, Tensor] = load_file(self.path)
        return loaded
