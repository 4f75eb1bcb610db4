"""Tables and figures from result cells, and the SUPERB scores. Works without torch."""

from speechft.tables.build import build_table
from speechft.tables.cells import read_cells
from speechft.tables.curve import build_curve
from speechft.tables.differences import build_differences
from speechft.tables.experiment import build_experiment
from speechft.tables.figure import build_figure
from speechft.tables.published import load_published
from speechft.tables.scores import partial_score, superb_full_score, superb_score

__all__ = [
    "build_curve",
    "build_differences",
    "build_experiment",
    "build_figure",
    "build_table",
    "load_published",
    "partial_score",
    "read_cells",
    "superb_full_score",
    "superb_score",
]
