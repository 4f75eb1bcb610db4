"""Verbs about this installation: doctor, schema."""

from __future__ import annotations

import json
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
