"""Base class of merge methods: name, source, checked parameters, and a function of a piece of a tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from speechft.errors import MergeError
from speechft.recipes.values import Strict

if TYPE_CHECKING:
    from torch import Tensor

    from speechft.merge.models import Models, Piece


class MergeMethod(ABC):
    """A method to merge a pre-trained model with fine-tuned ones.

    A method defines the target of the full step (`target`, alpha = 1) and partial steps (`step`, by default straight). It gets one piece of
    one tensor of all models at a time, so that a merge never loads whole models. In `prepare` it can make any number of passes over all
    pieces to collect what it needs about whole models or tensors. A method that needs whole matrices, for example singular values, sets
    `whole` and views its pieces in `piece.shape`; memory then depends on the largest tensor.
    """

    name: ClassVar[str]
    """Name of the method in recipes and on the command line."""
    reference: ClassVar[str]
    """Publication of the method."""
    summary: ClassVar[str]
    """Formula in words or symbols, for the model card."""
    fewest: ClassVar[int] = 1
    """Smallest number of fine-tuned models."""
    most: ClassVar[int | None] = None
    """Largest number of fine-tuned models; None: no limit."""
    whole: ClassVar[bool] = False
    """Whether each piece is a whole tensor; memory is then a few times the largest tensor of all models, instead of a few MiB."""

    class Parameters(Strict):
        """Parameters of the method other than alpha; none by default."""

    def __init__(self, parameters: Strict) -> None:
        self.parameters = parameters

    @property
    def symmetric(self) -> bool:
        """Whether the order of the fine-tuned models does not matter; the engine then fixes it, so that it does not affect rounding."""
        return True

    @classmethod
    def takes(cls, count: int) -> bool:
        """Whether the method can merge `count` fine-tuned models."""
        return count >= cls.fewest and (cls.most is None or count <= cls.most)

    def check_count(self, count: int) -> None:
        """Raise MergeError for a number of fine-tuned models that the method or its parameters do not allow."""
        if not self.takes(count):
            wanted = str(self.fewest) if self.most == self.fewest else f"at least {self.fewest}"
            raise MergeError(f"Merge method {self.name!r} needs {wanted} fine-tuned model{'s' * (wanted != '1')}, got {count}.")

    def prepare(self, models: Models) -> None:  # noqa: B027 - most methods need not look
        """Inspect the models before any result is computed; called once, after all checks."""

    @abstractmethod
    def target(self, piece: Piece) -> Tensor:
        """Compute the target of the full step; called once per piece, in order.

        With one fine-tuned model and parameters that do not change it, this must be that model bit for bit.
        """

    def step(self, piece: Piece, target: Tensor, alpha: float) -> Tensor:
        """Interpolate from the base to `target`; the engine handles alpha 0 and 1.

        Steps start from the nearer end and are subtracted, so that values equal at both ends do not change: x - 0 is x bit for bit, while
        -0.0 + 0 is +0.0.
        """
        near, far, way = (piece.base, target, alpha) if abs(alpha) < 0.5 else (target, piece.base, 1.0 - alpha)
        away = near - far if way > 0 else far - near
        return near.sub(away, alpha=abs(way))
