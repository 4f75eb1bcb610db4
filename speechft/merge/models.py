"""All models of a merge, read in parallel: the same piece of the same tensor of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from speechft.errors import MergeError
from speechft.merge.checks import kept, widened
from speechft.merge.tensors import FLOATING, TensorInfo, TensorReader

if TYPE_CHECKING:
    from torch import Tensor

PIECE = 2**18
"""Elements per piece: 1 MiB of float32, which stays in the processor's cache during all steps of a method."""


class Piece(NamedTuple):
    """The same elements of a tensor of all models, flattened, in float32 (float64 for float64 tensors)."""

    name: str
    """Name of the tensor."""
    start: int
    """Index of the first element in the tensor."""
    base: Tensor
    """Values of the pre-trained model; not to be modified."""
    finetuned: list[Tensor]
    """Values of the fine-tuned models; may be modified."""
    shape: tuple[int, ...]
    """Shape of the whole tensor."""


class Models:
    """The pre-trained and the fine-tuned models of a merge; `keep` has patterns of tensors copied from the base."""

    def __init__(self, base: TensorReader, finetuned: Sequence[TensorReader], keep: Sequence[str] = ()) -> None:
        self.base, self.finetuned, self.keep = base, list(finetuned), keep
        self.names = [name for name, info in base.tensors.items() if info.dtype in FLOATING and not kept(name, keep)]
        """Merged tensors: all floating-point tensors that are not kept."""

    def info(self, name: str) -> TensorInfo:
        """Return the default dtype and shape of a result: those of the base, but float32 if only the base has half precision."""
        own = self.base.tensors[name]
        others = (model.tensors[name] for model in self.finetuned if name in model.tensors)
        return next((other for other in others if widened(own, other)), own)

    def size(self, name: str) -> int:
        """Return the number of elements of a tensor."""
        return self.base.tensors[name].size

    def pieces(self, name: str, whole: bool = False) -> Iterator[Piece]:
        """Yield a merged tensor of all models piece by piece, or as one piece if `whole`; raise MergeError for NaN or Inf."""
        import torch

        info = self.base.tensors[name]
        working = torch.float64 if info.dtype == "F64" else torch.float32
        for start, stop in [(0, info.size)] if whole else _spans(info.size):
            base, *finetuned = [model.piece(name, start, stop).to(working) for model in (self.base, *self.finetuned)]
            yield Piece(name, start, base, finetuned, info.shape)

    def base_pieces(self, name: str) -> Iterator[Tensor]:
        """Yield a copied tensor of the base piece by piece; raise MergeError if integers that are not kept differ between models."""
        info = self.base.tensors[name]
        for start, stop in _spans(info.size):
            piece = self.base.piece(name, start, stop)
            for model in () if kept(name, self.keep) else self.finetuned:
                if not model.piece(name, start, stop).equal(piece):
                    raise MergeError(
                        f"{model.label}: {name} ({info.dtype}) differs from {self.base.label}; only floating-point tensors can be merged."
                    )
            yield piece

    def copy_of_base(self) -> TensorReader | None:
        """Return a fine-tuned model that equals the base in the lower precision of the two, so that nothing was fine-tuned; else None.

        Models that differ usually do so in one of the first tensors, so little is read.
        """
        return next((model for model in self.finetuned if all(self._equal(model, name) for name in self.names)), None)

    def _equal(self, model: TensorReader, name: str) -> bool:
        for start, stop in _spans(self.size(name)):
            ours, theirs = self.base.piece(name, start, stop), model.piece(name, start, stop)
            coarse = min(ours.dtype, theirs.dtype, key=lambda dtype: dtype.itemsize)
            if not ours.to(coarse).equal(theirs.to(coarse)):
                return False
        return True


def _spans(size: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each piece; an empty tensor is one empty piece."""
    for start in range(0, max(size, 1), PIECE):
        yield start, min(start + PIECE, size)
