"""TSV-M: largest singular directions of each task vector, orthogonalized against those of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechft.merge.methods.base import MergeMethod
from speechft.merge.methods.matrices import changed_matrices, singular_directions
from speechft.merge.methods.means import add_step, running_mean
from speechft.merge.models import Piece

if TYPE_CHECKING:
    from torch import Tensor


class TsvMMerge(MergeMethod):
    """theta0 + alpha * U' S V'^T for each matrix, theta0 + alpha * mean(theta_i - theta0) for all other tensors.

    U, S and V are the largest singular directions of the N task vectors side by side, a share 1 / N of each; U' and V' are the nearest
    matrices with orthonormal columns, so that tasks do not interfere. Directions in which a task changed nothing are left out.
    """

    name = "tsv_m"
    reference = "Gargiulo et al., Task singular vectors: reducing task interference in model merging, CVPR 2025, arXiv 2412.00081"
    summary = (
        "theta0 + alpha * U' S V'^T for matrices: the largest 1 / N of the singular directions of each of N task vectors, made orthogonal; "
        "mean of the task vectors for other tensors"
    )
    fewest = 2
    whole = True

    def target(self, piece: Piece) -> Tensor:
        """Add the merged directions to the base."""
        import torch

        changes = changed_matrices(piece)
        if changes is None:
            return running_mean(piece.finetuned)
        share = max(1, min(piece.shape) // len(changes))
        parts = [singular_directions(change, piece.base) for change in changes]
        left = torch.cat([left[:, :share] for left, _, _ in parts], dim=1)
        values = torch.cat([values[:share] for _, values, _ in parts])
        right = torch.cat([right[:share].T for _, _, right in parts], dim=1)
        step = _nearest_orthonormal(left) * values @ _nearest_orthonormal(right).T
        return add_step(piece.base, step.flatten().to(piece.base.dtype))


def _nearest_orthonormal(columns: Tensor) -> Tensor:
    """Return the matrix with orthonormal columns nearest to `columns` (m, k): P Q^T of its singular value decomposition (Procrustes)."""
    import torch

    left, _, right = torch.linalg.svd(columns, full_matrices=False)
    nearest: Tensor = left @ right
    return nearest
