"""Linear interpolation between the pre-trained model and the mean of the fine-tuned ones: stage 2 of Speech-FT."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from speechft.merge.base import MergeMethod

if TYPE_CHECKING:
    from torch import Tensor


class LinearMerge(MergeMethod):
    """theta0 + alpha * mean(theta_i - theta0), equation of the weight-space interpolation of Speech-FT.

    With one fine-tuned model this is (1 - alpha) * theta0 + alpha * theta'.
    """

    name = "linear"
    reference = "Speech-FT, IEEE TASLP 34 (2026), arXiv 2502.12672; as model editing: task arithmetic, arXiv 2212.04089"
    summary = "theta0 + alpha * mean(theta_i - theta0)"

    def merge_tensor(self, name: str, base: Tensor, finetuned: Iterable[Tensor], alpha: float) -> Tensor:  # noqa: ARG002
        """See MergeMethod; three tensors are alive at a time, however many models there are."""
        import torch

        if alpha == 0.0:
            return base
        # mean_k = mean_{k-1} + (theta_k - mean_{k-1}) / k: exact when all models agree, which sum / n is not.
        mean: Tensor | None = None
        for count, tensor in enumerate(finetuned, start=1):
            mean = tensor if mean is None else mean.add_(tensor.sub_(mean).div_(count))
        assert mean is not None, "the engine never calls a method without a fine-tuned model"
        if alpha == 1.0:
            return mean
        # lerp steps from the nearer end. x + 0 turns -0.0 into +0.0, so values that fine-tuning did not change are copied.
        return torch.where(mean == base, base, torch.lerp(base, mean, alpha))
