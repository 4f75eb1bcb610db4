"""Cost of SUPERB's ten tasks by s3prl's protocol and by ours: audio encoded for one model of base size.

    python benchmarks/cost.py                    # speeds of config/throughput.json, prints Markdown
    python benchmarks/cost.py --device cuda      # of a GPU that `speechft calibrate` has measured

Our side is that of `speechft plan` (speechft/planning); both sides use published corpus sizes. s3prl's side follows from its protocol: one
training per learning rate and fold, which encodes its batches, and dev (and test) at each evaluation. Heads are not counted, since both
sides train as many; neither is padding, which s3prl computes and we mostly avoid.
"""

import argparse
from dataclasses import dataclass

from speechft.evaluate.estimate import estimate_evaluation, evaluations, visits
from speechft.planning.corpus_sizes import CorpusSize, SplitSize, published_size
from speechft.planning.report import number
from speechft.planning.shapes import base_shape
from speechft.planning.speeds import load_throughput
from speechft.recipes.evaluation import EvaluationRecipe, evaluation_recipe
from speechft.tasks.catalog import task_entry

LEARNING_RATES = len(EvaluationRecipe.model_fields["learning_rates"].default)
CACHE_GB = EvaluationRecipe.model_fields["cache_gb"].default
BASE = base_shape("hubert")


@dataclass(frozen=True)
class SuperbTask:
    """Corpus of a task, by its key in the published sizes, and the splits that s3prl 0.4.18 scores at each evaluation."""

    corpus: str
    scored: tuple[str, ...]


TASKS = {
    "pr": SuperbTask("librispeech", ("dev",)),
    "asr": SuperbTask("librispeech", ("dev",)),
    "ks": SuperbTask("speech_commands", ("dev", "test")),
    "qbe": SuperbTask("quesst14", ()),
    "sid": SuperbTask("voxceleb1/sid", ("dev", "test")),
    "asv": SuperbTask("voxceleb1/asv", ("test",)),
    "sd": SuperbTask("libri2mix", ("dev",)),
    "er": SuperbTask("iemocap", ("dev", "test")),
    "ic": SuperbTask("fluent_speech_commands", ("dev", "test")),
    "sf": SuperbTask("audio_snips", ("dev",)),
}


def size_of(name: str) -> CorpusSize:
    """Return the published corpus size of a task."""
    return published_size(TASKS[name].corpus)


def recipe_of(name: str, cache_gb: float = CACHE_GB, **changes: object) -> EvaluationRecipe:
    """Return SUPERB's recipe of a task."""
    return evaluation_recipe(name, {"cache_gb": cache_gb, **changes})


def epochs(name: str) -> float:
    """Return the epochs of one training, with folds over the training set of a fold."""
    return visits(recipe_of(name)) / size_of(name).fold("train").utterances


def s3prl_passes(name: str, learning_rates: int = LEARNING_RATES) -> SplitSize:
    """Count a cell by s3prl's protocol: one training per learning rate and fold, and test of the best one unless already scored."""
    size, recipe = size_of(name), recipe_of(name)
    if name == "qbe":  # every hidden state searches dev, the best one test
        return size.whole * (BASE.states + 1)
    train = size.fold("train").cropped(task_entry(name).crop_seconds)
    total = train * (visits(recipe) / train.utterances)
    for split in TASKS[name].scored:
        total = total + size.fold(split) * evaluations(recipe)
    folds = size.folds or 1
    total = total * (learning_rates * folds)
    return total if "test" in TASKS[name].scored else total + size.fold("test") * folds


def our_passes(name: str, cache_gb: float = CACHE_GB, **changes: object) -> SplitSize:
    """Count a cell by our protocol, independent of the number of learning rates."""
    cost = estimate_evaluation(recipe_of(name, cache_gb, **changes), size_of(name), BASE)
    return SplitSize(cost.encoder_passes, cost.encoder_hours)


def table(learning_rates: int, cache_gb: float, throughput: float) -> list[str]:
    """Format Markdown rows of all tasks and their sum."""
    rows: dict[str, tuple[SplitSize, SplitSize]] = {}
    for name in TASKS:
        rows["QbE" if name == "qbe" else name.upper()] = s3prl_passes(name, learning_rates), our_passes(name, cache_gb)
    pairs = list(rows.values())
    rows["**one model, ten tasks**"] = sum((one for one, _ in pairs), SplitSize()), sum((two for _, two in pairs), SplitSize())
    once_drawn = our_passes("sid", cache_gb, protocol="quick", crop_draws=1)
    rows["(SID with `crop_draws: 1`, not in the sum)"] = rows["SID"][0], once_drawn
    lines = []
    for label, (theirs, ours) in rows.items():
        passes = f"{_millions(theirs.utterances)} | {_millions(ours.utterances)} | {number(theirs.hours)} | {number(ours.hours)}"
        hours = f"{number(theirs.hours / throughput)} | {number(ours.hours / throughput)}"
        lines.append(f"| {label} | {passes} | {number(theirs.hours / ours.hours)} | {hours} |")
    return lines


def _millions(count: float) -> str:
    return f"{count / 1e6:,.3g} M" if count < 1e8 else f"{count / 1e6:,.0f} M"


def corpora() -> list[str]:
    """Format Markdown rows of the corpus sizes."""
    lines = []
    for name, task in TASKS.items():
        size = size_of(name)
        parts = [
            f"{size[split].utterances:,.0f}, {number(size[split].hours)} h" if size[split].utterances else "-"
            for split in ("train", "dev", "test")
        ]
        times = "-" if name == "qbe" else f"{epochs(name):.0f}"
        lines.append(f"| {'QbE' if name == 'qbe' else name.upper()} | {task.corpus} | {' | '.join(parts)} | {times} | {size.note} |")
    return lines


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learning-rates", type=int, default=LEARNING_RATES)
    parser.add_argument("--cache-gb", type=float, default=CACHE_GB, help="`cache_gb` of the recipes")
    parser.add_argument("--device", help="a measured device by a part of its name, or cpu, or cuda")
    parser.add_argument("--throughput", type=float, help="hours of audio encoded per hour, instead of a measured device")
    return parser.parse_args()


def main() -> None:
    options = parse()
    device = None if options.throughput else load_throughput().choose(options.device)
    throughput = device.nearest(BASE)[1].forward["fp32"] if device else options.throughput
    source = f"measured on {device.label}, {device.measured}" if device else "given"
    print(f"The encoder takes {number(throughput)} hours of audio in an hour ({source}).", end=" ")
    print(f"{options.learning_rates} learning rates, `cache_gb: {options.cache_gb:g}`.\n")
    columns = [
        "task",
        "passes, s3prl",
        "passes, ours",
        "hours of audio, s3prl",
        "hours of audio, ours",
        "ratio",
        "hours, s3prl",
        "hours, ours",
    ]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    print("\n".join(table(options.learning_rates, options.cache_gb, throughput)))
    print("\n| task | corpus | train | dev | test | epochs of one training | source |\n|---|---|---|---|---|---|---|")
    print("\n".join(corpora()))


if __name__ == "__main__":
    main()
