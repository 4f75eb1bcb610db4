"""Commands for this installation and its runs: doctor, schema, resume, jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from speechft.cli.options import REPORTS, AsJson, Out, app, words_after
from speechft.cli.terminal import say
from speechft.files.escapes import terminal_text
from speechft.shipped import shipped


@app.command(rich_help_panel=REPORTS)
def doctor(
    experiment: Annotated[
        Path | None,
        typer.Option(
            "--experiment",
            "-e",
            help="Experiment to run: whatever it needs and is missing is a problem. Default: the paper's, for which it is a warning.",
            callback=lambda path: path and shipped(path),
        ),
    ] = None,
    corpora: Annotated[
        bool, typer.Option("--corpora/--no-corpora", help="Check the corpora too, which reads the header of every recording.")
    ] = True,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Only compare the GPU with the CPU: features, cells, stage 1, resuming. Under two minutes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine, the installation, the cluster and an experiment: one line per check, with a remedy if something is wrong.

    The exit status is 1 if there is a problem. Warnings concern things that only some experiments need. Nothing is changed.

    Example: `speechft doctor`

    Example: `srun --gres=gpu:1 speechft doctor --experiment config/paper.yaml`

    Example: `srun --gres=gpu:1 speechft doctor --gpu`
    """
    from speechft.doctor import check_all, check_gpu_results
    from speechft.doctor.findings import PROBLEM, WARNING

    findings = []
    console = Console(highlight=False, soft_wrap=True)
    for finding in check_gpu_results() if gpu else check_all(experiment, corpora=corpora):
        findings.append(finding)
        if not as_json:
            remedy = f"  -> {finding.remedy}" if finding.remedy else ""
            color = {PROBLEM: "bold red", WARNING: "yellow"}.get(finding.status, "green")
            console.print(f"[{color}]{finding.status:<8}[/]{escape(terminal_text(f'{finding.name}: {finding.found}{remedy}'))}")
    counts = {status: sum(finding.status == status for finding in findings) for status in (WARNING, PROBLEM)}
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=1))
    else:
        console.print(", ".join(f"{count} {status}{'' if count == 1 else 's'}" for status, count in counts.items()))
    if counts[PROBLEM]:
        raise typer.Exit(1)


@app.command(rich_help_panel=REPORTS)
def schema(out: Out = Path("config/schema.json")) -> None:
    """Write the JSON schema of experiment files, for completion and checks in editors.

    Example: `speechft schema --out config/schema.json`
    """
    from speechft.experiment.schema import experiment_schema
    from speechft.files.output_kinds import SCHEMA
    from speechft.files.outputs import check_file
    from speechft.files.structured import write_json

    check_file(out, SCHEMA)
    write_json(out, experiment_schema())


@app.command(rich_help_panel=REPORTS, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def resume(context: typer.Context) -> None:
    """Resume a killed workflow: cancel its orphaned Slurm jobs, remove its lock, run Snakemake again.

    All arguments are passed to Snakemake; default: `--profile slurm all`.

    Example: `speechft resume --profile slurm all`
    """
    from speechft.runtime.slurm import resume as run

    raise typer.Exit(run(Path.cwd(), words_after(context, 0) or ["--profile", "slurm", "all"]))


@app.command(rich_help_panel=REPORTS)
def jobs(
    log: Annotated[Path | None, typer.Argument(help="Log of a Snakemake run; default: the newest in .snakemake/log.")] = None,
    as_json: AsJson = False,
) -> None:
    """Summarize a workflow run: jobs planned, done and failed, and their time, by rule; then each failed job with the reason.

    Seconds are the summed wall time of a rule's jobs, on a cluster including queue time. The exit status is 1 if a job failed.

    Example: `speechft jobs`
    """
    from speechft.runs.log import newest_log, read_log
    from speechft.runs.report import failures_of, print_failures, print_summary, summary

    run = read_log(log or newest_log())
    values, failures = summary(run), failures_of(run)
    if as_json:
        print(json.dumps({**values, "failures": [failure.to_json() for failure in failures]}, indent=1))
    elif not run.planned and not run.jobs:
        say(f"{run.path}: no jobs were planned. Its last line: {run.last_line}")
    else:
        say(print_summary(values))
        if failures:
            say(print_failures(failures))
    if failures:
        raise typer.Exit(1)
