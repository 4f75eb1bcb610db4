"""Merges of bare safetensors files: `merge_files`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from speechft.files.atomic import atomic_file
from speechft.files.output_kinds import MERGED
from speechft.files.outputs import check_file
from speechft.merge.checks import check_alpha, check_distinct, check_paths
from speechft.merge.engine import Dtype, Plan, check_compatible, stream_merge
from speechft.merge.hashing import FileHashes
from speechft.merge.methods.base import MergeMethod
from speechft.merge.methods.linear import LinearMerge
from speechft.merge.models import ModelFile
from speechft.merge.parts import Scale


def merge_files(
    base: str | Path,
    finetuned: Sequence[str | Path],
    out: str | Path,
    method: MergeMethod | None = None,
    alpha: float = 0.25,
    keep: Sequence[str] = (),
    extrapolate: bool = False,
    scale: Scale | None = None,
    dtype: Dtype | None = None,
) -> list[str]:
    """Merge safetensors files of one pre-trained and one or more fine-tuned models into a safetensors file.

    Computed in float32 (float64 for float64 tensors), stored in the dtype of `base`; where `base` is stored in half precision and a
    fine-tuned model in float32, in float32. Integer tensors cannot be interpolated and must be equal. The bytes of the output depend on
    the content of the inputs alone, for symmetric methods not on the order of `finetuned`.

    Args:
        base: the pre-trained model.
        finetuned: the fine-tuned models.
        out: the file to write; it appears whole or not at all.
        method: from `get_method`; default `LinearMerge`.
        alpha: weight of the fine-tuned side, 0.25 in the paper.
        keep: shell-style patterns of tensors that keep the value of `base`, such as those that exist only for pre-training
            (`*final_proj*`); they may differ or lack in the fine-tuned models.
        extrapolate: allow alpha outside [0, 1].
        scale: factors of alpha by part of the model, see `speechft.merge.parts`.
        dtype: "fp32", "fp16" or "bf16", to store the result in.

    Returns:
        SHA-256 of each fine-tuned file, in the order given.

    Raises:
        MergeError: the models do not fit together, hold NaN or Inf, or alpha is not allowed; `out` is then not written.
    """
    alpha = check_alpha(alpha, extrapolate)
    plan = Plan(method or LinearMerge(LinearMerge.Parameters()), keep, scale or {}, dtype)
    check_paths(Path(base), [Path(path) for path in finetuned])
    check_file(out, MERGED, [base, *finetuned])
    start, models = ModelFile(Path(base)), [ModelFile(Path(path)) for path in finetuned]
    check_compatible(start, models, plan, [alpha], extrapolate)
    with FileHashes([model.path for model in models]) as hashes, atomic_file(out) as temporary:
        stream_merge(start, in_order(models, hashes, plan.method), {alpha: temporary}, plan)
        return [hashes[model.path] for model in models]


def in_order(models: Sequence[ModelFile], hashes: FileHashes, method: MergeMethod) -> list[ModelFile]:
    """The models as the method gets them: those of a symmetric method in the order of their hashes. One model needs no hash yet.

    Raises:
        MergeError: two models are the same.
    """
    if len(models) == 1:
        return list(models)
    digests = {model: hashes[model.path] for model in models}
    check_distinct(models, [digests[model] for model in models])
    return sorted(models, key=digests.__getitem__) if method.symmetric else list(models)
