"""RegMean: merge linear layers so that they reproduce the models' outputs on recordings."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from speechft.errors import MergeError, missing_file
from speechft.merge.methods.base import MergeMethod
from speechft.merge.methods.matrices import changed_matrices
from speechft.merge.methods.means import add_step, running_mean
from speechft.merge.models import Models, Piece
from speechft.recipes.values import Strict

if TYPE_CHECKING:
    from torch import Tensor

_RIDGE = 1e-9
"""Share of the mean moment added to the diagonal, so that directions without energy in the recordings get the mean of the models."""


class RegMeanMerge(MergeMethod):
    """theta0 + alpha * (W - theta0), with W = (sum_i W_i G_i) (sum_i G_i)^-1 for linear layers, the mean of the models for other tensors.

    G_i = mean(x x^T) over the frames of the recordings, with x the input of the layer in model i; off-diagonal elements are multiplied by
    `off_diagonal`. W minimizes the squared difference from the outputs of each model on its own inputs.
    """

    name = "regmean"
    reference = "Jin et al., Dataless knowledge fusion by merging weights of language models, ICLR 2023, arXiv 2212.09849"
    summary = (
        "theta0 + alpha * (W - theta0), W = (sum W_i G_i) (sum G_i)^-1 for linear layers, G_i = mean(x x^T) of their inputs on recordings; "
        "mean of the models for other tensors"
    )
    fewest = 2
    whole = True

    class Parameters(Strict):
        """`recordings`: one folder or one per model. `split`: of manifests. `utterances`: per folder. `off_diagonal`: factor in G_i."""

        recordings: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
            description="Folder of manifests or audio files for all models, or one per fine-tuned model."
        )
        split: str = Field("train", description="Split of a folder of manifests.")
        utterances: Annotated[int, Field(gt=0)] = Field(100, description="Utterances per folder, evenly spaced.")
        off_diagonal: Annotated[float, Field(ge=0, le=1)] = Field(0.9, description="Factor of the off-diagonal elements of G_i.")

        @field_validator("recordings", mode="before")
        @classmethod
        def _one_or_several(cls, value: object) -> object:
            values = [value] if isinstance(value, str | Path) else value
            return [str(one) if isinstance(one, Path) else one for one in values] if isinstance(values, list | tuple) else values

    parameters: Parameters

    @property
    def symmetric(self) -> bool:
        """Whether the order of models does not matter: it does if each model has its own recordings."""
        return len(self.parameters.recordings) == 1

    def check_count(self, count: int) -> None:
        """Raise MergeError for a wrong number of models, or if there is not one existing folder of recordings for all or for each."""
        super().check_count(count)
        recordings = self.parameters.recordings
        if len(recordings) not in (1, count):
            raise MergeError(
                f"Merge method {self.name!r}: recordings has {len(recordings)} folders for {count} fine-tuned models. Give one, or one for "
                "each."
            )
        for folder in recordings:
            if not Path(folder).is_dir():
                raise MergeError(
                    missing_file(Path(folder), "as recordings", "Give a folder of manifests (speechft prepare) or of audio files.")
                )

    def prepare(self, models: Models) -> None:
        """Run each model on its recordings."""
        from safetensors.torch import save_file

        from speechft.merge.methods.linear_inputs import cuts_of, second_moments

        self._folder = tempfile.TemporaryDirectory(prefix="speechft_regmean_")
        self._files = [Path(self._folder.name) / str(index) for index in range(len(models.finetuned))]
        recordings = self.parameters.recordings
        for index, (file, model) in enumerate(zip(self._files, models.finetuned, strict=True)):
            folder = Path(recordings[index] if len(recordings) > 1 else recordings[0])
            cuts = cuts_of(folder, self.parameters.split, self.parameters.utterances)
            save_file(second_moments(model, cuts), file)

    def target(self, piece: Piece) -> Tensor:
        """Compute the weight that reproduces the models' outputs."""
        import torch

        changes = changed_matrices(piece)
        moments = self._moments(piece.name) if changes else []
        if changes is None or not moments:
            return running_mean(piece.finetuned)
        mean = torch.stack(changes).mean(0)
        total = torch.stack(moments).sum(0)
        total.diagonal().add_(_RIDGE * total.diagonal().mean() + torch.finfo(total.dtype).tiny)
        # Relative to the mean, so that values that all models share are exact.
        apart = torch.stack([(change - mean) @ moment for change, moment in zip(changes, moments, strict=True)]).sum(0)
        step = mean + torch.cholesky_solve(apart.T, torch.linalg.cholesky(total)).T
        return add_step(piece.base, step.flatten().to(piece.base.dtype))

    def _moments(self, name: str) -> list[Tensor]:
        """Return G_i of the layer with weight `name`, float64 (inputs, inputs) per model; empty if it is not a linear layer."""
        from safetensors import safe_open

        moments = []
        for file in self._files:
            with safe_open(file, framework="pt") as tensors:
                if name in tensors.keys():  # noqa: SIM118 - no mapping
                    moment = tensors.get_tensor(name)
                    diagonal = moment.diagonal().clone()
                    moment *= self.parameters.off_diagonal
                    moment.diagonal().copy_(diagonal)
                    moments.append(moment)
        return moments
