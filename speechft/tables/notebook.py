"""Results in a notebook: cells with intervals as a data frame, test items, and the curve over alpha. Nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from speechft.tables.arrange import arrange
from speechft.tables.canvas import common_style
from speechft.tables.cells import read_cells
from speechft.tables.curve import arrange_curve, draw_curve
from speechft.tables.folder import cell_files, folder_curves, folder_table, one_curve

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Cells = str | Path | Sequence[str | Path]
"""A folder with cells at any depth, or cell files."""


def compare(cells: Cells) -> pd.DataFrame:
    """Put cells into a data frame with one row per model: mean, half of the 95 % interval, and number of seeds of each metric.

    The index is (encoder, finetuning, method), pre-trained models first; columns are (metric, "mean"), (metric, "half_width") and
    (metric, "seeds"). Values are in the units of tables: percent for accuracies and error rates. Intervals cover seeds and test items, as
    in tables. Missing cells are NaN, and so are intervals of cells with one seed and no items.

    Raises:
        TableError: no cells, a file that is not a cell, or a cell without a model name (`model_name` of `evaluate`).
    """
    import pandas as pd

    files = _files(cells)
    table = arrange(folder_table(files, ""), read_cells(files), None, "", scores=False)
    models = [(row.encoder, row.finetuning, row.method) for row in table.rows]
    values = {
        (column.metric.key, name): pd.Series([getattr(entry, name) for entry in column.entries], dtype=kind)
        for column in table.columns
        for name, kind in (("mean", float), ("half_width", float), ("seeds", int))
    }
    index = pd.MultiIndex.from_tuples(models, names=["encoder", "finetuning", "method"])
    frame: pd.DataFrame = pd.DataFrame(values).set_index(index)
    return frame


def items(cells: Cells) -> pd.DataFrame:
    """Put the result of every test item into a data frame, for statistics of your own.

    One row per model, task, metric, seed and item, with the columns encoder, finetuning, method, task, metric, seed, id, speaker, fold,
    part and total. A metric is the sum of `part` divided by the sum of `total` (times 100 for percent): edits over words, 1 or 0 over 1,
    seconds. For speaker verification, `id` is `ENROLMENT TEST`, `part` the cosine similarity, and `total` 1 for the same speaker. Cells
    without items are skipped.

    Raises:
        TableError: as in `compare`.
    """
    import pandas as pd

    rows = [
        (cell.model.encoder, cell.model.finetuning, cell.model.method, cell.task, metric, seed, *row)
        for cell in read_cells(_files(cells))
        if cell.items is not None
        for metric in cell.items.metrics
        for place, seed in enumerate(dict.fromkeys(chosen.seed for chosen in cell.selected))
        for row in cell.items.rows(metric, place)
    ]
    names = ["encoder", "finetuning", "method", "task", "metric", "seed", "id", "speaker", "fold", "part", "total"]
    frame: pd.DataFrame = pd.DataFrame(rows, columns=names)
    return frame


def plot_alpha(cells: Cells, curve: str | None = None) -> Figure:
    """Plot metrics against alpha with 95 % bands, from cells of methods NAME@ALPHA.

    Cells of the pre-trained and the fine-tuned encoder are alpha 0 and alpha 1.

    Args:
        cells: folder of cells, or cell files.
        curve: ENCODER_FINETUNING_NAME; required if the cells form several curves.

    Raises:
        TableError: as in `compare`; no merge with two alphas; unknown curve, or several and none named.
    """
    files = _files(cells)
    curves = folder_curves(files)
    recipe = one_curve(curves, curve)
    table = arrange_curve(recipe, read_cells(files), curve or next(iter(curves)))
    with common_style():
        return draw_curve(recipe, table)


def _files(cells: Cells) -> list[Path]:
    return cell_files(cells) if isinstance(cells, str | Path) else [Path(path) for path in cells]
