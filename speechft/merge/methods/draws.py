"""Random numbers for methods that drop changes, independent of machine, piece size and order of models."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def generator(seed: int, index: int, name: str) -> torch.Generator:
    """Return the generator for tensor `name` of model `index`, independent of all others."""
    import torch

    digest = hashlib.sha256(f"{seed}/{index}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
