"""Draw training curves from `training.csv` files, one panel per quantity."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from speechft.errors import TableError, missing_file
from speechft.files.outputs import check_figure
from speechft.files.text import read_text
from speechft.tables.canvas import LEGEND, MAX_LEGEND, MAX_PANELS_HEIGHT, dress, legend_note, panel_page, save_figure, short, title_of
from speechft.tables.metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#2166ac", "#b35806", "#1b7837", "#762a83", "#666666", "#c51b7d")
_PREFIXES = ("valid_", "dev_")
_TITLES = {
    "loss": "Loss",
    "loss_m": "Loss on masked frames (nats)",
    "accuracy": "Accuracy on masked frames",
    "accuracy_m": "Accuracy on masked frames",
    "lr": "Learning rate",
    "grad_norm": "Norm of the gradient",
    "code_perplexity": "Perplexity of the codes",
    "temperature": "Temperature of the quantizer",
}
_UPDATE = re.compile("[0-9]{1,15}")
_COLUMNS, _SIZE = 2, (4.0, 2.4)  # panels in a row, inches
_SMOOTH = ("lr", "temperature")  # drawn without running mean
_WINDOWS = 60  # the running mean covers one 60th of the updates

Points = tuple[list[int], list[float]]
"""Updates and values."""


@dataclass(frozen=True)
class TrainingCurves:
    """Curves of one training: quantity -> points, logged during training and at validations."""

    label: str
    training: Mapping[str, Points]
    validation: Mapping[str, Points]
    head_until: int | None
    """Last update of the head-only phase."""
    last_update: int


def draw_training_curves(logs: Sequence[str | Path], out_png: str | Path, title: str = "") -> None:
    """Draw the logs (`training.csv`) of pre-training or stage-1 runs to `out_png` and an `.svg` next to it.

    Thin lines are updates, thick lines running means, points validations; a dotted line marks the end of the head-only phase. Trainings
    may still be running. The default title names the trainings.

    Raises:
        TableError: a log is missing, or has no finished update.
    """
    check_figure(out_png, logs)
    save_figure(training_figure(logs, title), out_png)


def training_figure(logs: Sequence[str | Path], title: str = "") -> Callable[[], Figure]:
    """Read logs and return a function that draws their figure; see `draw_training_curves`."""
    paths = [Path(log) for log in logs]
    runs = [read_training_log(path, label) for path, label in zip(paths, distinct_names(paths), strict=True)]
    if not runs:
        raise TableError("No training log given. Name at least one training.csv.")
    return lambda: _draw(runs, title or ", ".join(run.label for run in runs))


def read_training_log(path: Path, label: str) -> TrainingCurves:
    """Read a `training.csv`, except an incomplete last row; errors as in `draw_training_curves`."""
    try:
        table = csv.DictReader(read_text(path).splitlines())
        whole = [row for row in table if None not in row and None not in row.values()]
        rows = [row for row in whole if _UPDATE.fullmatch(row["update"])]
    except FileNotFoundError:
        raise TableError(missing_file(path, "as a training log", "Name the training.csv of a pre-training or fine-tuning.")) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}: is not a training log ({error}). Name a training.csv.") from None
    except KeyError:
        rows = []
    if not rows:
        raise TableError(f"{path}: has no finished update. Name a training.csv with at least one.")
    import pandas as pd

    training: dict[str, Points] = {}
    validation: dict[str, Points] = {}
    log = pd.DataFrame(rows, index=[int(row["update"]) for row in rows])
    for column in rows[0]:
        values = pd.to_numeric(log[column], errors="coerce").astype(float)
        values = values[abs(values) < math.inf]
        if column != "update" and len(values):
            prefix = next((prefix for prefix in _PREFIXES if column.startswith(prefix)), "")
            (validation if prefix else training)[column.removeprefix(prefix)] = (values.index.tolist(), values.tolist())
    if not training and not validation:
        raise TableError(f"{path}: has no finite numbers to draw, because the training diverged at its beginning.")
    head = [int(row["update"]) for row in rows if row.get("phase") == "head"]
    # Dev scores are fractions in logs; figures use the units of tables.
    for key in validation.keys() & METRICS.keys():
        updates, values = validation[key]
        validation[key] = (updates, [METRICS[key].of_fraction(value) for value in values])
    return TrainingCurves(label, training, validation, max(head, default=None), int(rows[-1]["update"]))


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Shortest distinct names: the last parts of each path, without `training.csv`."""
    parts = [(path.parent if path.stem == "training" else path.parent / path.stem).absolute().parts for path in paths]
    for count in range(1, max((len(item) for item in parts), default=1) + 1):
        names = ["/".join(item[-count:]) for item in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(names, start=1)] if paths else []


def _draw(runs: Sequence[TrainingCurves], title: str) -> Figure:
    quantities = list(dict.fromkeys(name for run in runs for name in (*run.training, *run.validation)))
    fitting = int(MAX_PANELS_HEIGHT / _SIZE[1]) * _COLUMNS
    notes = ["Thin: every update; thick: running mean; points: validation."]
    if any(run.head_until is not None for run in runs):
        notes[0] += " Dotted: end of the phase that trains the head alone."
    if len(quantities) > fitting:
        notes.append(f"Only the first {fitting} of {len(quantities)} columns are drawn, which is what a figure has room for.")
        quantities = quantities[:fitting]
    notes.append(legend_note(len(runs)))
    figure, panels = panel_page(title, notes, len(quantities), across=_COLUMNS, size=_SIZE, margin=0.4, at_least=_COLUMNS)
    for panel, quantity in zip(panels, quantities, strict=True):
        for index, run in enumerate(runs):
            _draw_run(panel, run, quantity, COLORS[index % len(COLORS)])
        panel.set_xlim(0, max(run.last_update for run in runs))
        panel.set_xlabel("updates", fontsize=7.5)
        dress(panel, _TITLES.get(quantity) or _dev_title(quantity) or short(quantity))
    if len(runs) > 1:
        from matplotlib.lines import Line2D

        lines = [Line2D([], [], color=COLORS[index % len(COLORS)], label=short(run.label)) for index, run in enumerate(runs[:MAX_LEGEND])]
        panels[0].legend(handles=lines, **LEGEND)
    return figure


def _dev_title(quantity: str) -> str:
    """Title of a panel with a task's dev score, e.g. `PR PER % on dev`; empty for other quantities."""
    return f"{title_of(METRICS[quantity], 40)} on dev" if quantity in METRICS else ""


def _draw_run(panel: Axes, run: TrainingCurves, quantity: str, color: str) -> None:
    if quantity in run.training:
        updates, values = run.training[quantity]
        window = 1 if quantity in _SMOOTH else max(1, len(values) // _WINDOWS)
        panel.plot(updates, values, color=color, linewidth=0.5 if window > 1 else 1.4, alpha=0.3 if window > 1 else 1.0, zorder=1)
        if window > 1:
            import pandas as pd

            smooth = pd.Series(values).rolling(window, min_periods=1).mean()
            panel.plot(updates, smooth, color=color, linewidth=1.4, zorder=2)
    if quantity in run.validation:
        updates, values = run.validation[quantity]
        panel.plot(updates, values, color=color, marker="o", markersize=3.5, linewidth=0.8, linestyle="--", zorder=3)
    if run.head_until is not None:
        panel.axvline(run.head_until, color=color, linestyle=":", linewidth=1.0, zorder=1)
