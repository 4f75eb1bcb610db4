"""Weight deviation of an encoder, in total and by part. Both models are read piece by piece, so that memory is bounded."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

from speechft.analysis.result import Deviation
from speechft.errors import AnalysisError, CheckpointError, MergeError
from speechft.merge.checks import check_configs, check_tensors
from speechft.merge.directories import Model
from speechft.merge.models import Models
from speechft.merge.parts import part_of


def weight_deviation(start_dir: str | Path, model_dir: str | Path) -> tuple[Deviation, dict[str, Deviation]]:
    """Measure ||theta - theta0|| and its ratio to ||theta0||, for the whole encoder and each part, in float64.

    The positional convolution counts as stored, as two tensors (direction and length). Pre-training-only tensors are excluded.

    Args:
        start_dir: encoder directory of theta0.
        model_dir: encoder directory of theta.

    Raises:
        AnalysisError: the architectures differ, weights are NaN or Inf, or a file is missing or damaged.
    """
    start, model = (Model(Path(path), Path(path)) for path in (start_dir, model_dir))
    moved: defaultdict[str, float] = defaultdict(float)
    size: defaultdict[str, float] = defaultdict(float)
    try:
        check_configs(start.config(), {str(model_dir): model.config()}, str(start_dir))
        models = Models(start.reader(), [model.reader()])
        check_tensors(models.base, models.finetuned)
        for name in models.names:
            part = part_of(name)
            for piece in models.pieces(name):
                base = piece.base.double()
                size[part] += float(base.square().sum())
                moved[part] += float((piece.finetuned[0].double() - base).square().sum())
    except (MergeError, CheckpointError) as error:
        raise AnalysisError(f"{model_dir} cannot be compared with {start_dir}: {error}") from None
    parts = {part: _deviation(moved[part], size[part]) for part in size}
    return _deviation(math.fsum(moved.values()), math.fsum(size.values())), parts


def _deviation(moved: float, size: float) -> Deviation:
    return Deviation(norm=math.sqrt(moved), relative=math.sqrt(moved / size) if size else 0.0)
