"""What a merge method is: a name, where it comes from, checked parameters, and one function of a piece of a tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from speechft.errors import MergeError
from speechft.recipes.values import Strict

if TYPE_CHECKING:
    from torch import Tensor

    from speechft.merge.models import Models, Piece


class MergeMethod(ABC):
    """One way to combine a pre-trained model with fine-tuned ones.

    A method says where the full step leads (`target`, alpha = 1), and how to go a part of the way (`step`; most methods go straight).
    It sees one piece of one tensor of all models at a time, so that a merge never holds whole models. What it needs to know about whole
    models or tensors it gathers in `prepare`, which may look through all pieces as often as it likes. A method of whole matrices, such as
    one that takes singular values, sets `whole` and views its pieces in `piece.shape`; the largest tensor then bounds the memory.
    """

    name: ClassVar[str]
    """The `method` of a recipe and of the command line."""
    reference: ClassVar[str]
    """Where the method was published."""
    summary: ClassVar[str]
    """The formula in words or symbols, for the model card."""
    fewest: ClassVar[int] = 1
    """Fine-tuned models that it needs."""
    most: ClassVar[int | None] = None
    """Fine-tuned models that it takes; None: any number."""
    whole: ClassVar[bool] = False
    """Each piece is a whole tensor: memory is some times the largest tensor of all models, not some MiB."""

    class Parameters(Strict):
        """Parameters beside alpha, with their defaults; this method has none."""

    def __init__(self, parameters: Strict) -> None:
        self.parameters = parameters

    @property
    def symmetric(self) -> bool:
        """The order of the fine-tuned models has no meaning; the engine then fixes it, so that it cannot change even the rounding."""
        return True

    @classmethod
    def takes(cls, count: int) -> bool:
        """Whether it can merge that many fine-tuned models."""
        return count >= cls.fewest and (cls.most is None or count <= cls.most)

    def check_count(self, count: int) -> None:
        """Refuse (MergeError) a number of fine-tuned models that the method or its parameters do not allow."""
        if not self.takes(count):
            wanted = str(self.fewest) if self.most == self.fewest else f"at least {self.fewest}"
            raise MergeError(f"Merge method {self.name!r} takes {wanted} fine-tuned model{'s' * (wanted != '1')}, got {count}.")

    def prepare(self, models: Models) -> None:  # noqa: B027 - most methods need not look
        """Look at the models before any result is computed; called once, after all checks."""

    @abstractmethod
    def target(self, piece: Piece) -> Tensor:
        """Where the full step leads; pieces of a tensor come in order, each once.

        With one fine-tuned model and parameters that leave it as it is, this must be that model bit for bit.
        """

    def step(self, piece: Piece, target: Tensor, alpha: float) -> Tensor:
        """A part of the way from the base to `target`; the engine deals with alpha 0 and 1 itself.

        Steps start from the nearer end and are subtracted: x - 0 is x bit for bit, while -0.0 + 0 is +0.0. So values that both ends share
        stay as they are.
        """
        near, far, way = (piece.base, target, alpha) if abs(alpha) < 0.5 else (target, piece.base, 1.0 - alpha)
        away = near - far if way > 0 else far - near
        return near.sub(away, alpha=abs(way))
