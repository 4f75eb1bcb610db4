"""The merge itself, over safetensors files: one pass, a few tensors in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from speechft.errors import MergeError
from speechft.files import atomic_file
from speechft.merge.base import MergeMethod
from speechft.merge.checks import check_alpha, check_paths, check_tensors, distinct_hashes, kept, widened
from speechft.merge.linear import LinearMerge
from speechft.merge.stream import FLOATING, TensorInfo, TensorReader, TensorWriter

if TYPE_CHECKING:
    from torch import Tensor


def merge_files(
    base: str | Path,
    finetuned: Sequence[str | Path],
    out: str | Path,
    method: MergeMethod | None = None,
    alpha: float = 0.25,
    keep: Sequence[str] = (),
    extrapolate: bool = False,
) -> list[str]:
    """Merge safetensors files of one pre-trained and one or more fine-tuned models into a safetensors file.

    Computed in float32 (float64 for float64 tensors), stored in the dtype of `base`; where `base` is stored in half precision and a
    fine-tuned model in float32, in float32. Integer tensors can not be interpolated and must
    be equal. The bytes of the output depend on the content of the inputs alone, for symmetric methods not on the order of `finetuned`.

    Args:
        base: the pre-trained model.
        finetuned: the fine-tuned models.
        out: the file to write; it appears whole or not at all.
        method: default `LinearMerge`.
        alpha: weight of the fine-tuned side, 0.25 in the paper.
        keep: shell-style patterns of tensors that keep the value of `base`, such as those that exist only for pre-training
            (`*final_proj*`); they may differ or lack in the fine-tuned models.
        extrapolate: allow alpha outside [0, 1].

    Returns:
        SHA-256 of each fine-tuned file, in the order given.

    Raises:
        MergeError: the models do not fit together, hold NaN or Inf, or alpha is not allowed; `out` is then not written.
    """
    alpha = check_alpha(alpha, extrapolate)
    base, out, models = Path(base), Path(out), [Path(path) for path in finetuned]
    check_paths(base, models, out)
    check_compatible(base, models, keep)
    hashes = distinct_hashes(models)
    if method is None:
        method = LinearMerge(LinearMerge.Parameters())
    with atomic_file(out) as temporary:
        stream_merge(base, dict(zip(hashes, models, strict=True)), temporary, method, alpha, keep)
    return hashes


def check_compatible(base: Path, finetuned: Sequence[Path], keep: Sequence[str] = ()) -> None:
    """Compare the headers of all files, which is quick, before anything is read or hashed; see `check_tensors`."""
    with ExitStack() as stack:
        reader, *readers = [stack.enter_context(TensorReader(path)) for path in (base, *finetuned)]
        check_tensors(reader, readers, keep)


def stream_merge(base: Path, finetuned: Mapping[str, Path], out: Path, method: MergeMethod, alpha: float, keep: Sequence[str] = ()) -> None:
    """Merge files that were checked, one tensor at a time.

    Args:
        base: the pre-trained model.
        finetuned: SHA-256 -> fine-tuned model.
        out: the file to write, which stays incomplete when this fails: give a temporary one.
        method: how.
        alpha: weight of the fine-tuned side.
        keep: see `merge_files`.

    Raises:
        MergeError: a tensor holds NaN or Inf, or an integer tensor differs.
    """
    # Sums of three or more numbers round differently in another order, so symmetric methods get the order of the hashes.
    models = [finetuned[digest] for digest in (sorted(finetuned) if method.symmetric else finetuned)]
    with ExitStack() as stack:
        reader, *readers = [stack.enter_context(TensorReader(path)) for path in (base, *models)]
        writer = stack.enter_context(TensorWriter(out, _stored(reader, readers)))
        for name in writer.order:
            writer.write(name, _merged(name, reader, readers, method, alpha, keep))


def _stored(base: TensorReader, finetuned: Sequence[TensorReader]) -> dict[str, TensorInfo]:
    """What the result holds: as the base, but float32 where a fine-tuned model has more precision."""
    return {
        name: next((model.tensors[name] for model in finetuned if name in model.tensors and widened(info, model.tensors[name])), info)
        for name, info in base.tensors.items()
    }


def _merged(
    name: str, base: TensorReader, finetuned: Sequence[TensorReader], method: MergeMethod, alpha: float, keep: Sequence[str]
) -> Tensor:
    import torch

    start = base.read(name)
    if kept(name, keep):
        return start
    dtype = base.tensors[name].dtype
    if dtype not in FLOATING:
        for model in finetuned:
            if not torch.equal(model.read(name), start):
                raise MergeError(f"{model.path}: {name} holds {dtype} numbers other than {base.path}; only real numbers can be merged.")
        return start
    working = torch.float64 if dtype == "F64" else torch.float32

    def rest() -> Iterator[Tensor]:
        for model in finetuned:
            yield model.read(name).to(working)

    tensors = rest()
    merged = method.merge_tensor(name, start.to(working), tensors, alpha)
    for _ in tensors:  # what the method did not need (alpha = 0) is still checked for NaN and Inf
        pass
    return merged
