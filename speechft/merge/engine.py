"""Merge engine: one pass over all models, piece by piece, into one file per alpha."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from speechft.errors import MergeError
from speechft.files.atomic import atomic_file
from speechft.files.hashes import sha256_file
from speechft.files.output_kinds import MERGED
from speechft.files.outputs import check_file
from speechft.merge.checks import check_alpha, check_paths, check_tensors
from speechft.merge.methods.base import MergeMethod
from speechft.merge.methods.linear import LinearMerge
from speechft.merge.models import Models, Piece
from speechft.merge.parts import Scale, alpha_factors
from speechft.merge.tensors import FLOATING, TensorReader, TensorWriter
from speechft.runtime.threads import one_thread

if TYPE_CHECKING:
    from torch import Tensor

Dtype = Literal["fp32", "fp16", "bf16"]
_STORED = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}


@dataclass(frozen=True)
class Plan:
    """Settings of a merge, except alpha.

    `scale`: factors of alpha by part. `dtype`: dtype of the result; default: that of the base, or float32 if a fine-tuned model is float32
    and the base half precision. `extrapolate`: allow alpha outside [0, 1].
    """

    method: MergeMethod
    scale: Scale = field(default_factory=dict)
    dtype: Dtype | None = None
    extrapolate: bool = False

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in _STORED:
            raise MergeError(f"dtype={self.dtype!r} is unknown. Allowed: {', '.join(get_args(Dtype))}.")


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
) -> None:
    """Merge safetensors files of one pre-trained and one or more fine-tuned models into a safetensors file.

    Computed in float32 (float64 for float64 tensors) and stored in the dtype of `base`, or in float32 if `base` has half precision and a
    fine-tuned model float32. Integer tensors cannot be interpolated and must be equal. The bytes of the output depend only on the content
    of the inputs, and for symmetric methods not on the order of `finetuned`.

    Args:
        base: the pre-trained model.
        finetuned: the fine-tuned models.
        out: the file to write, completely or not at all.
        method: from `get_method`; default `LinearMerge`.
        alpha: weight of the fine-tuned side, 0.25 in the paper.
        keep: shell-style patterns of tensors copied from `base`, such as pre-training-only tensors (`*final_proj*`); they may differ or be
            missing in the fine-tuned models.
        extrapolate: allow alpha outside [0, 1].
        scale: factors of alpha by part of the model, see `speechft.merge.parts`.
        dtype: dtype of the result, "fp32", "fp16" or "bf16".

    Raises:
        MergeError: the models do not match, contain NaN or Inf, or alpha is not allowed; `out` is not written.
    """
    alpha = check_alpha(alpha, extrapolate)
    plan = Plan(method or LinearMerge(LinearMerge.Parameters()), scale or {}, dtype, extrapolate)
    check_paths(Path(base), [Path(path) for path in finetuned])
    check_file(out, MERGED, [base, *finetuned])
    models = Models(TensorReader(base), [TensorReader(path) for path in finetuned], keep)
    check_compatible(models, plan, [alpha])
    put_in_order(models, [sha256_file(path) for path in finetuned], plan.method)
    with atomic_file(out) as temporary:
        stream_merge(models, {alpha: temporary}, plan)


def check_compatible(models: Models, plan: Plan, alphas: Iterable[float]) -> None:
    """Check everything that the file headers reveal, before reading tensors; raise MergeError."""
    plan.method.check_count(len(models.finetuned))
    check_tensors(models.base, models.finetuned, models.keep)
    factors = alpha_factors(plan.scale, models.names)
    for alpha in () if plan.extrapolate else alphas:
        for name, factor in factors.items():
            if not 0.0 <= alpha * factor <= 1.0:
                raise MergeError(
                    f"alpha={alpha:g} times the factor {factor:g} of {name} is outside [0, 1]. Change scale, or pass "
                    "extrapolate=True (--extrapolate)."
                )


def put_in_order(models: Models, hashes: Sequence[str], method: MergeMethod) -> None:
    """Sort the fine-tuned models by hash for symmetric methods, since rounding of sums depends on the order.

    Raises:
        MergeError: two models have the same content, so one would count twice.
    """
    for index, digest in enumerate(hashes):
        if (first := hashes.index(digest)) != index:
            one, other = models.finetuned[index].label, models.finetuned[first].label
            raise MergeError(f"{one} and {other} are the same file (SHA-256 {digest[:12]}...). Name each model once.")
    if method.symmetric:
        models.finetuned = [model for _, model in sorted(zip(hashes, models.finetuned, strict=True), key=lambda pair: pair[0])]


def stream_merge(models: Models, outs: Mapping[float, Path], plan: Plan) -> None:
    """Merge checked models into one file per alpha; on failure, files stay incomplete, so pass temporary ones."""
    factors = alpha_factors(plan.scale, models.names)
    with ExitStack() as stack:
        stack.enter_context(one_thread())
        plan.method.prepare(models)
        stored = {name: models.info(name) for name in models.base.tensors}
        if plan.dtype:
            dtype = _STORED[plan.dtype]
            stored = {name: replace(info, dtype=dtype) if info.dtype in FLOATING else info for name, info in stored.items()}
        writers = {alpha: stack.enter_context(closing(TensorWriter(path, stored))) for alpha, path in outs.items()}
        for name in next(iter(writers.values())).order:
            if name not in factors:
                for values in models.base_pieces(name):
                    for writer in writers.values():
                        writer.append(name, values)
                continue
            for piece in models.pieces(name, plan.method.whole):
                for alpha, values in _results(piece, plan.method, {alpha: alpha * factors[name] for alpha in writers}).items():
                    writers[alpha].append(name, values)


def _results(piece: Piece, method: MergeMethod, alphas: Mapping[float, float]) -> dict[float, Tensor]:
    """Compute merged values by alpha of the merge; `alphas` maps alpha of the merge -> alpha of this tensor."""
    if not any(alphas.values()):
        return dict.fromkeys(alphas, piece.base)
    target = method.target(piece)
    return {
        key: piece.base if alpha == 0.0 else target if alpha == 1.0 else method.step(piece, target, alpha) for key, alpha in alphas.items()
    }
