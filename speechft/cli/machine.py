"""Verbs about this installation and its runs: doctor, schema, resume."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer

from speechft.cli.options import AsJson, Out, app


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this machine and installation: one line each, with a remedy for each failure.

    Example: `speechft doctor`
    """
    from speechft.doctor import check_all

    findings = check_all()
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=1))
    else:
        for finding in findings:
            remedy = "" if finding.ok else f"  -> {finding.remedy}"
            print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.name}: {finding.found}{remedy}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def schema(out: Out = Path("config/schema.json")) -> None:
    """Write the JSON schema of experiment files, for editors that complete and check YAML.

    Example: `speechft schema --out config/schema.json`
    """
    from speechft.config import experiment_schema
    from speechft.files import write_json

    write_json(out, experiment_schema())


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def resume(context: typer.Context) -> None:
    """Go on with a workflow that was killed: cancel the Slurm jobs that it left, remove its lock, run Snakemake again.

    Everything behind the verb is for Snakemake; without anything that is `--profile slurm all`.

    Example: `speechft resume --profile slurm all`
    """
    from speechft.cluster import resume as run

    # The parser takes a lone -- for itself, and Snakemake needs it between its options and its targets.
    given = sys.argv[sys.argv.index(context.command_path.split()[-1]) + 1 :] if "--" in sys.argv else context.args
    raise typer.Exit(run(Path.cwd(), given or ["--profile", "slurm", "all"]))
