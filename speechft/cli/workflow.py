"""Commands that start an experiment: init, run, superb."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from speechft.cli.options import EVALUATION, REPORTS, EncoderOption, ExperimentFile, app, words_after
from speechft.cli.terminal import say


@app.command(rich_help_panel=REPORTS)
def init(folder: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> None:
    """Create a ready-to-run experiment folder for your own data: Snakefile, experiment, corpus, Slurm profile, README.

    `snakemake -n` works in it immediately. Existing files are never overwritten.

    Example: `speechft init my_experiment && cd my_experiment && snakemake -n`
    """
    from speechft.starter import make_folder

    for path in make_folder(folder):
        say(path)
    say(f"Next: {folder}/README.md")


@app.command(rich_help_panel=REPORTS, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(context: typer.Context, experiment: ExperimentFile) -> None:
    """Run the workflow in this folder: an experiment or some of its targets, with any Snakemake options.

    Targets are tables, curves, analyses, cells (encoder/finetuning/method/task), models and files. Unless an option such as --cores,
    --profile or --executor is given, all cores of this machine are used. The exit status is Snakemake's.

    Example: `speechft run config/demo.yaml -n`

    Example: `speechft run my_experiment.yaml supervised hubert_base/none/pretrained/ks --profile slurm`
    """
    from speechft.runs.start import snakemake_command

    if str(experiment).startswith("-"):
        raise typer.BadParameter(f"give the experiment first, then targets and Snakemake options; found {experiment}")
    command = snakemake_command(experiment, words_after(context, 1))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


@app.command(rich_help_panel=EVALUATION)
def superb(
    models: Annotated[
        list[str],
        typer.Argument(help="Encoder directory, checkpoint, transformers directory, org/name[@revision] on the Hub, my.py:MyEncoder."),
    ],
    corpora: Annotated[Path, typer.Option(help="Folder with SUPERB's unpacked corpora; some may be missing.")],
    tasks: Annotated[str | None, typer.Option(help="Comma-separated tasks; default: all whose corpus is found.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for experiment, results and tables; default: superb/NAME.")
    ] = None,
    protocol: Annotated[
        Literal["superb", "quick"] | None,
        typer.Option(help="superb: published recipes (default). quick: a tenth of the steps, corpora of any size; not comparable."),
    ] = None,
    encoder_option: EncoderOption = None,
    profile: Annotated[str | None, typer.Option(help="Snakemake profile, such as slurm.")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores of this machine; default: all.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Derive the experiment and show its jobs without running them.")] = False,
) -> None:
    """Evaluate encoders on SUPERB: find the corpora, run every task whose corpus is present, show the results next to published ones.

    This derives OUT/experiment.yaml, which you may edit: an edited file is used by later calls and never replaced. To resume after an
    interruption or a failure, run the same command again. The results are in OUT/report.html and OUT/tables, even if a task failed.

    Example: `speechft superb facebook/hubert-base-ls960 --corpora /data/corpora --profile slurm`

    Example: `speechft superb models/merged hubert_base --corpora /data/corpora --tasks ks,er --protocol quick --out superb/merged`
    """
    from speechft.recipes.modules import parse_options
    from speechft.runs.start import snakemake_command
    from speechft.starter.superb import default_out, derive, show

    folder = out or default_out(models)
    chosen = [task.strip() for task in tasks.split(",")] if tasks else None
    options = parse_options(encoder_option or ())
    made = derive(models, corpora, folder, tasks=chosen, protocol=protocol, options=options, gpus=True if profile else None)
    for remark in made.remarks:
        say(remark)
    where = ["--profile", profile] if profile else []
    where += ["--cores", str(cores or "all")] if cores or not profile else []
    words = [*where, "--rerun-incomplete", "--keep-going", *(["--dry-run"] if dry_run else []), "--", *made.targets]
    sys.stdout.flush()
    status = _attended(snakemake_command(made.path, words))
    if not dry_run:
        say(show(made.path, folder))
        say(f"Page: {folder / 'report.html'}; tables: {folder / 'tables'}; experiment: {made.path}")
    if status:
        raise typer.Exit(status)


def _attended(command: Sequence[str]) -> int:
    """Run Snakemake and return its exit status. On signals keep waiting, so that it can end its own jobs."""
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the terminal signals Snakemake too
                continue
            except SystemExit:  # SIGTERM
                process.terminate()
