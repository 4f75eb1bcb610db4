"""Linear interpolation between the pre-trained model and the mean of the fine-tuned models: stage 2 of Speech-FT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechft.merge.methods.base import MergeMethod
from speechft.merge.methods.means import running_mean
from speechft.merge.models import Piece

if TYPE_CHECKING:
    from torch import Tensor


class LinearMerge(MergeMethod):
    """theta0 + alpha * mean(theta_i - theta0), Speech-FT's weight-space interpolation.

    With one fine-tuned model, this is (1 - alpha) * theta0 + alpha * theta'.
    """

    name = "linear"
    reference = "Speech-FT, IEEE TASLP 34 (2026), arXiv 2502.12672; as model editing: task arithmetic, arXiv 2212.04089"
    summary = "theta0 + alpha * mean(theta_i - theta0)"

    def target(self, piece: Piece) -> Tensor:
        """Average the fine-tuned models."""
        return running_mean(piece.finetuned)
