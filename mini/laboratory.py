"""Which merge, at which alpha? `python mini/laboratory.py CELLS` answers docs/laboratory.md from the cells of config/laboratory.yaml.

A run is an encoder and one seed of a fine-tuning. In each run every merge method gets the alpha that dev chooses (`speechft.tables.choice`,
rule one_se) from three and 0. What a merge gains on a task is the share of theta0's errors on test that are gone. "Chosen": by all tasks.
"Left out": by all tasks but the one that is then tested. Differences between methods are paired: the same runs, the same test items.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from speechft.errors import SpeechFTError, TableError
from speechft.recipes.cell import Cell
from speechft.recipes.choice import ChoiceRecipe
from speechft.recipes.tables import CurvePoint
from speechft.tables.bootstrap import Resampled, resample
from speechft.tables.cells import cell_name, read_cells
from speechft.tables.choice import choose
from speechft.tables.estimate import Estimate, sum_of

ENCODERS = ("hubert_mini", "wav2vec2_mini")
TUNINGS, SEEDS = ("asr", "sid", "er"), (1, 2, 3)
TASKS = ("qbe", "ks", "ic", "sid", "er")
ALPHAS = (0.25, 0.5, 0.75)
METHODS = ("linear", "rising", "attention", "ties", "dare", "breadcrumbs")
PRETRAINED, TUNED, PAPER = "none/pretrained", "stable_ft", "linear@0.25"
LEVEL = 0.05


@dataclass(frozen=True)
class Gain:
    """Share of theta0's test errors that are removed, on all test items and on resampled ones."""

    value: float
    drawn: dict[str, Resampled]


class Laboratory:
    """The cells of one encoder."""

    def __init__(self, encoder: str, cells: Path) -> None:
        self.encoder = encoder
        self.files = sorted((cells / encoder).rglob("*.json"))

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """finetuning/method/task -> cell."""
        return {cell_name(cell).partition("/")[2]: cell for cell in read_cells(self.files)}

    def cell(self, name: str) -> Cell:
        """The cell finetuning/method/task."""
        if name not in self.cells:
            raise TableError(
                f"{self.encoder}/{name}: this cell is missing. Run `snakemake --configfile config/laboratory.yaml` to its end."
            )
        return self.cells[name]

    def gain(self, run: str, model: str, task: str) -> Gain:
        """Return the gain of a model of a run on a task."""
        if model == PRETRAINED:
            return Gain(0.0, {})
        start, here = self.cell(f"{PRETRAINED}/{task}"), self.cell(f"{run}/{model}/{task}")
        metric = here.described[0]
        drawn_here, drawn = resample(here, metric), {}
        for key, of_start in resample(start, metric).items():
            ratio = metric.error(drawn_here[key].values) / metric.error(of_start.values)  # type: ignore[arg-type]
            drawn[key] = Resampled(1 - ratio, of_start.units, of_start.drawn)
        return Gain(self.share(run, model, task), drawn)

    def share(self, run: str, model: str, task: str, head: int | None = None) -> float:
        """The share of theta0's errors that are gone: of its heads on average, or of one of them."""
        if model == PRETRAINED:
            return 0.0
        start, here = self.cell(f"{PRETRAINED}/{task}"), self.cell(f"{run}/{model}/{task}")
        metric = here.described[0]
        heads = start.values[metric.key]
        errors = metric.error(start.metrics[metric.key] if head is None else heads[head % len(heads)])
        return 1 - metric.error(here.metrics[metric.key]) / errors

    def choice(self, run: str, method: str) -> tuple[str, dict[str, str]]:
        """Return the model that dev chooses by all tasks, and for each task by the other tasks; theta0 is a candidate."""
        names = {0.0: PRETRAINED, **{alpha: f"{method}@{alpha:.2f}" for alpha in ALPHAS}}
        points = [self._point(run, alpha, name) for alpha, name in names.items()]
        wanted = {f"{point.finetuning}/{point.method}" for point in points}
        files = [path for path in self.files if "/".join(path.parts[-3:-1]) in wanted]
        tasks = [task for task in TASKS if counts(run, task)]
        found = choose(ChoiceRecipe(points=tuple(points), tasks=tuple(tasks)), files)
        return names[found.alpha], {task: names[alpha] for task, alpha in found.without.items()}

    def _point(self, run: str, alpha: float, name: str) -> CurvePoint:
        finetuning, _, method = (name if "/" in name else f"{run}/{name}").partition("/")
        return CurvePoint(encoder=self.encoder, finetuning=finetuning, method=method, label=name, alpha=alpha)

    def models(self, run: str, row: str) -> dict[str, str]:
        """Return the model of a table row for each task that counts: a fixed alpha, `METHOD chosen` or `METHOD left out`."""
        tasks = [task for task in TASKS if counts(run, task)]
        method, _, how = row.partition(" ")
        if not how:
            return dict.fromkeys(tasks, row)
        by_all, by_others = self.choice(run, method)
        return by_others if how == "left out" else dict.fromkeys(tasks, by_all)

    def score(self, row: str) -> Estimate:
        """Estimate the mean gain over tasks, seeds and fine-tunings; each fine-tuning has a sample of seeds, each test set its items."""
        samples, items = [], dict[str, list[tuple[float, Resampled | None]]]()
        for tuning in TUNINGS:
            of_seeds = []
            for seed in SEEDS:
                run = f"{tuning}_{seed}"
                gains = {task: self.gain(run, model, task) for task, model in self.models(run, row).items()}
                of_seeds.append(statistics.fmean(gain.value for gain in gains.values()) / len(TUNINGS))
                for gain in gains.values():
                    for key, drawn in gain.drawn.items():
                        items.setdefault(key, []).append((1 / len(gains) / len(SEEDS) / len(TUNINGS), drawn))
            samples.append(tuple(of_seeds))
        return Estimate(tuple(samples), {key: sum_of(*terms) for key, terms in items.items()})

    def by_head(self, row: str) -> tuple[float, ...]:
        """How the score differs from its mean if one of theta0's heads is the only one; QbE has no head."""
        number = max(len(values) for task in TASKS for values in self.cell(f"{PRETRAINED}/{task}").values.values())
        models = {run: self.models(run, row) for run in (f"{tuning}_{seed}" for tuning in TUNINGS for seed in SEEDS)}
        scores = [
            statistics.fmean(
                statistics.fmean(self.share(run, model, task, head) for task, model in of_run.items()) for run, of_run in models.items()
            )
            for head in range(number)
        ]
        return tuple(score - statistics.fmean(scores) for score in scores)

    def difference(self, first: str, second: str) -> Estimate:
        """Estimate the difference between two rows, paired by run and test item; against theta0, add the variance over its heads."""
        one, two = self.score(first), self.score(second)
        samples = tuple(tuple(a - b for a, b in zip(*pair, strict=True)) for pair in zip(one.samples, two.samples, strict=True))
        if second == PRETRAINED:
            samples = (*samples, self.by_head(first))
        keys = sorted(one.items.keys() | two.items.keys())
        return Estimate(samples, {key: sum_of((1.0, one.items.get(key)), (-1.0, two.items.get(key))) for key in keys})


def counts(run: str, task: str) -> bool:
    """Whether a task counts for a run: ER does not after fine-tuning on ER, whose training audio includes ER's test recordings."""
    return not (run.startswith("er") and task == "er")


def holm(values: list[float]) -> list[float]:
    """Correct p-values for multiple tests (Holm 1979)."""
    order = sorted(range(len(values)), key=values.__getitem__)
    corrected, largest = [1.0] * len(values), 0.0
    for place, number in enumerate(order):
        largest = max(largest, (len(values) - place) * values[number])
        corrected[number] = min(1.0, largest)
    return corrected


PRIMARY = [("linear left out", other) for other in (PRETRAINED, TUNED, PAPER)]
SECONDARY = [(f"{method} left out", "linear left out") for method in METHODS[1:]]


def score_lines(laboratories: list[Laboratory]) -> Iterator[str]:
    """Yield a table of scores with a row per fixed model and per way to choose."""
    yield f"| row | {' | '.join(of.encoder for of in laboratories)} |"
    yield f"|---|{'---:|' * len(laboratories)}"
    for row in (PRETRAINED, TUNED, PAPER, *(f"{method} {how}" for method in METHODS for how in ("chosen", "left out"))):
        scores = [of.score(row) for of in laboratories]
        yield f"| {row} | {' | '.join(f'{100 * score.mean:+.2f} ± {100 * (score.half_width or 0.0):.2f}' for score in scores)} |"


def lines(laboratories: list[Laboratory], comparisons: list[tuple[str, str]]) -> Iterator[str]:
    """Yield a table of differences, corrected jointly over encoders."""
    found = [(of.encoder, *pair, of.difference(*pair)) for of in laboratories for pair in comparisons]
    yield "| encoder | first | second | difference, points of gain | p | p, Holm |"
    yield "|---|---|---|---:|---:|---:|"
    values = [1.0 if difference.p_value is None else difference.p_value for *_, difference in found]
    for (encoder, first, second, difference), p, corrected in zip(found, values, holm(values), strict=True):
        shown = f"{100 * difference.mean:+.2f} ± {100 * (difference.half_width or 0.0):.2f}"
        yield f"| {encoder} | {first} | {second} | {f'**{shown}**' if corrected < LEVEL else shown} | {p:.3g} | {corrected:.3g} |"


def main() -> None:
    """Print scores, and primary and secondary comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path, help="results/laboratory/cells")
    laboratories = [Laboratory(encoder, parser.parse_args().cells) for encoder in ENCODERS]
    tables = [list(score_lines(laboratories)), *(list(lines(laboratories, comparisons)) for comparisons in (PRIMARY, SECONDARY))]
    print("\n\n".join("\n".join(table) for table in tables))


if __name__ == "__main__":
    try:
        main()
    except SpeechFTError as error:
        sys.exit(f"error: {error}")
