"""Result, table and figure of a connection: loss and error of a fine-tuning's own task between two encoders. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from speechft.errors import AnalysisError
from speechft.files.atomic import write_text
from speechft.files.escapes import markdown_escape
from speechft.files.output_kinds import CONNECTION_TABLE
from speechft.files.outputs import check_shown
from speechft.recipes.cell import ModelName
from speechft.recipes.tables import ConnectionRecipe
from speechft.recipes.values import Positive, Strict, load_result
from speechft.tables.canvas import dress, panel_page, save_figure
from speechft.tables.render import PENDING, csv_file, markdown_page
from speechft.tasks.metric import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Finite = Annotated[float, Field(allow_inf_nan=False)]


class ConnectionPoint(Strict):
    """Loss and scores at one alpha."""

    alpha: float
    loss: Finite = Field(description="Mean loss over the utterances of the split.")
    scores: dict[str, Finite] = Field(description="Metric -> value in the units of tables.")


class Connection(Strict):
    """Output of `speechft connect`."""

    schema_version: Literal[1] = Field(1, alias="schema")
    task: str
    metrics: tuple[Metric, ...] = Field(min_length=1, description="Metrics of the task; the first gives the error barrier.")
    split: Literal["dev", "test"]
    utterances: Positive
    head: Literal["end", "interpolated"] = Field(description="Whether the end's head is used everywhere, or both heads are interpolated.")
    start: ModelName = Field(description="Model at alpha 0.")
    end: ModelName = Field(description="Model at alpha 1.")
    points: tuple[ConnectionPoint, ...] = Field(min_length=2)
    loss_barrier: Finite = Field(description="Maximum rise of the loss above the straight line between both ends; 0 if there is none.")
    error_barrier: Finite = Field(description="Maximum rise of the first metric's errors above the straight line, in its unit.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        alphas = [point.alpha for point in self.points]
        if alphas != sorted(set(alphas)) or (alphas[0], alphas[-1]) != (0, 1):
            raise ValueError("points: alphas ascend from 0 to 1")
        if any({metric.key for metric in self.metrics} != set(point.scores) for point in self.points):
            raise ValueError("points: each needs a score for every metric")
        for metric in self.metrics:
            if bad := [value for point in self.points if not metric.can_be(value := point.scores[metric.key])]:
                raise ValueError(f"points: {metric.key} is {bad[0]:g}; it can be {metric.range}")
        for name, value in zip(("loss_barrier", "error_barrier"), barriers(self.points, self.metrics[0]), strict=True):
            if not math.isclose(getattr(self, name), value, rel_tol=1e-6, abs_tol=1e-9):
                raise ValueError(f"{name}: is {getattr(self, name):g}, but the points give {value:g}")
        return self


def barriers(points: Sequence[ConnectionPoint], metric: Metric) -> tuple[float, float]:
    """The barriers of the loss, and of the errors by `metric`."""
    sign = -1 if metric.higher_is_better else 1
    return (
        barrier([(point.alpha, point.loss) for point in points]),
        barrier([(point.alpha, sign * point.scores[metric.key]) for point in points]),
    )


def barrier(line: Sequence[tuple[float, float]]) -> float:
    """Maximum rise of values above the straight line between the first and last of the (alpha, value) pairs; at least 0."""
    (_, first), (_, last) = line[0], line[-1]
    return max(value - ((1 - alpha) * first + alpha * last) for alpha, value in line)


def read_connection(path: str | Path, recipe: ConnectionRecipe) -> Connection | None:
    """Read an output of `speechft connect`; None if it is missing, or has other models, alphas or split than the recipe.

    Raises:
        AnalysisError: the file is not an output of `speechft connect`.
    """
    if not Path(path).is_file():
        return None
    refusal = "This is not an output of `speechft connect`. Name one, or run it again."
    connection = load_result(Connection, path, AnalysisError, refusal)
    measured = [(name.encoder, name.finetuning, name.method) for name in (connection.start, connection.end)]
    asked = [(row.encoder, row.finetuning, row.method) for row in (recipe.start, recipe.end)]
    alphas = tuple(point.alpha for point in connection.points)
    return connection if (measured, alphas, connection.split) == (asked, recipe.alphas, recipe.split) else None


def build_connection(
    recipe: ConnectionRecipe, result: str | Path, out_dir: str | Path, figures_dir: str | Path | None, name: str
) -> Connection | None:
    """Write `{name}.csv` and `.md` into `out_dir`, `{name}.png` and `.svg` into `figures_dir` if given, each atomically.

    `result` is the output of `speechft connect`. If it is missing, or has other models, alphas or split than the recipe, everything is
    pending.

    Raises:
        AnalysisError: `result` is not an output of `speechft connect`.
        OutputError: an output file exists and is not of this kind.
    """
    check_shown(out_dir, figures_dir, name, (".md",), CONNECTION_TABLE, [result])
    connection = read_connection(result, recipe)
    grid = [list(map(markdown_escape, line)) for line in connection_grid(recipe, connection)]
    commands = () if connection else recipe.commands
    write_text(Path(out_dir) / f"{name}.csv", _csv(recipe, connection))
    write_text(Path(out_dir) / f"{name}.md", markdown_page(recipe.title, grid, 0, connection_notes(recipe, connection), commands))
    if figures_dir is not None:
        save_figure(lambda: draw_connection(recipe, connection), Path(figures_dir) / f"{name}.png")
    return connection


def connection_grid(recipe: ConnectionRecipe, connection: Connection | None) -> list[list[str]]:
    """Format all lines of the table, the header first."""
    if connection is None:
        return [["alpha", "loss ↓"], *([f"{alpha:g}", PENDING] for alpha in recipe.alphas)]
    numbers = [
        [
            f"{point.alpha:g}",
            f"{point.loss:.4f}" if point.loss < 1e6 else f"{point.loss:.4g}",
            *(metric.shown(point.scores[metric.key]) for metric in connection.metrics),
        ]
        for point in connection.points
    ]
    return [["alpha", "loss ↓", *(metric.title for metric in connection.metrics)], *numbers]


def connection_notes(recipe: ConnectionRecipe, connection: Connection | None) -> list[str]:
    """Notes on the numbers, the barriers first."""
    notes = [recipe.note] if recipe.note else []
    if connection is None:
        return [*notes, "Pending."]
    metric = connection.metrics[0]
    barrier_of_errors = f"{metric.shown(connection.error_barrier)} (errors of {metric.name})"
    heads = (
        "both heads, interpolated as the encoders are" if connection.head == "interpolated" else f"that of {recipe.end.label} everywhere"
    )
    return [
        f"Loss barrier {connection.loss_barrier:.4g}, error barrier {barrier_of_errors}: how far loss and errors rise above the straight "
        "line between both ends.",
        f"From {recipe.start.label} (alpha 0) to {recipe.end.label} (alpha 1); head: {heads}.",
        f"Task {connection.task} on {connection.split}, {connection.utterances} utterances; nothing is trained.",
        *notes,
    ]


_COLUMNS = ("alpha", "loss", "start", "end", "task", "split", "head", "loss_barrier", "error_barrier")


def _csv(recipe: ConnectionRecipe, connection: Connection | None) -> str:
    """One line per alpha, in full precision; without numbers while pending."""
    names = {"start": recipe.start.label, "end": recipe.end.label}
    if connection is None:
        return csv_file([{"alpha": alpha, **names} for alpha in recipe.alphas], list(_COLUMNS))
    line: dict[str, Any] = {**names, **{key: getattr(connection, key) for key in _COLUMNS[4:]}}
    records = [{**point.scores, **line, "alpha": point.alpha, "loss": point.loss} for point in connection.points]
    return csv_file(records, [*_COLUMNS, *(metric.key for metric in connection.metrics if metric.key not in _COLUMNS)])


def draw_connection(recipe: ConnectionRecipe, connection: Connection | None) -> Figure:
    """Draw loss and first metric along the line, with straight lines between the ends."""
    notes = [*connection_notes(recipe, connection), *(["Dashed: the straight line between both ends."] if connection else [])]
    figure, panels = panel_page(recipe.title, notes, 2, across=2, size=(4.2, 3.0), margin=0)
    points = connection.points if connection else ()
    metric = connection.metrics[0] if connection else None
    lines = [("loss ↓", [point.loss for point in points])]
    lines.append((metric.title, [point.scores[metric.key] for point in points]) if metric else ("error", []))
    for panel, (name, values) in zip(panels, lines, strict=True):
        if values:
            panel.plot([point.alpha for point in points], values, marker="o", markersize=4, linewidth=1.4)
            panel.plot([0, 1], [values[0], values[-1]], linestyle="--", linewidth=0.9, color="0.5")
        panel.set_xlabel("alpha", fontsize=7.5)
        dress(panel, name, grid="both", pending=not values)
    return figure
