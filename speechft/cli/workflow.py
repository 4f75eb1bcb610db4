"""Verbs that start an experiment: init, run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from speechft.cli.options import REPORTS, ExperimentFile, app, words_after
from speechft.cli.terminal import say


@app.command(rich_help_panel=REPORTS)
def init(folder: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> None:
    """Write a ready experiment folder for your own data: Snakefile, experiment, corpus, profile for Slurm, README.

    `snakemake -n` works in it at once. Nothing that exists is overwritten.

    Example: `speechft init my_experiment && cd my_experiment && snakemake -n`
    """
    from speechft.starter import make_folder

    for path in make_folder(folder):
        say(path)
    say(f"Next: {folder}/README.md")


@app.command(rich_help_panel=REPORTS, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(context: typer.Context, experiment: ExperimentFile) -> None:
    """Run the workflow in this folder: an experiment, or some of its targets, with any option of Snakemake.

    Targets are tables, curves, analyses, cells (encoder/finetuning/method/task), models and files. Without an option that says where
    jobs run, all cores of this machine are used. The exit status is Snakemake's.

    Example: `speechft run config/demo.yaml -n`

    Example: `speechft run my_experiment.yaml supervised hubert_base/none/pretrained/ks --profile slurm`
    """
    from speechft.runs.start import snakemake_command

    if str(experiment).startswith("-"):
        raise typer.BadParameter(f"the experiment comes first, then targets and options of Snakemake; found {experiment}")
    command = snakemake_command(experiment, words_after(context, 1))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)
