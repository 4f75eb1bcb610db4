"""Methods that give each model a weight."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat

from speechft.errors import MergeError
from speechft.merge.methods.base import MergeMethod
from speechft.recipes.values import Strict


class WeightedMethod(MergeMethod):
    """A method with signed weights; without them, all models count the same and their order has no meaning."""

    class Parameters(Strict):
        """`weights`: one for each fine-tuned model in the order given."""

        weights: tuple[FiniteFloat, ...] | None = Field(None, description="One signed weight for each model; default: 1 for each.")

    parameters: Parameters

    @property
    def symmetric(self) -> bool:
        """Without weights no model is special."""
        return self.parameters.weights is None

    def check_count(self, count: int) -> None:
        """See MergeMethod; there must be a weight for each model."""
        super().check_count(count)
        weights = self.parameters.weights
        if weights is not None and len(weights) != count:
            raise MergeError(
                f"Merge method {self.name!r}: weights has {len(weights)} values for {count} fine-tuned models. Give one for each."
            )

    def weights(self, count: int) -> tuple[float, ...]:
        """The weights of `count` models."""
        return self.parameters.weights or (1.0,) * count


class Shares(WeightedMethod.Parameters):
    """`weights`: positive ones, of which only the ratios count."""

    weights: tuple[Annotated[FiniteFloat, Field(gt=0)], ...] | None = Field(
        None, description="One positive weight for each model, divided by their sum; default: the same for each."
    )
