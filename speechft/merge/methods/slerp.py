"""Spherical linear interpolation, along the arc between two models instead of the chord."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from speechft.merge.methods.base import MergeMethod
from speechft.merge.models import Models, Piece

if TYPE_CHECKING:
    from torch import Tensor

_NEARLY_STRAIGHT = 1e-6
"""Angle in radians below which arc and chord are equal in float32 (they differ by angle squared / 8)."""


class SlerpMerge(MergeMethod):
    """(sin((1 - alpha) w) * theta0 + sin(alpha w) * theta') / sin(w), with w the angle between the two, tensor by tensor.

    The norm changes between the ends without the dip of the chord. Fine-tuned models have small angles to the pre-trained model, so the
    difference from linear is small. Tensors that are zero, parallel or opposite are interpolated linearly.
    """

    name = "slerp"
    reference = "Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985; for models: per tensor, as merging tools do"
    summary = "(sin((1 - alpha) w) * theta0 + sin(alpha w) * theta') / sin(w), w the angle between the tensors"
    most = 1

    def prepare(self, models: Models) -> None:
        """Measure the angle of each tensor."""
        self._angles = {name: _angle(models, name) for name in models.names}

    def target(self, piece: Piece) -> Tensor:
        """Return the fine-tuned model."""
        return piece.finetuned[0]

    def step(self, piece: Piece, target: Tensor, alpha: float) -> Tensor:
        """Interpolate along the arc."""
        angle = self._angles[piece.name]
        if not _NEARLY_STRAIGHT < angle < math.pi - _NEARLY_STRAIGHT:
            return super().step(piece, target, alpha)
        near, far = (math.sin(share * angle) / math.sin(angle) for share in (1 - alpha, alpha))
        return piece.base.mul(near).add_(target, alpha=far)


def _angle(models: Models, name: str) -> float:
    """Compute the angle in radians between a tensor of base and fine-tuned model, accurate for small angles; 0 if one is zero."""
    square = inner = distance = 0.0  # |a|^2, a.d and |d|^2 of the change d
    for piece in models.pieces(name):
        base, change = piece.base.double(), piece.finetuned[0].double().sub_(piece.base)
        square += float(base @ base)
        inner += float(base @ change)
        distance += float(change @ change)
    own, other = math.sqrt(square), math.sqrt(max(square + 2 * inner + distance, 0.0))
    if own == 0.0 or other == 0.0:
        return 0.0
    # |d|^2 = (|b| - |a|)^2 + |a| |b| chord^2, with the chord between unit vectors; |b| - |a| is computed without cancellation.
    chord = math.sqrt(max(distance - ((2 * inner + distance) / (own + other)) ** 2, 0.0) / (own * other))
    return 2 * math.atan2(chord, math.sqrt(max(4 - chord**2, 0.0)))
