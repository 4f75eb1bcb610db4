"""Base of methods with one weight per model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat

from speechft.errors import MergeError
from speechft.merge.methods.base import MergeMethod
from speechft.recipes.values import Strict


class WeightedMethod(MergeMethod):
    """A method with signed weights; without weights, all models count the same and their order does not matter."""

    class Parameters(Strict):
        """`weights`: one per fine-tuned model, in the order given."""

        weights: tuple[FiniteFloat, ...] | None = Field(None, description="One signed weight per model; default: 1 each.")

    parameters: Parameters

    @property
    def symmetric(self) -> bool:
        """Whether the order of models does not matter: there are no weights."""
        return self.parameters.weights is None

    def check_count(self, count: int) -> None:
        """Raise MergeError for a wrong number of models or weights."""
        super().check_count(count)
        weights = self.parameters.weights
        if weights is not None and len(weights) != count:
            raise MergeError(
                f"Merge method {self.name!r}: weights has {len(weights)} values for {count} fine-tuned models. Give one for each."
            )

    def weights(self, count: int) -> tuple[float, ...]:
        """Return the weights of `count` models."""
        return self.parameters.weights or (1.0,) * count


class Shares(WeightedMethod.Parameters):
    """`weights`: positive, divided by their sum."""

    weights: tuple[Annotated[FiniteFloat, Field(gt=0)], ...] | None = Field(
        None, description="One positive weight per model, divided by their sum; default: equal weights."
    )
