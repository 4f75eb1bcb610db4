"""What a merge method is: a name, where it comes from, checked parameters, and one function of one tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from speechft.validation import Strict

if TYPE_CHECKING:
    from torch import Tensor


class MergeMethod(ABC):
    """One way to combine a pre-trained model with fine-tuned ones.

    A method sees one tensor at a time, so that a merge never holds whole models. It is made once for a merge, with the parameters
    that its `Parameters` class declares; what it needs to know about whole models (none of the methods here does) would be gathered
    in its constructor.
    """

    name: ClassVar[str]
    """The `method` of a recipe and of the command line."""
    reference: ClassVar[str]
    """Where the method was published."""
    summary: ClassVar[str]
    """The formula in words or symbols, for the model card."""
    symmetric: ClassVar[bool] = True
    """The order of the fine-tuned models has no meaning; the engine then fixes it, so that it can not change even the rounding."""

    class Parameters(Strict):
        """Parameters beside alpha, with their defaults; this method has none."""

    def __init__(self, parameters: Strict) -> None:
        self.parameters = parameters

    @abstractmethod
    def merge_tensor(self, name: str, base: Tensor, finetuned: Iterable[Tensor], alpha: float) -> Tensor:
        """Combine one tensor of all models; everything is float32 of the same shape, the result too.

        Args:
            name: key of the tensor, for methods that treat modules differently.
            base: the pre-trained tensor; not to be modified.
            finetuned: the fine-tuned tensors; each is read from disk when the iteration reaches it, and belongs to the method then.
            alpha: weight of the fine-tuned side; 0 must return `base` and 1 the full step of the method, bit for bit.
        """
