"""List the jobs needed for targets, from Snakemake's own graph, as if no results existed."""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from speechft.errors import ConfigError
from speechft.experiment.methods import FINETUNED
from speechft.experiment.schema import load_experiment
from speechft.experiment.workflow import Workflow
from speechft.own_code import looking_in
from speechft.shipped import SNAKEFILE

_AS_RULE = {"evaluate_module": "evaluate", "merge_chosen": "merge"}
"""Rules that count as another rule."""


@dataclass(frozen=True)
class Job:
    """A Snakemake job: its rule, wildcard values, and the jobs whose output it reads."""

    rule: str
    names: tuple[str, ...]
    outputs: tuple[str, ...] = field(default=(), compare=False, repr=False)
    inputs: tuple[str, ...] = field(default=(), compare=False, repr=False)
    log: str = field(default="", compare=False, repr=False)
    needs: tuple[Job, ...] = field(default=(), compare=False, repr=False)

    @property
    def name(self) -> str:
        """Rule and wildcards, for example `evaluate hubert_base/none/pretrained/ks`."""
        return f"{self.rule} {'/'.join(self.names)}"

    def behind(self) -> Iterator[Job]:
        """Yield the job and all jobs that it depends on, possibly repeatedly."""
        yield self
        for job in self.needs:
            yield from job.behind()


def jobs_behind(path: str | Path, targets: Iterable[str] = ()) -> list[Job]:
    """List the jobs needed for targets of an experiment file, in a possible order; default: the target `all`.

    Targets are tables, curves, analyses, cells `encoder/finetuning/method/task`, models `encoder/finetuning/method`, or files.

    Raises:
        ConfigError: the workflow cannot produce a target; the message suggests the closest match.
    """
    flow = Workflow(load_experiment(path))
    named = {flow.file_of(target): target for target in targets if target != "all"}
    from snakemake.exceptions import MissingRuleException  # type: ignore[import-untyped]

    try:
        jobs = _graph(Path(path), named)
    except MissingRuleException as error:
        wrong = next((target for file, target in named.items() if file in str(error)), str(error))
        raise _unknown(flow, wrong) from None
    made = {output for job in jobs for output in job.outputs}
    for file, target in named.items():
        if file not in made:
            raise _unknown(flow, target)
    for job in jobs:
        if lacking := [file for file in job.inputs if file.startswith(f"{flow.results}/") and file not in made]:
            raise _unknown(flow, "/".join(job.names), f" ({lacking[0]} is not made by any rule)")
    return jobs


def _graph(path: Path, files: Iterable[str]) -> list[Job]:
    from snakemake.api import SnakemakeApi  # type: ignore[import-untyped]
    from snakemake.settings import types as settings  # type: ignore[import-untyped]
    from snakemake.settings.enums import Quietness  # type: ignore[import-untyped]

    logging.getLogger("snakemake.logging").propagate = False
    # As a subprocess, Snakemake does not check that source files exist, so that corpora and checkpoints may be missing.
    as_subprocess = settings.WorkflowSettings(exec_mode=settings.ExecMode.SUBPROCESS)
    configuration = settings.ConfigSettings(configfiles=(path.resolve(),))
    # In an empty folder no results exist, and Snakemake leaves no files where the user works.
    quiet = settings.OutputSettings(quiet=frozenset({Quietness.ALL}))
    with _environment_kept(), looking_in(Path.cwd()), tempfile.TemporaryDirectory() as folder, SnakemakeApi(quiet) as api:
        workflow = api.workflow(
            settings.ResourceSettings(cores=1), configuration, workflow_settings=as_subprocess, snakefile=SNAKEFILE, workdir=Path(folder)
        )
        with contextlib.redirect_stdout(io.StringIO()):
            workflow.dag(settings.DAGSettings(targets=frozenset(files))).printrulegraph()  # builds the graph and starts nothing
        dag = workflow._workflow.dag
        jobs: dict[object, Job] = {}
        for level in dag.toposorted():
            for one in sorted(level, key=lambda one: (one.rule.name, *map(str, one.wildcards))):
                needs = tuple(jobs[other] for other in dag.dependencies[one])
                outputs, inputs = tuple(map(str, one.output)), tuple(map(str, one.input))
                log = str(one.log[0]) if one.log else ""
                jobs[one] = Job(_AS_RULE.get(one.rule.name, one.rule.name), tuple(map(str, one.wildcards)), outputs, inputs, log, needs)
        return list(jobs.values())


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """Restore environment variables afterwards, because the workflow sets some for its jobs."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _unknown(flow: Workflow, target: str, why: str = "") -> ConfigError:
    """Build the error for a target that the workflow cannot produce, with the closest match."""
    experiment, names = flow.experiment, target.split("/")
    if len(names) in (3, 4) and not target.startswith(f"{flow.results}/"):
        methods = ["pretrained", *([FINETUNED] if experiment.given else []), *experiment.methods]
        known: list[Iterable[str]] = [experiment.encoders, ["none", *flow.merged_names], methods, experiment.tasks]
        closest = "/".join(_closest(name, allowed) or name for name, allowed in zip(names, known, strict=False))
    else:
        closest = _closest(Path(target).stem, experiment.shown)
    return ConfigError(
        f"{target!r} is not a table, curve, cell or file of the experiment {experiment.name!r}{why}"
        f"{f'; did you mean {closest!r}?' if closest not in ('', target) else '.'} Tables: {', '.join(experiment.tables) or 'none'}. "
        f"Curves: {', '.join(experiment.curves) or 'none'}. A cell is encoder/finetuning/method/task."
    )


def _closest(name: str, allowed: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(name, list(allowed), n=1)), "")
