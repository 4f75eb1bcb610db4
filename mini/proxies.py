"""Which quantity that needs no head ranks merges as their measured scores do? Models and cells of config/laboratory.yaml.

`python mini/proxies.py measure RESULTS ENCODER RUN` writes RESULTS/proxies/ENCODER/RUN.json, from the models of one run, such as asr_1.
`python mini/proxies.py show RESULTS` prints rank correlations and what is lost by following each quantity (docs/laboratory.md).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from laboratory import ALPHAS, ENCODERS, METHODS, PRETRAINED, SEEDS, TASKS, TUNED, TUNINGS, Laboratory, counts
from scipy.stats import spearmanr
from torch import Tensor

from speechft.analysis.connection import OwnTask
from speechft.analysis.deviation import weight_deviation
from speechft.analysis.similarity import feature_similarity
from speechft.corpora import load_split
from speechft.encoders import load_encoder
from speechft.errors import SpeechFTError
from speechft.evaluate.data.features import FrozenEncoder
from speechft.files.structured import read_json_mapping, write_json
from speechft.tables.choice import dev_errors
from speechft.tables.estimate import Estimate

CORPORA = {"asr": "sentences", "sid": "speakers", "er": "styles"}
"""Task of a fine-tuning -> corpus, as in config/laboratory.yaml."""
UTTERANCES = 48
"""Number of dev sentences, evenly spaced, on which features are compared."""
CPU = torch.device("cpu")
Quantities = dict[str, dict[str, float]]
Proxy = Callable[[Mapping[str, float]], float]
PATH = [PRETRAINED, *(f"linear@{alpha:.2f}" for alpha in ALPHAS), TUNED]
FIXED = PATH[1], PATH[2]
"""Models at fixed alphas: the paper's, and one half."""
ALL = [PRETRAINED, *(f"{method}@{alpha:.2f}" for method in METHODS for alpha in ALPHAS), TUNED]
PROXIES: dict[str, Proxy] = {
    "near theta0 in weights": lambda of: -of["deviation"],
    "near theta0 in features, CKA": lambda of: of["cka_start"],
    "near theta0 in features, cosine": lambda of: of["cosine_start"],
    "near theta' in features, CKA": lambda of: of["cka_end"],
    "near both in features, smaller CKA": lambda of: min(of["cka_start"], of["cka_end"]),
    "near theta' by Fisher information": lambda of: -of["fisher"],
    "loss of stage 1's head": lambda of: -of["loss"],
    "QbE on dev, which trains nothing": lambda of: -of["qbe"],
    "all tasks on dev (no proxy)": lambda of: of["dev"],
}
"""Quantity -> value for a model; larger values rank first."""


def measure(results: Path, encoder: str, run: str) -> Quantities:
    """Measure the quantities of all models of a run."""
    models, tuning = results / "models" / encoder, run.partition("_")[0]
    start_dir, end_dir = models / PRETRAINED, models / run / TUNED
    cuts = list(load_split(results / "corpora/sentences", "dev"))
    cuts = [cuts[place * len(cuts) // UTTERANCES] for place in range(UTTERANCES)]
    start, end = (FrozenEncoder(load_encoder(folder), CPU) for folder in (start_dir, end_dir))
    own = OwnTask(end_dir, results / "corpora" / CORPORA[tuning], "dev")
    tuned = {name: value.clone() for name, value in own.encoder.backbone.state_dict().items()}
    information = fisher(own)
    found = {}
    for name in ALL:
        folder = start_dir if name == PRETRAINED else models / run / name
        model = FrozenEncoder(load_encoder(folder), CPU)
        states = {end_name: feature_similarity(of, model, cuts)[0] for end_name, of in (("start", start), ("end", end))}
        weights = model.encoder.backbone.state_dict()
        own.encoder.backbone.load_state_dict(weights)
        found[name] = {
            "deviation": weight_deviation(start_dir, folder)[0].relative,
            **{f"cka_{key}": statistics.fmean(state.cka for state in of) for key, of in states.items()},
            "cosine_start": statistics.fmean(state.cosine for state in states["start"]),
            "fisher": sum(float((square * (weights[key] - tuned[key]).double() ** 2).sum()) for key, square in information.items()),
            "loss": own.measure(CPU)[0],
        }
    return found


def fisher(own: OwnTask) -> dict[str, Tensor]:
    """Compute the mean over dev utterances of the squared gradient of the task's loss at theta', in float64, per trainable parameter."""
    own.encoder.eval().requires_grad_(True)
    own.head.eval()
    squares: dict[str, Tensor] = {}
    for clip, target in zip(own.split.clips, own.split.targets, strict=True):
        own.encoder.zero_grad()
        output = own.encoder.encode([clip.load() * own.task.gain])
        logits, lengths = own.head(torch.stack(list(output.hidden_states))[-1], output.lengths)
        own.task.loss(logits, lengths, [target]).backward()
        for name, parameter in own.encoder.backbone.named_parameters():
            if parameter.grad is not None:
                squares[name] = squares.get(name, 0) + parameter.grad.double() ** 2 / len(own.split)
    return squares


def ranked(laboratory: Laboratory, run: str, measured: Mapping[str, Mapping[str, float]]) -> tuple[Quantities, dict[str, float]]:
    """Return each model's quantities with dev scores, and its test gain: the mean over tasks except QbE, which is itself a candidate."""
    tasks = [task for task in TASKS if counts(run, task)]
    start = {task: statistics.fmean(dev_errors(laboratory.cell(f"{PRETRAINED}/{task}"))) for task in tasks}
    quantities, gains = {}, {}
    for name in ALL:
        model = name if name == PRETRAINED else f"{run}/{name}"
        errors = {task: statistics.fmean(dev_errors(laboratory.cell(f"{model}/{task}"))) for task in tasks}
        dev = statistics.fmean(1 - errors[task] / start[task] for task in tasks if task != "qbe")
        quantities[name] = {**measured[name], "qbe": errors["qbe"], "dev": dev}
        gains[name] = statistics.fmean(laboratory.gain(run, name, task).value for task in tasks if task != "qbe")
    return quantities, gains


class Ranking:
    """Quantities and gains of the models of all runs, by encoder and fine-tuning."""

    def __init__(self, results: Path) -> None:
        self.conditions = []
        for encoder in ENCODERS:
            laboratory = Laboratory(encoder, results / "cells")
            for tuning in TUNINGS:
                files = {f"{tuning}_{seed}": results / f"proxies/{encoder}/{tuning}_{seed}.json" for seed in SEEDS}
                self.conditions.append([ranked(laboratory, run, read_json_mapping(file)) for run, file in files.items()])

    def mean(self, of_run: Callable[[Quantities, dict[str, float]], float]) -> Estimate:
        """Estimate the mean over runs, with its interval over seeds."""
        return Estimate(tuple(tuple(of_run(*run) / len(self.conditions) for run in seeds) for seeds in self.conditions))

    def correlation(self, proxy: Proxy, names: list[str]) -> Estimate:
        """Estimate Spearman's correlation of a proxy with the test gain; 0 in runs where one of them is constant."""

        def of_run(has: Quantities, gains: dict[str, float]) -> float:
            sides = [proxy(has[name]) for name in names], [gains[name] for name in names]
            return float(spearmanr(*sides).statistic) if all(len(set(side)) > 1 for side in sides) else 0.0

        return self.mean(of_run)

    def lost(self, proxy: Proxy, names: list[str], instead: str | None = None) -> Estimate:
        """Estimate the points of gain lost by the model that a proxy ranks first, compared with the best model or with always `instead`."""

        def of_run(has: Quantities, gains: dict[str, float]) -> float:
            first = max(names, key=lambda name: proxy(has[name]))
            return 100 * (max(gains[name] for name in names) if instead is None else gains[instead]) - 100 * gains[first]

        return self.mean(of_run)


def lines(results: Path) -> Iterator[str]:
    """Yield a table per set of models with a row per proxy, then the loss of always taking one model."""
    ranking = Ranking(results)
    for title, names in (("the linear merge at five alphas", PATH), ("all merges", ALL)):
        yield f"| {title}: quantity | rank correlation | lost | lost, minus always {FIXED[0]} | minus always {FIXED[1]} |"
        yield "|---|---:|---:|---:|---:|"
        for quantity, proxy in PROXIES.items():
            lost = [ranking.lost(proxy, names), *(ranking.lost(proxy, names, instead) for instead in FIXED)]
            yield f"| {quantity} | {text(ranking.correlation(proxy, names), 2)} | {' | '.join(text(one, 1) for one in lost)} |"
        for name in PATH:
            lost_always = ranking.mean(lambda _, gains, name=name, names=names: 100 * max(gains[one] for one in names) - 100 * gains[name])
            yield f"| always {name} | | {text(lost_always, 1)} | | |"
        yield ""


def text(estimate: Estimate, digits: int) -> str:
    """Format mean and half width of the 95 % interval, bold if it excludes 0."""
    shown = f"{estimate.mean:.{digits}f} ± {estimate.half_width or 0.0:.{digits}f}"
    return f"**{shown}**" if estimate.excludes_0 else shown


def main() -> None:
    """Measure the models of a run, or show the table of all runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one, table = verbs.add_parser("measure"), verbs.add_parser("show")
    for verb in (one, table):
        verb.add_argument("results", type=Path, help="results/laboratory")
    one.add_argument("encoder", choices=ENCODERS)
    one.add_argument("run", choices=[f"{tuning}_{seed}" for tuning in TUNINGS for seed in SEEDS])
    given = parser.parse_args()
    if given.verb == "show":
        print(*lines(given.results), sep="\n")
    else:
        write_json(given.results / f"proxies/{given.encoder}/{given.run}.json", measure(given.results, given.encoder, given.run))


if __name__ == "__main__":
    try:
        main()
    except SpeechFTError as error:
        sys.exit(f"error: {error}")
