"""Spherical linear interpolation: along the arc between two models instead of the chord."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from speechft.merge.methods.base import MergeMethod
from speechft.merge.models import Models, Piece

if TYPE_CHECKING:
    from torch import Tensor

_NEARLY_STRAIGHT = 1e-6
"""Angles (radians) below which arc and chord differ by less than float32 can tell (angle squared / 8)."""


class SlerpMerge(MergeMethod):
    """(sin((1 - alpha) w) * theta0 + sin(alpha w) * theta') / sin(w), w the angle between the two, for each tensor by itself.

    Between the ends the norm goes from one to the other without the dip of the chord. Fine-tuned models stand at small angles to their
    start, so that the difference to linear is small there. Tensors that are zero, parallel or opposite are interpolated linearly.
    """

    name = "slerp"
    reference = "Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985; for models: per tensor, as merging tools do"
    summary = "(sin((1 - alpha) w) * theta0 + sin(alpha w) * theta') / sin(w), w the angle between the tensors"
    most = 1

    def prepare(self, models: Models) -> None:
        """Measure the angle of each tensor."""
        self._angles = {name: _angle(models, name) for name in models.names}

    def target(self, piece: Piece) -> Tensor:
        """The fine-tuned model."""
        return piece.finetuned[0]

    def step(self, piece: Piece, target: Tensor, alpha: float) -> Tensor:
        """A part of the arc."""
        angle = self._angles[piece.name]
        if not _NEARLY_STRAIGHT < angle < math.pi - _NEARLY_STRAIGHT:
            return super().step(piece, target, alpha)
        near, far = (math.sin(share * angle) / math.sin(angle) for share in (1 - alpha, alpha))
        return piece.base.mul(near).add_(target, alpha=far)


def _angle(models: Models, name: str) -> float:
    """Angle in radians between a tensor of the base and of the fine-tuned model, exact for small angles too; 0 if one of them is zero."""
    square = inner = distance = 0.0  # |a|^2, a.d and |d|^2 of the change d
    for piece in models.pieces(name):
        base, change = piece.base.double(), piece.finetuned[0].double().sub_(piece.base)
        square += float(base @ base)
        inner += float(base @ change)
        distance += float(change @ change)
    own, other = math.sqrt(square), math.sqrt(max(square + 2 * inner + distance, 0.0))
    if own == 0.0 or other == 0.0:
        return 0.0
    # |d|^2 = (|b| - |a|)^2 + |a| |b| chord^2, chord that between the unit vectors; |b| - |a| without cancellation.
    chord = math.sqrt(max(distance - ((2 * inner + distance) / (own + other)) ** 2, 0.0) / (own * other))
    return 2 * math.atan2(chord, math.sqrt(max(4 - chord**2, 0.0)))
