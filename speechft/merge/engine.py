"""The merge itself: one pass over all models, piece by piece, into one file for each alpha."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from speechft.errors import MergeError
from speechft.merge.checks import check_alphas, check_tensors
from speechft.merge.methods.base import MergeMethod
from speechft.merge.models import PIECE, ModelFile, OpenModels, Piece
from speechft.merge.parts import Scale, alpha_factors
from speechft.merge.stream import FLOATING, TensorInfo, TensorWriter

if TYPE_CHECKING:
    from torch import Tensor

Dtype = Literal["fp32", "fp16", "bf16"]
_STORED = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}


@dataclass(frozen=True)
class Plan:
    """How models are merged, apart from alpha.

    `keep`: shell-style patterns of tensors that keep the value of the base. `scale`: factors of alpha by part. `dtype`: of the result;
    default: that of the base, float32 where a fine-tuned model has more precision.
    """

    method: MergeMethod
    keep: Sequence[str] = ()
    scale: Scale = field(default_factory=dict)
    dtype: Dtype | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in _STORED:
            raise MergeError(f"dtype={self.dtype!r} is unknown. Allowed: {', '.join(get_args(Dtype))}.")


def check_compatible(base: ModelFile, finetuned: Sequence[ModelFile], plan: Plan, alphas: Sequence[float], extrapolate: bool) -> None:
    """Everything that the headers of the files tell, which is quick, before anything is read or hashed.

    Raises:
        MergeError: the models have other tensors than the base, or `plan` and `alphas` do not fit the models.
    """
    plan.method.check_count(len(finetuned))
    with OpenModels(base, finetuned, plan.keep) as models:
        check_tensors(models.base, models.finetuned, plan.keep)
        factors = alpha_factors(plan.scale, models.names)
    for alpha in alphas:
        check_alphas(alpha, factors, extrapolate)


def stream_merge(base: ModelFile, finetuned: Sequence[ModelFile], outs: Mapping[float, Path], plan: Plan) -> dict[float, str]:
    """Merge files that were checked.

    Args:
        base: the pre-trained model.
        finetuned: the fine-tuned models; for symmetric methods in an order that depends on nothing but their content, because sums of
            three or more numbers round differently in another order.
        outs: alpha -> the file to write, which stays incomplete when this fails: give temporary ones.
        plan: how.

    Returns:
        alpha -> SHA-256 of its file.

    Raises:
        MergeError: a tensor holds NaN or Inf, or an integer tensor differs.
    """
    _keep_freed_memory()
    with ExitStack() as stack:
        stack.enter_context(_one_thread())
        models = stack.enter_context(OpenModels(base, finetuned, plan.keep))
        factors = alpha_factors(plan.scale, models.names)
        stack.callback(plan.method.close)
        plan.method.prepare(models)
        stored = _stored(models, plan.dtype)
        writers = {alpha: stack.enter_context(TensorWriter(path, stored)) for alpha, path in outs.items()}
        merged = set(models.names)
        for name in next(iter(writers.values())).order:
            if name not in merged:
                for values in models.base_pieces(name):
                    for writer in writers.values():
                        writer.append(name, values)
                continue
            for piece in models.pieces(name):
                for alpha, values in _results(piece, plan.method, {alpha: alpha * factors[name] for alpha in writers}).items():
                    writers[alpha].append(name, values)
        return {alpha: writer.sha256 for alpha, writer in writers.items()}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute with one thread.

    Pieces are small; on a busy machine threads that wait for each other would cost many times the work itself; and sums (of angles, say)
    round the same on every machine.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _keep_freed_memory() -> None:
    """Let the allocator hold on to a few pieces instead of asking the system for the same pages again and again.

    glibc gives memory back as soon as twice the largest block that was ever freed is unused; clearing new pages would cost a fifth of
    the whole merge. Elsewhere this does nothing.
    """
    import torch

    torch.empty(16 * PIECE, dtype=torch.float32)


def _results(piece: Piece, method: MergeMethod, alphas: Mapping[float, float]) -> dict[float, Tensor]:
    """Results by alpha of the merge, given alpha of the merge -> alpha of this tensor."""
    if all(alpha == 0.0 for alpha in alphas.values()):
        return dict.fromkeys(alphas, piece.base)
    target = method.target(piece)
    return {
        key: piece.base if alpha == 0.0 else target if alpha == 1.0 else method.step(piece, target, alpha) for key, alpha in alphas.items()
    }


def _stored(models: OpenModels, dtype: Dtype | None) -> dict[str, TensorInfo]:
    """What the results hold."""
    infos = {name: models.info(name) for name in models.base.tensors}
    if dtype is None:
        return infos
    return {name: TensorInfo(_STORED[dtype], info.shape) if info.dtype in FLOATING else info for name, info in infos.items()}
