"""KnOTS: TIES between task vectors of low rank, in directions that they share."""

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

    Adapters (LoRA) change few directions of a matrix, each model others, so that signs of single weights say little. Here trimming and
    election take place along the directions U, which are those of all models together. Works for any fine-tuned models.
    """

    name = "knots"
    reference = "Stoica et al., Model merging with SVD to tie the KnOTS, ICLR 2025, arXiv 2410.19735"
    summary = "theta0 + alpha * U * TIES(S V_i^T) for matrices, U S [V_1^T ... V_N^T] the task vectors side by side; TIES for other tensors"
    fewest = 2
    whole = True

    def target(self, piece: Piece) -> Tensor:
        """The merged coordinates, back in weights."""
        if unchanged(piece):
            return piece.base
        aligned, directions = _align(piece)
        merged = super().target(aligned)
        if directions is None:
            return merged
        return add_step(piece.base, (directions @ merged.view(aligned.shape)).flatten().to(piece.base.dtype))

    def pieces(self, models: Models, name: str) -> Iterator[Piece]:
        """The tensor in coordinates of the shared directions. Tensors that no model changed are not ranked."""
        for piece in models.pieces(name, whole=True):
            if not unchanged(piece):
                yield _align(piece)[0]


def _align(piece: Piece) -> tuple[Piece, Tensor | None]:
    """Task vectors in coordinates of their shared directions, as models of a base that is zero; and the directions, (outputs, rank).

    Tensors that are no matrices stay as they are.
    """
    import torch

    changes = changed_matrices(piece)
    if changes is None:
        return piece, None
    directions, _, _ = singular_directions(torch.cat(changes, dim=1), piece.base)
    coordinates = [directions.T @ change for change in changes]
    zero = torch.zeros_like(coordinates[0])
    return Piece(piece.name, 0, zero.flatten(), [one.flatten() for one in coordinates], tuple(zero.shape)), directions
