"""One hash for named tensors: files that only speechft writes carry it, so that a damaged one is noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def tensors_sha256(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """Hexadecimal SHA-256 of `text` and of names, dtypes, shapes and bytes of tensors, in any order, on the CPU."""
    digest = hashlib.sha256(f"{text}\n".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
