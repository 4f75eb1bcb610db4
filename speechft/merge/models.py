"""All models of a merge, read in step: the same piece of the same tensor of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from speechft.errors import MergeError
from speechft.merge.checks import kept, widened
from speechft.merge.tensors import FLOATING, TensorInfo, TensorReader

if TYPE_CHECKING:
    from torch import Tensor

PIECE = 2**18
"""Elements read at a time: 1 MiB of float32, which stays in a processor's cache through all steps of a method."""


class Piece(NamedTuple):
    """The same elements of one tensor of all models, flattened; float32 (float64 where the tensors are)."""

    name: str
    """Name of the tensor."""
    start: int
    """Number of elements of the tensor that came before."""
    base: Tensor
    """Values of the pre-trained model; not to be modified."""
    finetuned: list[Tensor]
    """Values of the fine-tuned models; may be modified."""
    shape: tuple[int, ...]
    """Shape of the whole tensor, which a piece that holds all of it can be viewed in."""


class Models:
    """The pre-trained and the fine-tuned models as methods and the engine see them; `keep` are patterns of tensors that stay the base's."""

    def __init__(self, base: TensorReader, finetuned: Sequence[TensorReader], keep: Sequence[str] = ()) -> None:
        self.base, self.finetuned, self.keep = base, list(finetuned), keep
        self.names = [name for name, info in base.tensors.items() if info.dtype in FLOATING and not kept(name, keep)]
        """Tensors that are merged: all that hold real numbers and are not kept."""

    def info(self, name: str) -> TensorInfo:
        """What a result holds by default: as the base, but float32 where a fine-tuned model has more precision."""
        own = self.base.tensors[name]
        others = (model.tensors[name] for model in self.finetuned if name in model.tensors)
        return next((other for other in others if widened(own, other)), own)

    def size(self, name: str) -> int:
        """Elements of a tensor."""
        return self.base.tensors[name].size

    def pieces(self, name: str, whole: bool = False) -> Iterator[Piece]:
        """A merged tensor of all models, piece by piece, or as one piece if `whole`; MergeError if one of them holds NaN or Inf."""
        import torch

        info = self.base.tensors[name]
        working = torch.float64 if info.dtype == "F64" else torch.float32
        for start, stop in [(0, info.size)] if whole else _spans(info.size):
            base, *finetuned = [model.piece(name, start, stop).to(working) for model in (self.base, *self.finetuned)]
            yield Piece(name, start, base, finetuned, info.shape)

    def base_pieces(self, name: str) -> Iterator[Tensor]:
        """A tensor of the base that is copied, piece by piece. Integers that are not kept must be equal in all models (MergeError)."""
        info = self.base.tensors[name]
        for start, stop in _spans(info.size):
            piece = self.base.piece(name, start, stop)
            for model in () if kept(name, self.keep) else self.finetuned:
                if not model.piece(name, start, stop).equal(piece):
                    raise MergeError(
                        f"{model.label}: {name} holds {info.dtype} numbers other than {self.base.label}; only real numbers can be merged."
                    )
            yield piece

    def copy_of_base(self) -> TensorReader | None:
        """A fine-tuned model that equals the base in the precision of the coarser of the two, so that nothing was fine-tuned; else None.

        Models that differ do so in one of the first tensors, so little is read of them.
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
    """Start and stop of each piece; an empty tensor is one empty piece."""
    for start in range(0, max(size, 1), PIECE):
        yield start, min(start + PIECE, size)
