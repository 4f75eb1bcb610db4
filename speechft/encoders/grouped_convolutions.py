"""Grouped convolutions under autocast on a CPU.

On processors with AMX, oneDNN as torch 2.13 brings it gives wrong sums for grouped convolutions in bf16 with fewer than 16 channels a
group: off by as much as the values themselves. The positional convolution of a small encoder is one.
"""

from __future__ import annotations

from types import MethodType

import torch
from torch import Tensor, nn


def keep_grouped_convolutions_exact(model: nn.Module) -> None:
    """Let grouped convolutions of `model` compute in float32 wherever autocast is on for the CPU; GPUs are left as they are."""
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
