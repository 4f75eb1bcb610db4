"""Common parts of all figures: style, page with title, panels and notes, saving. The same numbers give the same bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

from speechft.files.atomic import atomic_file
from speechft.files.escapes import one_line
from speechft.files.output_kinds import PROGRAM
from speechft.files.outputs import check_figure
from speechft.tasks.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS_HEIGHT = 90.0
"""Maximum height of the panels in inches: 18 000 pixels, and 20 000 with the longest title and notes. A figure states what it leaves
out."""
MAX_LEGEND = 20
_HEAD_LINES, _FOOT_LINES = 6, 55


@dataclass(frozen=True)
class Look:
    """Marker and color of a method. Markers alone distinguish methods without color."""

    marker: str
    color: str
    filled: bool = True

    @property
    def style(self) -> dict[str, Any]:
        """Keyword arguments of matplotlib for a single point."""
        face = self.color if self.filled else "white"
        return {"marker": self.marker, "color": self.color, "markersize": 6.5, "markerfacecolor": face, "markeredgewidth": 1.4}


# A method looks the same in every figure; a merge at any alpha looks like the merge.
_LOOKS = {
    "pretrained": Look("o", "#000000", filled=False),
    "stable_ft": Look("s", "#b35806"),
    "finetuned": Look("s", "#b35806", filled=False),
    "speech_ft": Look("D", "#2166ac"),
    "baseline": Look("v", "#777777", filled=False),
}
_COLORS = ("#1b7837", "#762a83", "#8c510a", "#35978f", "#c51b7d", "#bf812d", "#4d4d4d", "#80cdc1", "#b2182b", "#5aae61")
_OTHERS = [Look(marker, color, filled) for filled in (True, False) for marker, color in zip("^vPX<>*ph8", _COLORS, strict=True)]
LEGEND: dict[str, Any] = {"loc": "best", "fontsize": 6.5, "framealpha": 0.85, "edgecolor": "none", "labelspacing": 0.3}
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib, so that figures are the same everywhere
    "font.size": 8,
    "svg.hashsalt": "speechft",
    "svg.fonttype": "none",  # keeps text searchable
    "text.parse_math": False,  # a $ in a name is not math
    "axes.spines.top": False,
    "axes.spines.right": False,
}

_COLUMN_WIDTH = 3.4
"""Width of a column in a paper, in inches."""
_paper: ContextVar[bool] = ContextVar("paper", default=False)
_SVG_METADATA: dict[str, Any] = {"Date": None, "Creator": PROGRAM}


def save_figure(draw: Callable[[], Figure], out_png: str | Path, **style: Any) -> None:
    """Draw in the common style plus `style`, and write `out_png` (200 dpi) and an `.svg` next to it."""
    check_figure(out_png)
    with common_style(**style):
        figure = draw()
        with atomic_file(out_png) as temporary:
            figure.savefig(temporary, format="png", dpi=200, metadata={"Software": PROGRAM})
        with atomic_file(Path(out_png).with_suffix(".svg")) as temporary:
            figure.savefig(temporary, format="svg", metadata=_SVG_METADATA)


@contextmanager
def style_of(name: Literal["screen", "paper"]) -> Iterator[None]:
    """Draw figures in this context for the screen, or for a paper: column width, without title and notes."""
    token = _paper.set(name == "paper")
    try:
        yield
    finally:
        _paper.reset(token)


def figure_svg(draw: Callable[[], Figure], **style: Any) -> bytes:
    """Draw as in `save_figure`, and return the SVG."""
    buffer = BytesIO()
    with common_style(**style):
        draw().savefig(buffer, format="svg", metadata=_SVG_METADATA)
    return buffer.getvalue()


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """Assign marker and color to each method (or name), determined by the name alone unless two would look alike."""
    chosen: dict[str, Look] = {}
    for name in sorted(set(methods)):
        base = name.partition("@")[0]
        place = crc32(base.encode()) % len(_OTHERS)
        free = [look for look in (*_OTHERS[place:], *_OTHERS[:place]) if look not in chosen.values()]
        chosen[name] = _LOOKS.get(base) or (free or _OTHERS)[0]
    return chosen


@contextmanager
def common_style(**style: Any) -> Iterator[None]:
    """Apply the common style plus `style`, ignoring the user's matplotlib settings."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE | style)  # type: ignore[arg-type]
        yield


def short(text: str, length: int = 80) -> str:
    """Put a name on one line, truncated to `length`."""
    line = one_line(text)
    return line if len(line) <= length else f"{line[: length - 3]}..."


def legend_note(count: int) -> str:
    """Note for a figure with more than MAX_LEGEND names; empty if the legend shows all."""
    return f"The legend has the first {MAX_LEGEND} of {count} names." if count > MAX_LEGEND else ""


def panels_across(count: int, most: int) -> int:
    """Number of panels per row that leaves the fewest places of the page empty."""
    if _paper.get():
        return min(count, 2)
    return min(range(min(count, most), max(1, most // 2), -1), key=lambda across: (-count % across, -across), default=1)


def rows_of_panels(count: int, across: int) -> int:
    """Number of rows for `count` panels, `across` per row."""
    return -(-count // min(across, count))


def panel_page(
    title: str,
    notes: Sequence[str],
    count: int,
    *,
    across: int,
    size: tuple[float, float],
    margin: float,
    at_least: int = 1,
    **options: Any,
) -> tuple[Figure, list[Axes]]:
    """Create a page with `count` panels of `size` (inches), up to `across` per row, `title` above and `notes` below.

    The page is wider than its panels by `margin` (inches), and wide enough for `at_least` panels. `options` are passed to matplotlib's
    `subplots`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if _paper.get():
        across, at_least, title, notes = min(across, 2 if size[0] < _COLUMN_WIDTH else 1), 1, "", ()
        size = ((_COLUMN_WIDTH - margin) / across, size[1])
    across, down = min(across, count), rows_of_panels(count, across)
    width = margin + size[0] * max(across, at_least)
    head = textwrap.wrap(one_line(title), int(width * 10), max_lines=_HEAD_LINES, placeholder=" ...")
    foot = [line for note in notes for line in textwrap.wrap(one_line(note), int(width * 16))]
    if len(foot) > _FOOT_LINES:
        foot = [*foot[: _FOOT_LINES - 1], f"... and {len(foot) - _FOOT_LINES + 1} more lines of notes, which the table has."]
    head_height, foot_height = 0.25 * bool(head) + 0.18 * len(head), 0.14 * len(foot) + 0.15 * bool(foot)
    height = size[1] * down + head_height + foot_height
    body = (0, foot_height / height, 1, 1 - (head_height + foot_height) / height)
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(rect=body, w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.05))
    FigureCanvasAgg(figure)
    figure.text(0.02, 1 - 0.12 / height, "\n".join(head), ha="left", va="top", fontsize=11, fontweight="bold")
    figure.text(0.02, 0.06 / height, "\n".join(foot), ha="left", va="bottom", fontsize=7, color="#333333")
    panels = list(figure.subplots(down, across, squeeze=False, **options).flat)
    for panel in panels[count:]:
        panel.set_visible(False)
    return figure, panels[:count]


def title_of(metric: Metric, width: int) -> str:
    """Wrap a metric's title to `width` characters, without the arrow: panels show the direction on an axis."""
    return "\n".join(textwrap.wrap(short(metric.title.removesuffix(f" {metric.arrow}")), width))


def dress(panel: Axes, title: str = "", *, grid: Literal["x", "y", "both"] = "y", pending: bool = False) -> None:
    """Set title, ticks and grid of a panel, and write `pending` into it if it has no data."""
    panel.set_title(title, fontsize=8.5, loc="left")
    panel.tick_params(labelsize=7)
    panel.grid(visible=True, axis=grid, color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
    if pending:
        panel.annotate("pending", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color="#777777", style="italic")
