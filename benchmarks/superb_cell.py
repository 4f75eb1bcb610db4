"""Compare SUPERB cells with s3prl 0.4.18: same recordings, encoder, steps, batches and learning rates.

    bash benchmarks/make_s3prl_env.sh          # once
    python benchmarks/superb_cell.py           # prints Markdown

ER is cross-validated over 5 folds at 4 learning rates: 20 runs of s3prl's downstream runner, one `speechft evaluate`. PR has 4 learning
rates: 4 runs and a test of the best one, one `speechft evaluate`. Measured are CPU time (user and system) and wall time of whole processes
with their children. Everything runs sequentially.
"""

import argparse
import itertools
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cost import epochs, recipe_of
from machine import describe
from peer import add_peer_options, check_peer, hubert_base
from superb_cell_corpora import FOLDS, Emotions, Phones, make_emotions, make_phones, read_table

from speechft.evaluate.estimate import evaluations

HERE = Path(__file__).parent
TABLE = HERE.parent / "mini/speech/sentences.csv"
"""Default table of recordings: columns path, speaker, text, split."""
LEARNING_RATES = (1e-1, 1e-2, 1e-3, 1e-4)
SEED = 1337


@dataclass(frozen=True)
class Cost:
    """Seconds of one or several processes with their children."""

    cpu: float = 0.0
    wall: float = 0.0

    def __add__(self, other: Self) -> "Cost":
        return Cost(self.cpu + other.cpu, self.wall + other.wall)


@dataclass
class Reference:
    """Work and cost of all s3prl runs for a cell."""

    total: Cost = field(default_factory=Cost)
    reports: list[dict[str, Any]] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    score: float = math.nan

    def add(self, report: dict[str, Any], cost: Cost) -> None:
        self.reports.append(report)
        self.costs.append(cost)
        self.total += cost

    @property
    def utterances(self) -> int:
        """Number of encoded utterances, counting repetitions."""
        return sum(sum(report["batches"]) + sum(report["scored"].values()) for report in self.reports)


class Bench:
    """Both sides on one encoder."""

    def __init__(self, folder: Path, python: Path, threads: int, small: bool) -> None:
        from speechft.encoders import export_checkpoint

        self.folder, self.python, self.threads = folder, python, threads
        self.model = hubert_base(folder / "encoder", small=small)
        self.checkpoint = folder / "encoder.pt"
        export_checkpoint(self.model, self.checkpoint, format="s3prl")
        self.jobs = 0

    def measure(self, command: list[str]) -> Cost:
        """Run a process to its end and return its cost."""
        log = self.folder / f"{self.jobs}.log"
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "CUDA_VISIBLE_DEVICES": ""}
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        with log.open("w") as file:
            status = subprocess.run(command, stdout=file, stderr=file, env=environment, cwd=HERE.parent).returncode
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        if status:
            raise SystemExit(f"{' '.join(command)} ended with status {status}:\n{log.read_text()[-3000:]}")
        return Cost(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)

    def speechft(self, task: str, manifests: Path, recipe: dict[str, Any]) -> tuple[dict[str, Any], Cost]:
        """Run `speechft evaluate`, and return the cell and its cost."""
        from speechft.recipes.evaluation import evaluation_recipe

        self.jobs += 1
        job = self.folder / f"job{self.jobs}"
        job.mkdir()
        full = evaluation_recipe(task, {**recipe, "protocol": "quick", "learning_rates": LEARNING_RATES, "seeds": (SEED,)})
        (job / "recipe.json").write_text(full.model_dump_json())
        command = [sys.executable, "-m", "speechft.cli", "evaluate", str(self.model), task, str(manifests), "--out", str(job / "cell.json")]
        cost = self.measure([*command, "--recipe", str(job / "recipe.json"), "--threads", str(self.threads)])
        cell: dict[str, Any] = json.loads((job / "cell.json").read_text())
        return cell, cost

    def s3prl(self, downstream: str, config: dict[str, Any], checkpoint: Path | None = None) -> tuple[dict[str, Any], Cost, Path]:
        """Run s3prl, a training or the test of a checkpoint, and return report, cost and folder."""
        self.jobs += 1
        job = self.folder / f"job{self.jobs}"
        job.mkdir()
        upstream = {"upstream": "hubert_local", "upstream_ckpt": str(self.checkpoint), "upstream_model_config": None}
        features = {"upstream_feature_selection": "hidden_states", "upstream_layer_selection": None, "upstream_feature_normalize": False}
        arguments = {
            **{**upstream, **features, "upstream_refresh": False, "upstream_trainable": False, "device": "cpu", "seed": SEED},
            **{"downstream": downstream, "downstream_variant": None, "expdir": str(job), "evaluate_split": "test"},
            **{"init_ckpt": str(checkpoint) if checkpoint else None, "push_to_hf_hub": False},
        }
        mode = "evaluate" if checkpoint else "train"
        (job / "job.json").write_text(json.dumps({"mode": mode, "threads": self.threads, "arguments": arguments, "config": config}))
        worker = [str(self.python), str(HERE / "superb_cell_worker.py"), str(job / "job.json"), str(job / "report.json")]
        cost = self.measure(worker)
        return json.loads((job / "report.json").read_text()), cost, job


def runner_config(task: str, steps: int, every: int, learning_rate: float, splits: list[str]) -> dict[str, Any]:
    """Return SUPERB's runner configuration for `task` with another number of steps."""
    from speechft.tasks.catalog import TASKS

    published = TASKS[task].recipe
    runner = {"total_steps": steps, "eval_step": every, "log_step": steps, "save_step": steps, "max_keep": 1, "eval_dataloaders": splits}
    runner |= {"gradient_clipping": published["clip_norm"], "gradient_accumulate_steps": published["accumulate"]}
    return {"runner": runner, "optimizer": {"name": "TorchOptim", "torch_optim_name": published["optimizer"], "lr": learning_rate}}


def reference_emotions(bench: Bench, corpus: Emotions, steps: int, every: int) -> Reference:
    """Run each fold and learning rate; the score is the mean over folds of the test accuracy at the best dev accuracy."""
    reference, chosen = Reference(), []
    for fold in range(1, FOLDS + 1):
        best = (-1.0, 0.0)
        for rate in LEARNING_RATES:
            data = {"root": str(corpus.root), "meta_data": str(corpus.meta), "test_fold": f"fold{fold}", "pre_load": True}
            data |= {"train_batch_size": 4, "eval_batch_size": 4, "num_workers": 0, "valid_ratio": 0.2}
            model = {"projector_dim": 256, "select": "UtteranceLevel", "UtteranceLevel": {"pooling": "MeanPooling"}}
            config = runner_config("er", steps, every, rate, ["dev", "test"]) | {"downstream_expert": {"datarc": data, "modelrc": model}}
            report, cost, _ = bench.s3prl("emotion", config)
            reference.add(report, cost)
            dev, test = (dict(scores(report, f"{split}-acc")) for split in ("dev", "test"))
            step = max(dev, key=lambda step: (dev[step], -step))
            best = max(best, (dev[step], test[step]), key=lambda pair: pair[0])
        chosen.append(best[1])
    reference.score = 100 * statistics.mean(chosen)
    return reference


def reference_phones(bench: Bench, corpus: Phones, steps: int, every: int) -> Reference:
    """Run each learning rate, and test the one with the lowest dev error rate."""
    reference, best = Reference(), (math.inf, Path(), {})
    for rate in LEARNING_RATES:
        data: dict[str, Any] = {"name": "LibriPhone", "bucketing": True, "batch_size": 16, "num_workers": 0}
        data |= {split: [str(path)] for split, path in corpus.splits.items()}
        expert = {
            "corpus": data,
            "text": {"mode": "word", "vocab_file": str(corpus.vocabulary)},
            "metric": ["per"],
            "save_best_on": ["dev"],
        }
        expert |= {"model": {"project_dim": 256, "zero_infinity": True, "select": "FrameLevel"}, "metric_higher_better": False}
        config = runner_config("pr", steps, every, rate, ["dev"]) | {"downstream_expert": expert}
        report, cost, job = bench.s3prl("ctc", config)
        reference.add(report, cost)
        dev = min(value for _, value in scores(report, "dev-per"))
        best = min(best, (dev, job / "dev-best.ckpt", config), key=lambda entry: entry[0])
    report, cost, _ = bench.s3prl("ctc", best[2], best[1])
    reference.add(report, cost)
    reference.score = 100 * scores(report, "test-per")[-1][1]
    return reference


def scores(report: dict[str, Any], name: str) -> list[tuple[int, float]]:
    """Return (step, value) of the logged scalars whose name ends with `name`."""
    return [(step, value) for logged, step, value in report["scalars"] if logged.endswith(name)]


def check_same_work(task: str, reference: Reference, cell: dict[str, Any], train: int, scored: dict[str, int]) -> None:
    """Check that both sides took the same steps with equal batch sizes and evaluated equally often.

    `train`: training utterances; `scored`: utterances that each evaluation of s3prl encodes, by split.
    """
    from torch import Generator

    from speechft.evaluate.data.sampling import shuffled

    recipe = cell["recipe"]
    batches = recipe["steps"] * recipe["accumulate"]
    times = math.ceil(recipe["steps"] / recipe["eval_every"])
    stream = shuffled(train, recipe["batch_size"], Generator()) if task == "er" else itertools.repeat(range(recipe["batch_size"]))
    expected = {
        "steps": recipe["steps"],
        "batches": [len(batch) for batch in itertools.islice(stream, batches)],
        "scored": {split: times * size for split, size in scored.items()},
        "evaluations": dict.fromkeys(scored, times),
    }
    for report in reference.reports[: len(LEARNING_RATES) * (FOLDS if task == "er" else 1)]:
        for key, value in expected.items():
            if report[key] != value:
                raise SystemExit(f"{task}: s3prl's {key} are {report[key]}, ours {value}")


def check_passes(cell: dict[str, Any], expected: int, what: str) -> None:
    if cell["counts"]["encoder_passes"] != expected:
        raise SystemExit(f"{what}: {cell['counts']['encoder_passes']} utterances were encoded by speechft, expected {expected}")


def row(name: str, reference_cpu: float, cell: dict[str, Any], cost: Cost, reference: Reference | None) -> str:
    """Format a row of the table; without `reference`, s3prl's CPU time is computed."""
    theirs = ["-", "-", "-"]
    if reference is not None:
        theirs = [f"{reference.total.wall:.0f} s", str(reference.utterances), f"{reference.score:.1f}"]
    ours = [f"{cost.wall:.1f} s", str(cell["counts"]["encoder_passes"]), f"{next(iter(cell['metrics'].values())):.1f}"]
    spent = f"{reference_cpu:,.0f} s{'' if reference else ', computed'} | {cost.cpu:.1f} s | **{reference_cpu / cost.cpu:.3g}**"
    return f"| {name} | {spent} | {' | '.join(f'{first} / {second}' for first, second in zip(theirs, ours, strict=True))} |"


def emotion_rows(bench: Bench, corpus: Emotions, steps: int) -> tuple[list[str], str]:
    """Return rows of the measured cell and of one with the recipe's epochs (ours measured, s3prl's computed), and a note on the latter."""
    reference = reference_emotions(bench, corpus, steps, steps)
    cell, cost = bench.speechft("er", corpus.manifests, {"steps": steps, "eval_every": steps})
    test = corpus.clips // FOLDS
    check_same_work("er", reference, cell, corpus.train, {"dev": corpus.scored - test, "test": test})
    check_passes(cell, corpus.clips, "er")
    a_step = sum(reference.reports[0]["batches"]) / steps
    name = f"ER, {steps * a_step / corpus.train:.0f} epochs ({steps} steps)"
    rows = [row(name, reference.total.cpu, cell, cost, reference)]
    # Model of a run's time: a constant for its start plus a constant per encoded utterance.
    runs = len(reference.reports)
    per_utterance = sum(report["cpu"] for report in reference.reports) / reference.utterances
    start = (reference.total.cpu - per_utterance * reference.utterances) / runs
    long_steps = round(epochs("er") * corpus.train / a_step)
    every = max(1, round(long_steps / evaluations(recipe_of("er"))))
    long_cell, long_cost = bench.speechft("er", corpus.manifests, {"steps": long_steps, "eval_every": every})
    computed = runs * (start + per_utterance * (long_steps * a_step + math.ceil(long_steps / every) * corpus.scored))
    rows.append(row(f"ER, {epochs('er'):.0f} epochs ({long_steps} steps), as the recipe", computed, long_cell, long_cost, None))
    return rows, f"A run of s3prl for ER takes {start:.2f} s of CPU to start and {1000 * per_utterance:.3g} ms for each utterance."


def phone_rows(bench: Bench, corpus: Phones, steps: int) -> list[str]:
    """Return rows of the cell without and with cached features."""
    reference = reference_phones(bench, corpus, steps, steps)
    recipe = {"steps": steps, "eval_every": steps, "task_options": {"lexicon": [str(corpus.lexicon)]}}
    one_run = sum(reference.reports[0]["batches"]) + sum(reference.reports[0]["scored"].values())
    rows = []
    for name, cache_gb, passes in (
        ("PR, nothing cached, as LibriSpeech", 0.0, one_run + corpus.sizes["test"]),
        ("PR, all features cached", 4.0, sum(corpus.sizes.values())),
    ):
        cell, cost = bench.speechft("pr", corpus.manifests, {**recipe, "cache_gb": cache_gb})
        check_same_work("pr", reference, cell, corpus.sizes["train"], {"dev": corpus.sizes["dev"]})
        check_passes(cell, passes, name)
        rows.append(row(f"{name} ({steps} steps)", reference.total.cpu, cell, cost, reference))
    return rows


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE, help="CSV file with the columns path, speaker, text, split")
    parser.add_argument("--threads", type=int, default=1, help="threads per side; with several, CPU time includes waiting threads")
    parser.add_argument("--clips-per-fold", type=int, default=4, help="clips per fold of ER, a multiple of 4")
    parser.add_argument("--er-steps", type=int, default=3)
    parser.add_argument("--pr-steps", type=int, default=4)
    parser.add_argument("--train", type=int, default=48, help="training utterances of PR")
    parser.add_argument("--dev", type=int, default=8, help="dev utterances of PR")
    parser.add_argument("--test", type=int, default=4, help="test utterances of PR")
    parser.add_argument("--cells", nargs="+", choices=["er", "pr"], default=["er", "pr"])
    add_peer_options(parser)
    return parser.parse_args()


def main() -> None:
    options = parse()
    check_peer(options)
    recordings = read_table(options.table)
    rows, about = [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bench = Bench(folder, options.s3prl_python, options.threads, options.small)
        if "er" in options.cells:
            emotions = make_emotions(recordings, folder / "er", options.clips_per_fold)
            emotion, note = emotion_rows(bench, emotions, options.er_steps)
            rows += emotion
            about += [f"ER: {emotions.clips} clips of 1 s, {emotions.train} of them in train of each of {FOLDS} folds.", note]
        if "pr" in options.cells:
            sizes = {"train": options.train, "dev": options.dev, "test": options.test}
            rows += phone_rows(bench, make_phones(recordings, folder / "pr", sizes), options.pr_steps)
            about.append(f"PR: {options.train} / {options.dev} / {options.test} sentences of {options.table.name}.")
    print(describe())
    print(f"{'A tiny model, not HuBERT base' if options.small else 'HuBERT base, random weights'}; {options.threads} thread(s);", end=" ")
    print(f"learning rates {', '.join(f'{rate:g}' for rate in LEARNING_RATES)}. {' '.join(about)}\n")
    print("| cell | CPU time of s3prl | of speechft | ratio | wall time, s3prl / speechft | utterances through the encoder | score, % |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
