"""Whole tensors as matrices, for methods that need rows or singular values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def as_rows(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A flattened tensor as a matrix of one row for each output (first axis); a vector is one row."""
    return values.view(shape).flatten(1) if len(shape) > 1 else values.view(1, -1)
