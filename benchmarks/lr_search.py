"""Measure how often `lr_search: halving` chooses the learning rate of the grid, and how much it saves.

    python benchmarks/lr_search.py --tasks ks ic --encoders hubert_mini --seeds 3 --out docs/results/lr_search/choices.csv
    python benchmarks/lr_search.py --show docs/results/lr_search/choices.csv

Cells of config/mini.yaml with the steps of each task, all seven learning rates and other seeds, on pre-trained encoders: each once with
`lr_search: grid` and once with `halving`. A row is a choice: a task, an encoder, a seed and, in cross-validation, a fold. Seconds are CPU
time of training heads with one thread. Rows are added to the file after each pair of cells; pairs in the file are skipped.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from speechft.corpora import prepare_corpus
from speechft.evaluate import evaluate
from speechft.evaluate.probes import training
from speechft.experiment.schema import load_experiment
from speechft.recipes.evaluation import EvaluationRecipe, evaluation_recipe

ROOT = Path(__file__).parents[1]
RATES = EvaluationRecipe.model_fields["learning_rates"].default
TASKS = ("ks", "sid", "er", "ic", "pr", "pc", "sd", "asv", "asr", "sf")
COLUMNS = ("task", "encoder", "seed", "fold", "grid", "halving", "dev_grid", "dev_halving", "test_grid", "test_halving")
COSTS = ("steps_grid", "steps_halving", "seconds_grid", "seconds_halving")
"""Columns of costs: steps summed over learning rates, and the row's share of the cell's seconds."""


def trained_steps(cell: dict[str, Any], trials: Iterable[dict[str, Any]]) -> int:
    """Sum the steps of all learning rates until they were dropped."""
    return sum(trial.get("dropped") or cell["recipe"]["steps"] for trial in trials)


def of_choice(cell: dict[str, Any], chosen: dict[str, Any], key: str) -> tuple[float, float, float, int]:
    """Return learning rate, dev score, test score and steps of a choice."""
    trials = [trial for trial in cell["trials"] if (trial["seed"], trial["fold"]) == (chosen["seed"], chosen["fold"])]
    dev = next(trial["dev"][key] for trial in trials if trial["selected"])
    return chosen["learning_rate"], dev, chosen["test"][key], trained_steps(cell, trials)


def pair(task: str, encoder: str, seeds: list[int], work: Path, small: bool) -> list[dict[str, Any]]:
    """Run both searches on the same features."""
    experiment = load_experiment(ROOT / "config/mini.yaml")
    evaluation = experiment.tasks[task]
    manifests = work / evaluation.corpus
    if not manifests.exists():
        prepare_corpus(experiment.corpora[evaluation.corpus], manifests)
    changes = {**evaluation.changes, "learning_rates": RATES, "seeds": seeds, **({"steps": 20, "eval_every": 10} if small else {})}
    cells, seconds = {}, {}
    original = training.train_probes
    for search in ("grid", "halving"):

        def timed(*arguments: Any, search: str = search) -> Any:
            started = time.process_time()
            result = original(*arguments)
            seconds[search] = seconds.get(search, 0.0) + time.process_time() - started
            return result

        training.train_probes = timed
        recipe = evaluation_recipe(task, {**changes, "lr_search": search})
        model, out = ROOT / "mini/encoders" / encoder, work / f"{task}-{encoder}-{search}.json"
        cells[search] = evaluate(model, task, manifests, out, recipe, work_dir=work / f"{task}-{encoder}", keep_features=True)
    training.train_probes = original
    key, rows = cells["grid"]["described"][0]["key"], []
    for grid, halving in zip(cells["grid"]["selected"], cells["halving"]["selected"], strict=True):
        ours, theirs = of_choice(cells["halving"], halving, key), of_choice(cells["grid"], grid, key)
        values = [task, encoder, grid["seed"], grid["fold"] or "", theirs[0], ours[0], theirs[1], ours[1], theirs[2], ours[2]]
        costs = [theirs[3], ours[3], *(round(seconds[search] / len(cells[search]["selected"]), 2) for search in ("grid", "halving"))]
        rows.append(dict(zip((*COLUMNS, *COSTS), [*values, *costs], strict=True)))
    return rows


def read(path: Path) -> list[dict[str, str]]:
    """Read the rows so far."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write all rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, (*COLUMNS, *COSTS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def table(rows: list[dict[str, str]]) -> str:
    """Format a Markdown table with a row per task and one for all. Dev and test are mean points by which halving is better.

    "Two grids agree" counts pairs of seeds or folds of a cell for which the grid itself chooses the same rate.
    """
    heads = ["task", "choices", "as the grid", "dev not worse", "two grids agree", "dev", "test", "steps", "CPU time"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    tasks = [task for task in TASKS if any(row["task"] == task for row in rows)]
    for name, members in [*((task, [row for row in rows if row["task"] == task]) for task in tasks), ("all", rows)]:
        gains = {}
        for split in ("dev", "test"):
            points = [
                (float(row[f"{split}_halving"]) - float(row[f"{split}_grid"])) * (1 if higher(row["task"]) else -1) for row in members
            ]
            gains[split] = points
        same = sum(row["grid"] == row["halving"] for row in members)
        shares = [
            sum(float(row[f"{cost}_halving"]) for row in members) / sum(float(row[f"{cost}_grid"]) for row in members)
            for cost in ("steps", "seconds")
        ]
        means = [f"{sum(points) / len(points):+.2f}" for points in gains.values()]
        counts = f"{len(members)} | {same} ({100 * same / len(members):.0f} %) | {sum(point >= 0 for point in gains['dev'])}"
        cell_pairs = [two for two in combinations(members, 2) if all(two[0][key] == two[1][key] for key in ("task", "encoder"))]
        agreeing = sum(first["grid"] == second["grid"] for first, second in cell_pairs)
        counts += f" | {agreeing} of {len(cell_pairs)}"
        lines.append(f"| {name.upper() if name != 'all' else name} | {counts} | {' | '.join(means)} | {shares[0]:.2f} | {shares[1]:.2f} |")
    return "\n".join(lines)


def higher(task: str) -> bool:
    """Whether higher is better for a task's first metric."""
    return evaluation_recipe(task).metrics[0].higher_is_better


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--encoders", nargs="+", default=("hubert_mini", "wav2vec2_mini"))
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, starting with 101")
    parser.add_argument("--out", type=Path, default=Path("lr_search.csv"))
    parser.add_argument("--show", type=Path, help="print the table of a file without measuring")
    parser.add_argument("--small", action="store_true", help="twenty steps: numbers mean nothing")
    options = parser.parse_args()
    if options.show:
        print(table(read(options.show)))
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for task in options.tasks:
            for encoder in options.encoders:
                if not any((row["task"], row["encoder"]) == (task, encoder) for row in read(options.out)):
                    rows = pair(task, encoder, list(range(101, 101 + options.seeds)), Path(folder), options.small)
                    write(options.out, [*read(options.out), *rows])
    print(table(read(options.out)))


if __name__ == "__main__":
    main()
