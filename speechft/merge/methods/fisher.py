"""Fisher merging: a mean weighted by how much each model cares about a parameter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, FiniteFloat

from speechft.errors import MergeError
from speechft.merge.checks import listed
from speechft.merge.methods.base import MergeMethod, check_weights
from speechft.merge.stream import FLOATING, TensorReader
from speechft.recipes.values import Strict

if TYPE_CHECKING:
    from torch import Tensor

    from speechft.merge.models import OpenModels, Piece


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str | Path) else value


Files = Annotated[tuple[Path, ...], BeforeValidator(_as_list), Field(min_length=1)]


class FisherMerge(MergeMethod):
    """theta0 + alpha * (sum_i w_i F_i theta_i / sum_i w_i F_i - theta0), F_i the diagonal Fisher information of model i.

    F_i is the mean of squared gradients over the gradient files of model i. Each is a safetensors file with the gradient of the loss for
    one example (or batch), under the names of the weights; tensors that it lacks, such as frozen ones, have gradient zero. Where all F_i
    are zero the models count equally, which is ours. The base has no part in the mean; alpha = 1 is the published method.
    """

    name = "fisher"
    reference = "Matena, Raffel, Merging models with Fisher-weighted averaging, NeurIPS 2022, arXiv 2111.09832"
    summary = "theta0 + alpha * (sum(w_i F_i theta_i) / sum(w_i F_i) - theta0), F_i the mean of squared gradients of model i"
    fewest = 2

    class Parameters(Strict):
        """`gradients`: for each model, in the order given, its gradient files. `squared`: they hold squares. `weights`: w_i."""

        gradients: tuple[Files, ...] = Field((), description="For each model one gradient file, or a list of them.")
        squared: bool = Field(False, description="The files hold squared gradients (a Fisher diagonal) already.")
        weights: tuple[Annotated[FiniteFloat, Field(gt=0)], ...] | None = Field(None, description="One for each model; default: equal.")

    parameters: Parameters

    def __init__(self, parameters: Strict) -> None:
        super().__init__(parameters)
        self._readers: list[list[TensorReader]] = []

    @property
    def symmetric(self) -> bool:
        """The gradient files belong to the models in the order given."""
        return False

    @property
    def files(self) -> dict[str, Path]:
        """The gradient files."""
        return {
            f"gradients_{model}_{index}": file for model, files in enumerate(self.parameters.gradients) for index, file in enumerate(files)
        }

    def settings(self) -> dict[str, object]:
        """See MergeMethod."""
        return self.parameters.model_dump(mode="json", exclude={"gradients"})

    def check_count(self, count: int) -> None:
        """See MergeMethod; there must be gradients (and a weight) for each model."""
        super().check_count(count)
        check_weights(self.name, self.parameters.weights, count)
        if len(self.parameters.gradients) != count:
            raise MergeError(
                f"Merge method 'fisher': gradients of {len(self.parameters.gradients)} models for {count} fine-tuned models. "
                "Give for each model a safetensors file of gradients, or a list of them."
            )

    def prepare(self, models: OpenModels) -> None:
        """Open the gradient files and compare them with the models."""
        problems = []
        for files in self.parameters.gradients:
            self._readers.append([])
            for file in files:  # one by one, so that `close` finds those that were opened before a failure
                self._readers[-1].append(TensorReader(file))
        for reader in (reader for readers in self._readers for reader in readers):
            for name, info in reader.tensors.items():
                if name not in models.base.tensors:
                    problems.append(f"{reader.label}: has {name}, which the models lack")
                elif info.shape != models.base.tensors[name].shape or info.dtype not in FLOATING:
                    problems.append(f"{reader.label}: {name} is {info}, in the models it is {models.base.tensors[name]}")
        if problems:
            raise MergeError(f"The gradients are not those of these models:\n  {listed(problems)}")

    def close(self) -> None:
        """Close the gradient files."""
        for reader in (reader for readers in self._readers for reader in readers):
            reader.close()
        self._readers = []

    def target(self, piece: Piece) -> Tensor:
        """The weighted mean; mean_k = mean_{k-1} + (share of model k) (theta_k - mean_{k-1}) is exact where models agree."""
        import torch

        weights = self.parameters.weights or (1.0,) * len(piece.finetuned)
        information = [self._fisher(piece, index) * weight for index, weight in enumerate(weights)]
        known = torch.stack(information).sum(0) > 0
        mean, total = piece.finetuned[0], torch.zeros_like(information[0])
        for model, fisher, weight in zip(piece.finetuned, information, weights, strict=True):
            share = torch.where(known, fisher, weight)
            total += share
            mean = mean + (model - mean) * (share / total.clamp(min=torch.finfo(torch.float64).tiny)).to(mean.dtype)
        return mean

    def _fisher(self, piece: Piece, index: int) -> Tensor:
        """Diagonal Fisher information of model `index`, float64: squares of small gradients do not fit float32."""
        import torch

        readers, stop = self._readers[index], piece.start + len(piece.base)
        fisher = torch.zeros(piece.base.shape, dtype=torch.float64)
        for reader in readers:
            if piece.name not in reader.tensors:
                continue
            values = reader.piece(piece.name, piece.start, stop).double()
            if self.parameters.squared and bool((values < 0).any()):
                raise MergeError(f"{reader.label}: {piece.name} holds negative values, so these are no squares. Leave `squared` out.")
            fisher += values if self.parameters.squared else values.square()
        return fisher / len(readers)
