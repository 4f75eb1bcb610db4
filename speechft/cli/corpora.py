"""Commands for corpora: prepare, unite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechft.cli.options import CORPORA, OfExperiment, Out, Recipe, Threads, app, use_threads, with_plugins
from speechft.cli.terminal import console, rich_table, say
from speechft.shipped import PAPER

_SHOWN = 5
"""How many problems and remarks per corpus `--check` prints."""


@app.command(rich_help_panel=CORPORA)
@with_plugins
def prepare(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Output folder; it appears only when complete.")] = None,
    recipe: Recipe = None,
    csv: Annotated[Path | None, typer.Option(help="CSV corpus; columns: docs/corpora.md.")] = None,
    threads: Threads = None,
    check: Annotated[bool, typer.Option("--check", help="Only inspect the corpora of --experiment, and print a table.")] = False,
    experiment: OfExperiment = PAPER,
) -> None:
    """Check a corpus and write its manifests (lhotse), one file per split.

    Example: `speechft prepare --csv my_corpus.csv --out manifests/my_corpus`

    Example: `speechft prepare --check --experiment config/paper.yaml`

    With --check nothing is decoded or written. It prints the size of each corpus of an experiment, its published size, what is missing,
    and what tasks and fine-tunings need but the corpus lacks. The exit status is 1 if there are problems.
    """
    if check:
        _check_corpora(experiment)
        return
    from speechft.corpora import prepare_corpus
    from speechft.recipes.corpora import CorpusRecipe, load_corpus_recipe

    if (recipe is None) == (csv is None):
        raise typer.BadParameter("give either --recipe FILE.json or --csv FILE.csv")
    if out is None:
        raise typer.BadParameter("give --out FOLDER, or --check")
    corpus = load_corpus_recipe(recipe) if recipe else CorpusRecipe(kind="csv", path=csv)
    summary = prepare_corpus(corpus, out, use_threads(threads))
    for split, counts in summary["splits"].items():
        say(f"{split}: {counts['utterances']} utterances, {counts['hours']:.3f} h, {counts['speakers']} speakers")
    for size in summary.get("published", ()):
        if not size["agrees"]:
            say(f"{size['split'] or 'all splits'}: {size['found']:g} {size['what']}, published: {size['published']:g}")
    if "order" in summary:
        say(f"order: {summary['order']}")
    for task, unknown in summary.get("unknown", {}).items():
        shares = ", ".join(f"{100 * share:.2f} % of {split}" for split, share in unknown["shares"].items())
        say(f"text: for {task}, {shares} becomes <unk>; not in its vocabulary: {' '.join(unknown['characters'])}")
    for note in summary.get("notes", ()):
        say(f"note: {note}")


def _check_corpora(experiment: Path) -> None:
    from speechft.corpora.checking import CorpusCheck
    from speechft.doctor.needs import look_at
    from speechft.experiment.schema import load_experiment

    looked_at = load_experiment(experiment)
    seen: dict[str, CorpusCheck] = {}
    checks = [look_at(looked_at, name, seen) for name in looked_at.corpora]
    rows = []
    for corpus in checks:
        for number, row in enumerate(corpus.splits):
            hours = "-" if row.hours is None else f"{row.hours:.2f}"
            name, problems = ("", "") if number else (row.corpus, str(row.problems))
            rows.append([name, row.split, row.found, row.expected or "-", hours, problems])
    headings = ("corpus", "split", "found", "expected", "hours", "problems")
    console(200).print(rich_table(headings, rows, ("hours", "problems")))
    for corpus in checks:
        for problem in corpus.problems[:_SHOWN]:
            say(f"{corpus.corpus}: {problem}")
        if len(corpus.problems) > _SHOWN:
            say(f"{corpus.corpus}: and {len(corpus.problems) - _SHOWN} more")
        for sentence in corpus.unmet:
            say(sentence)
        remarks = [*corpus.remarks[:_SHOWN], *corpus.notes]
        if len(corpus.remarks) > _SHOWN:
            remarks.append(f"{len(corpus.remarks) - _SHOWN} more differences from published numbers")
        for remark in remarks:
            say(f"{corpus.corpus}: remark: {remark}")
    if any(corpus.problems or corpus.unmet for corpus in checks):
        raise typer.Exit(1)


@app.command(rich_help_panel=CORPORA)
def unite(corpora: Annotated[list[Path], typer.Argument(help="Folders written by `speechft prepare`.")], out: Out) -> None:
    """Combine prepared corpora into one.

    Example: `speechft unite manifests/digits manifests/keywords --out manifests/words`
    """
    from speechft.corpora import unite_corpora

    unite_corpora(corpora, out)
