"""Hash of named tensors, stored in speechft's own files to detect damage."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def tensors_sha256(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """Compute the hexadecimal SHA-256 of `text` and of names, dtypes, shapes and bytes of CPU tensors, independent of their order."""
    digest = hashlib.sha256(f"{text}\n".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
