"""Snakemake command line for `speechft run`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from speechft.errors import ConfigError, unknown_name
from speechft.experiment.schema import load_experiment
from speechft.experiment.workflow import Workflow
from speechft.shipped import ROOT, SNAKEFILE

_SAYS_WHERE = re.compile(r"(-c|-j)\d*|(--cores|--jobs|--profile|--workflow-profile|--executor|-e)(=.*)?")
"""Options that determine on how many cores, or where, jobs run."""
_RULES = ("all", "mini_encoders", "recordings", "words")
"""Rules that can be targets by name."""


def snakemake_command(experiment: Path, arguments: Sequence[str]) -> list[str]:
    """Build the command that runs this package's workflow in the working folder.

    Args:
        experiment: the experiment file.
        arguments: targets (tables, curves, analyses, `encoder/finetuning/method/task`, models, files) and Snakemake options, in any
            order. Without an option that determines where jobs run, all cores of this machine are used.

    Raises:
        ConfigError: the experiment is invalid, or has no such table, curve or analysis.
    """
    from snakemake.cli import get_argument_parser, get_profile_dir  # type: ignore[import-untyped]

    flow = Workflow(load_experiment(experiment))
    given = list(arguments)
    if not any(_SAYS_WHERE.fullmatch(argument) for argument in given):
        given = ["--cores", "all", "--rerun-incomplete", *given]
    parsed = get_argument_parser().parse_args(given)
    shown = flow.experiment.shown
    for target in map(str, parsed.targets):
        if target not in (*shown, *_RULES) and not Path(target).suffix and "/" not in target:
            raise ConfigError(unknown_name("table, curve or analysis", target, shown))
    names = {str(target): flow.file_of(str(target)) for target in parsed.targets}
    # A profile of the package, such as `slurm`, is used unless the user has one of this name.
    profiles = [name for name in parsed.profile or () if (ROOT / name).is_dir() and not get_profile_dir(name)]
    names |= {form.format(name): form.format(ROOT / name) for name in profiles for form in ("{}", "--profile={}")}
    # `--configfile` accepts several files: an option must follow it.
    command = [sys.executable, "-m", "snakemake", "--configfile", str(experiment), "--snakefile", str(SNAKEFILE)]
    return [*command, *(names.get(argument, argument) for argument in given)]
