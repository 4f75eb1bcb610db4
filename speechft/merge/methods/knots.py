"""KnOTS: TIES of low-rank task vectors in their shared directions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from speechft.merge.methods.matrices import changed_matrices, singular_directions, unchanged
from speechft.merge.methods.means import add_step
from speechft.merge.methods.ties import TiesMerge
from speechft.merge.models import Models, Piece

if TYPE_CHECKING:
    from torch import Tensor


class KnotsMerge(TiesMerge):
    """theta0 + alpha * U * TIES(S V_1^T, ..., S V_N^T) for each matrix, with [tau_1 ... tau_N] = U S [V_1^T ... V_N^T]; else TIES.

    LoRA adapters change few directions of a matrix, different ones in each model, so signs of individual weights mean little. Here,
    trimming and sign election use the shared directions U of all models. Works for any fine-tuned models.
    """

    name = "knots"
    reference = "Stoica et al., Model merging with SVD to tie the KnOTS, ICLR 2025, arXiv 2410.19735"
    summary = "theta0 + alpha * U * TIES(S V_i^T) for matrices, U S [V_1^T ... V_N^T] the task vectors side by side; TIES for other tensors"
    fewest = 2
    whole = True

    def target(self, piece: Piece) -> Tensor:
        """Map the merged coordinates back to weights."""
        if unchanged(piece):
            return piece.base
        aligned, directions = _align(piece)
        merged = super().target(aligned)
        if directions is None:
            return merged
        return add_step(piece.base, (directions @ merged.view(aligned.shape)).flatten().to(piece.base.dtype))

    def pieces(self, models: Models, name: str) -> Iterator[Piece]:
        """Yield the tensor in coordinates of the shared directions; tensors that no model changed are not ranked."""
        for piece in models.pieces(name, whole=True):
            if not unchanged(piece):
                yield _align(piece)[0]


def _align(piece: Piece) -> tuple[Piece, Tensor | None]:
    """Return task vectors in coordinates of their shared directions, as models of a zero base, and the directions, (outputs, rank).

    Non-matrix tensors are returned unchanged.
    """
    import torch

    changes = changed_matrices(piece)
    if changes is None:
        return piece, None
    directions, _, _ = singular_directions(torch.cat(changes, dim=1), piece.base)
    coordinates = [directions.T @ change for change in changes]
    zero = torch.zeros_like(coordinates[0])
    return Piece(piece.name, 0, zero.flatten(), [one.flatten() for one in coordinates], tuple(zero.shape)), directions
