"""Results in a notebook: a data frame of cells with intervals, and their curve over alpha. No experiment, no files are written."""

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
"""A folder of cells, at any depth, or cell files."""


def compare(cells: Cells) -> pd.DataFrame:
    """Put cells into a data frame: a row for each model, and for each metric its mean, half of its 95 % interval, and its seeds.

    The index is (encoder, finetuning, method), pre-trained models first; columns are (metric, "mean"), (metric, "half_width") and
    (metric, "seeds"). Values are in the units of tables: percent for accuracies and error rates. A cell that is not there is NaN, and so
    is an interval over a single seed of a cell without items. The interval covers seeds and test items, as that of tables does.

    Raises:
        TableError: no cells, a file that is none, or a cell without the name of its model (`model_name` of `evaluate`).
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
    """The outcome of every test item, to pair models and to test differences with statistics of your own.

    One line for each model, task, metric, seed and item: the columns are encoder, finetuning, method, task, metric, seed, id, speaker,
    fold, part and total. A metric is the sum of `part` over the sum of `total` (times 100 where it is percent): edits over words, 1 or 0
    over 1, seconds. Of speaker verification `id` is `ENROLMENT TEST`, `part` the cosine, and `total` 1 for trials of the same speaker.
    Cells that do not keep their items are left out.

    Raises:
        TableError: as `compare`.
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
    """Draw metrics against the merge weight alpha, from cells whose methods are called NAME@ALPHA, with 95 % bands.

    Alpha 0 is the pre-trained encoder and alpha 1 the fine-tuned one, where there are cells of them.

    Args:
        cells: a folder, or files.
        curve: ENCODER_FINETUNING_NAME; needed where the cells have several.

    Raises:
        TableError: as `compare`; no merge with two alphas; no such curve, or several and none named.
    """
    files = _files(cells)
    curves = folder_curves(files)
    recipe = one_curve(curves, curve)
    table = arrange_curve(recipe, read_cells(files), curve or next(iter(curves)))
    with common_style():
        return draw_curve(recipe, table)


def _files(cells: Cells) -> list[Path]:
    return cell_files(cells) if isinstance(cells, str | Path) else [Path(path) for path in cells]
