"""Time and peak memory of planning an experiment, and its jobs by rule.

    python benchmarks/dry_run.py                                   # the paper; prints Markdown
    python benchmarks/dry_run.py --experiment config/demo.yaml

Runs `snakemake -n all` in an empty working folder, with a new process each time. Fails if the slowest plan exceeds --seconds or
--megabytes.
"""

import argparse
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from machine import describe, median_and_range
from measured import measured_run

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Plan:
    """One dry run."""

    seconds: float
    cpu_seconds: float
    megabytes: float
    jobs: dict[str, int]
    """Rule -> jobs."""


def job_counts(output: str) -> dict[str, int]:
    """Parse rule -> jobs from the output of `snakemake -n`; the last entry is the total."""
    statistics = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\n\n", output, re.DOTALL)
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", statistics[1], re.M)} if statistics else {}


def plan(experiment: Path, folder: Path) -> Plan:
    """Plan the whole experiment in `folder`."""
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config/published.csv").write_bytes((ROOT / "config/published.csv").read_bytes())
    command: list[str | Path] = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--cores", "1", "--dry-run", "--configfile", experiment.resolve(), "--", "all"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    measured = measured_run(command, cwd=folder, environment={"PYTHONPATH": path})
    return Plan(measured.seconds, measured.cpu_seconds, measured.megabytes, job_counts(measured.output))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", type=Path, default=ROOT / "config/paper.yaml")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--megabytes", type=float, default=500.0)
    return parser.parse_args()


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        plan(options.experiment, Path(folder))  # brings the libraries into the page cache
        plans = [plan(options.experiment, Path(folder)) for _ in range(options.repetitions)]
    print(describe())
    print(f"`snakemake -n` of {options.experiment.name}, {options.repetitions} repetitions after one; median (range).\n")
    print("| time | CPU time | peak resident memory | jobs |\n|---|---|---|---|")
    columns = [median_and_range([run.seconds for run in plans]), median_and_range([run.cpu_seconds for run in plans])]
    columns.append(median_and_range([run.megabytes for run in plans], "MB"))
    print(f"| {' | '.join(columns)} | {plans[0].jobs['total']} |")
    print("\n| rule | jobs |\n|---|---|")
    for rule, count in plans[0].jobs.items():
        print(f"| {rule} | {count} |")
    slowest, largest = max(run.seconds for run in plans), max(run.megabytes for run in plans)
    if slowest > options.seconds or largest > options.megabytes:
        raise SystemExit(f"over the limit: {slowest:.1f} s of {options.seconds:g} s, {largest:.0f} MB of {options.megabytes:g} MB")


if __name__ == "__main__":
    main()
