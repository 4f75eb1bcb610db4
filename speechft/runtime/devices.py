"""The device that torch computes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def resolve_device(device: str | None = None) -> torch.device:
    """The given device, "cpu" or "cuda"; by default a GPU where there is one."""
    import torch

    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def device_name(device: torch.device) -> str:
    """Name of a GPU, as results record it; `cpu` for the CPU."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
