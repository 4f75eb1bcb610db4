"""What the paper's evaluation costs: audio through the encoder for one model on SUPERB's ten tasks, by s3prl's protocol and by ours.

    python benchmarks/cost.py                    # measures the encoder on this machine, prints Markdown
    python benchmarks/cost.py --throughput 10    # hours of audio in an hour, instead of measuring

Everything follows from the recipes, the sizes of the corpora and the number of learning rates. Heads are not counted: either side trains as
many. Nor is padding: both are taken to compute the audio alone, although s3prl pads batches to the longest utterance.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from superb_corpora import QBE_CORPUS, QBE_DOCUMENTS, TASKS, Part

from speechft.recipes import SUPERB_RECIPES, EvaluationRecipe, evaluation_recipe

STATES, WIDTH, FRAMES_PER_SECOND = 13, 768, 50
"""Hidden states of a base model, their size, and their rate."""
LEARNING_RATES = len(EvaluationRecipe.model_fields["learning_rates"].default)
CACHE_GB = EvaluationRecipe.model_fields["cache_gb"].default


ORDER = ("pr", "asr", "ks", "qbe", "sid", "asv", "sd", "er", "ic", "sf")
FOUR_TASKS = ("pr", "sid", "er", "sf")
# Models of the paper's tables. All ten tasks: HuBERT before and after fine-tuning on TED-LIUM, and merged. Four tasks: the same three of
# three more encoders, HuBERT fine-tuned on seven more tasks and merged, and four base lines. Ablations are not counted.
MODELS_OF_TEN, MODELS_OF_FOUR = 3, 3 * 3 + 7 * 2 + 4


@dataclass(frozen=True)
class Passes:
    """What goes through the encoder."""

    utterances: float = 0.0
    hours: float = 0.0

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.utterances + other.utterances, self.hours + other.hours)

    def __mul__(self, times: float) -> "Passes":
        return Passes(times * self.utterances, times * self.hours)


def once(split: Part) -> Passes:
    return Passes(split.utterances, split.hours)


def evaluations(steps: int, every: int) -> int:
    """Times that a training of ours scores dev: every so many steps and after the last; s3prl the same where `every` divides `steps`."""
    return -(-steps // every)


def visits(name: str) -> float:
    """Utterances in all batches of one training."""
    recipe = SUPERB_RECIPES[name]
    batch = TASKS[name].batch or recipe["batch_size"]
    return float(recipe["steps"] * recipe["accumulate"] * batch)


def epochs(name: str) -> float:
    """Times that one training of the recipe passes over the training set."""
    return visits(name) / TASKS[name].train.utterances


def training(name: str) -> Passes:
    """One training without evaluations."""
    return once(TASKS[name].train) * epochs(name)


def looks(name: str) -> int:
    return evaluations(SUPERB_RECIPES[name]["steps"], SUPERB_RECIPES[name]["eval_every"])


def s3prl_passes(name: str, learning_rates: int = LEARNING_RATES) -> Passes:
    """One cell by s3prl's protocol: a training for each learning rate and fold, and test of the best one."""
    if name == "qbe":  # every hidden state searches dev, the best one test
        return once(QBE_DOCUMENTS) * (STATES + 1)
    task = TASKS[name]
    total = training(name)
    for split in task.scored:
        total += once(getattr(task, split)) * looks(name)
    total = total * (learning_rates * task.folds)
    return total if "test" in task.scored else total + once(task.test) * task.folds


def our_passes(name: str, cache_gb: float = CACHE_GB, crops_anew: bool | None = None) -> Passes:
    """One cell of ours, whatever the number of learning rates. `crops_anew`: whether `crop_draws` is `every`; default: as the recipe."""
    if name == "qbe":  # for the statistics of frames, for dev and for test
        kept = kept_share(QBE_DOCUMENTS, cache_gb)
        return once(QBE_DOCUMENTS) * (kept + 3 * (1 - kept))
    task = TASKS[name]
    if task.pooled:
        anew = evaluation_recipe(name).crop_draws == "every" if crops_anew is None else crops_anew
        # Train, dev and test of any fold are the corpus.
        return (training(name) if task.cropped and anew else once(task.train)) + once(task.dev) + once(task.test)
    selecting = task.dev if task.dev.utterances else task.test
    kept = 0.0 if task.cropped else kept_share(task.train, cache_gb)
    kept_too = kept_share(selecting, cache_gb - kept * gigabytes(task.train))
    total = training(name) * (1 - kept) + once(task.train) * kept
    return total + once(selecting) * (looks(name) * (1 - kept_too) + kept_too) + once(task.test)


def gigabytes(split: Part) -> float:
    """The frames of all hidden states in memory, float32."""
    return 4e-9 * STATES * WIDTH * FRAMES_PER_SECOND * 3600 * split.hours


def kept_share(split: Part, cache_gb: float) -> float:
    """Share of a split that fits into memory. (The shortest utterances are kept first; here all are taken to be of mean length.)"""
    return min(1.0, cache_gb / gigabytes(split))


def measured_throughput(threads: int, repetitions: int = 5) -> float:
    """Hours of audio that HuBERT base encodes in an hour on the CPU, fp32, 8 utterances of 4 s at a time."""
    import torch
    from encoder import BASE

    from speechft.encoders import load_encoder, random_encoder

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        encoder = load_encoder(random_encoder("hubert", Path(scratch) / "encoder", **BASE))
    waveforms = list(0.1 * torch.randn(8, 4 * 16_000))
    times = []
    with torch.inference_mode():
        for _ in range(repetitions + 1):
            started = time.perf_counter()
            encoder.encode(waveforms)
            times.append(time.perf_counter() - started)
    return 8 * 4 / statistics.median(times[1:])


def table(learning_rates: int, cache_gb: float, throughput: float, gpu_throughput: float | None) -> list[str]:
    """Markdown rows of all tasks and their sums."""
    cells = {name: (s3prl_passes(name, learning_rates), our_passes(name, cache_gb)) for name in ORDER}
    lines: dict[str, tuple[Passes, Passes]] = {}
    for name, pair in cells.items():
        lines["QbE" if name == "qbe" else name.upper()] = pair
        if name == "sid":
            lines["(SID with `crop_draws: 1`, not in the sums)"] = (pair[0], our_passes(name, cache_gb, crops_anew=False))
    ten, four = (_sum([cells[name] for name in names]) for names in (ORDER, FOUR_TASKS))
    lines["**one model, ten tasks**"] = ten
    paper = f"**the paper: {MODELS_OF_TEN} models on ten tasks, {MODELS_OF_FOUR} on four**"
    lines[paper] = _sum([_times(ten, MODELS_OF_TEN), _times(four, MODELS_OF_FOUR)])
    found = []
    for label, (theirs, ours) in lines.items():
        spent = [_short(theirs.hours / throughput), _short(ours.hours / throughput)]
        if gpu_throughput:
            spent += [_short(theirs.hours / gpu_throughput), _short(ours.hours / gpu_throughput)]
        passes = f"{_count(theirs.utterances)} | {_count(ours.utterances)} | {_short(theirs.hours)} | {_short(ours.hours)}"
        found.append(f"| {label} | {passes} | {_short(theirs.hours / ours.hours)} | {' | '.join(spent)} |")
    return found


def _sum(pairs: list[tuple[Passes, Passes]]) -> tuple[Passes, Passes]:
    return sum((theirs for theirs, _ in pairs), Passes()), sum((ours for _, ours in pairs), Passes())


def _times(pair: tuple[Passes, Passes], times: int) -> tuple[Passes, Passes]:
    return pair[0] * times, pair[1] * times


def _count(number: float) -> str:
    return f"{number / 1e6:,.3g} M" if number < 1e8 else f"{number / 1e6:,.0f} M"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def corpora() -> list[str]:
    """Markdown rows of the sizes that the table is computed from."""
    found = []
    for name in ORDER:
        if name == "qbe":
            corpus, source = QBE_CORPUS
            found.append(f"| QbE | {corpus} | - | {_size(QBE_DOCUMENTS)} (documents) | the same documents | - | {source} |")
            continue
        task = TASKS[name]
        parts = " | ".join(_size(split) for split in (task.train, task.dev, task.test))
        found.append(f"| {name.upper()} | {task.corpus} | {parts} | {epochs(name):.0f} | {task.source} |")
    return found


def _size(split: Part) -> str:
    return f"{split.utterances:,.0f}, {split.hours:.4g} h" if split.utterances else "-"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learning-rates", type=int, default=LEARNING_RATES)
    parser.add_argument("--cache-gb", type=float, default=CACHE_GB, help="the recipe's key")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--throughput", type=float, help="hours of audio that the encoder takes in an hour; default: measured here")
    parser.add_argument("--gpu-throughput", type=float, help="the same of a GPU where it was measured; adds two columns")
    return parser.parse_args()


def main() -> None:
    from machine import describe

    options = parse()
    throughput = options.throughput or measured_throughput(options.threads)
    measured = "given" if options.throughput else f"measured here with HuBERT base, fp32, {options.threads} threads"
    print(describe())
    print(f"The encoder takes {throughput:.3g} hours of audio in an hour ({measured}).", end=" ")
    print(f"{options.learning_rates} learning rates, `cache_gb: {options.cache_gb:g}`.\n")
    columns = [
        "task",
        "passes, s3prl",
        "passes, ours",
        "hours of audio, s3prl",
        "hours of audio, ours",
        "ratio",
        "hours on this CPU, s3prl",
        "hours on this CPU, ours",
    ]
    columns += ["GPU hours, s3prl", "GPU hours, ours"] if options.gpu_throughput else []
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    print("\n".join(table(options.learning_rates, options.cache_gb, throughput, options.gpu_throughput)))
    print("\n| task | corpus | train | dev | test | epochs of one training | source |\n|---|---|---|---|---|---|---|")
    print("\n".join(corpora()))


if __name__ == "__main__":
    main()
