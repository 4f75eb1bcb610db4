"""Workaround for grouped convolutions under autocast on a CPU.

On processors with AMX, the oneDNN of torch 2.13 computes wrong sums for grouped convolutions in bf16 with fewer than 16 channels per
group; the errors are as large as the values. The positional convolution of a small encoder is affected.
"""

from __future__ import annotations

from types import MethodType

import torch
from torch import Tensor, nn


def keep_grouped_convolutions_exact(model: nn.Module) -> None:
    """Make grouped convolutions of `model` compute in float32 under CPU autocast; GPUs are not affected."""
    for module in model.modules():
        if isinstance(module, nn.Conv1d) and module.groups > 1:
            module._conv_forward = MethodType(_conv_forward, module)  # type: ignore[method-assign]


def _conv_forward(self: nn.Conv1d, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        result: Tensor = nn.Conv1d._conv_forward(self, input, weight, bias)
        return result
    with torch.autocast("cpu", enabled=False):
        exact: Tensor = nn.Conv1d._conv_forward(self, input.float(), weight.float(), None if bias is None else bias.float())
        return exact
