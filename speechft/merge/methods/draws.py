"""Random numbers of methods that drop changes: the same for every machine, size of pieces and order of models."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def generator(seed: int, index: int, name: str) -> torch.Generator:
    """Random numbers of tensor `name` of the model with that index, independent of all others."""
    import torch

    digest = hashlib.sha256(f"{seed}/{index}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
