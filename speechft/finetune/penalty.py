"""Weight-space regularisation: the distance of the encoder from where it started, added to the loss."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class DistancePenalty:
    """`weight` x the squared L2 distance between parameters and the values that they have now.

    The paper says that the L2 distance to theta0 is added to the loss and not with what weight; that the distance is squared, so that its
    gradient is smooth at the start, is our choice. The start is kept in memory and in no checkpoint: it comes from theta0 again.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], weight: float) -> None:
        self.weight = weight
        self._pairs = [(parameter, parameter.detach().clone()) for parameter in parameters]

    def __call__(self) -> Tensor:
        """The penalty, a scalar in float32 on the parameters' device."""
        self._pairs = [(parameter, start.to(parameter.device)) for parameter, start in self._pairs]
        return self.weight * torch.stack([(parameter - start).square().sum() for parameter, start in self._pairs]).sum()
