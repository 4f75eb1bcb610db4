"""Checks of what an experiment needs: corpora, encoders with their hashes, disk space."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from speechft.doctor.findings import OK, PROBLEM, WARNING, Finding, Status, careful, verdict
from speechft.downloads.fetching import recorded_hash
from speechft.downloads.lexicons import check_identity, how_to_get
from speechft.encoders.directory.provenance import read_provenance
from speechft.errors import SpeechFTError, first_of
from speechft.experiment.encoders import FrozenModule, PretrainedElsewhere, PublicEncoder
from speechft.experiment.schema import Experiment, load_experiment
from speechft.experiment.workflow import Workflow
from speechft.files.hashes import sha256_file
from speechft.planning.plan import plan_experiment
from speechft.planning.speeds import load_throughput
from speechft.plugins import registered_by
from speechft.recipes.modules import source_file

if TYPE_CHECKING:
    from speechft.corpora.checking import CorpusCheck

_OTHER = "Replace it: it is damaged, or a different file."
_LITTLE_GB = 5.0
"""Disk space needed without any experiment: the environment and the demo."""


def check_experiment(path: Path | None, *, named: bool, corpora: bool) -> tuple[bool, Path, Iterator[Finding]]:
    """Return whether the experiment requests GPUs, its results folder, and the findings.

    With `named`, the user wants to run this experiment: missing files are problems, otherwise warnings.
    """
    results = Path("results")
    if path is None:
        return False, results, _disk(results, _LITTLE_GB, "the environment and the demo take", PROBLEM)
    try:
        experiment = load_experiment(path)
    except SpeechFTError as error:
        return False, results, iter([Finding("experiment", PROBLEM, str(error), "Correct the file, or name another with --experiment.")])
    stages = (experiment.resources.pretrain, experiment.resources.finetune, experiment.resources.evaluate)
    absent = PROBLEM if named else WARNING
    return any(stage.gpu for stage in stages), experiment.results, _findings(path, experiment, absent, corpora)


def _findings(path: Path, experiment: Experiment, absent: Status, corpora: bool) -> Iterator[Finding]:
    yield Finding("experiment", OK, f"{path}: {len(experiment.tables)} tables, {len(experiment.tasks)} tasks")
    for place in experiment.plugins:
        yield Finding(f"plug-in {place}", OK, registered_by(place))
    for name in experiment.encoders:
        yield from careful(f"encoder {name}", partial(_encoder, experiment, name, absent))
    for name in experiment.given:
        tuning, remedy = experiment.finetunings[name], f"Copy it there, or correct `finetunings.{name}.checkpoint`."
        assert tuning.checkpoint is not None
        title = f"fine-tuning {name}"
        yield from careful(title, partial(_checkpoint, title, tuning.checkpoint, tuning.sha256, None, remedy, _OTHER, absent))
    yield from careful("lexicons", partial(_lexicons, experiment, absent))
    yield from careful("disk", partial(_planned_disk, path, experiment, absent))
    if not corpora:
        yield Finding("corpora", OK, "not checked (--no-corpora)")
        return
    seen: dict[str, CorpusCheck] = {}
    for name in experiment.corpora:
        yield from careful(f"corpus {name}", partial(_corpus, experiment, name, seen, absent))


def _corpus(experiment: Experiment, name: str, seen: dict[str, CorpusCheck], absent: Status) -> Iterator[Finding]:
    from speechft.doctor.needs import look_at  # imports torch, which may be broken

    check = look_at(experiment, name, seen)
    yield summary(check, absent)
    for sentence in check.unmet:
        key, _, complaint = sentence.partition(": ")
        yield Finding(key, PROBLEM, complaint, "Its jobs would fail: change the recipe, or the corpus that it names.")


def summary(check: CorpusCheck, absent: Status) -> Finding:
    """Summarize a corpus in one line; `speechft prepare --check` lists everything."""
    name, problems = f"corpus {check.corpus}", check.problems
    if all(row.found == "nothing" for row in check.splits):
        return Finding(name, absent, problems[0].split(". ")[0] if problems else "empty", "Its layout is described in docs/corpora.md.")
    if problems:
        return Finding(name, PROBLEM, first_of(problems, 1), "`speechft prepare --check` lists everything.")
    if check.notes:
        note, _, remedy = check.notes[0].partition(". ")
        return Finding(name, WARNING, note, remedy)
    if check.remarks:
        return Finding(name, WARNING, check.remarks[0], "Possibly correct: the expected number is from the literature, or for the whole.")
    return Finding(name, OK, ", ".join(f"{row.split} {row.found}" for row in check.splits if row.split))


def _encoder(experiment: Experiment, name: str, absent: Status) -> Iterator[Finding]:
    """Check that the checkpoint of an encoder exists and is the expected one."""
    entry, title, size = experiment.encoders[name], f"encoder {name}", None
    if isinstance(entry, PublicEncoder):
        known = entry.checkpoint
        path, expected, size = known.path, known.sha256, known.bytes
        remedy = f"`speechft fetch {entry.name}` downloads it; so does Snakemake, if there is a network."
        other = f"Move it away and fetch it again, or {known.own}."
    elif isinstance(entry, PretrainedElsewhere):
        path, expected = entry.path, entry.sha256
        remedy = f"Copy it there, or correct `encoders.{name}.path`."
        other = _OTHER
    elif isinstance(entry, FrozenModule):
        yield _module(title, entry, absent)
        return
    else:
        yield Finding(title, OK, "made by the workflow")
        return
    yield from _checkpoint(title, path, expected, size, remedy, other, absent)


def _checkpoint(
    title: str, path: Path, expected: str | None, size: int | None, remedy: str, other: str, absent: Status
) -> Iterator[Finding]:
    """Check that a checkpoint exists and has the expected size and hash, if known."""
    if path.is_dir():
        yield _directory(title, path)
    elif not path.is_file():
        yield Finding(title, absent, f"{path}: missing", remedy)
    elif size is not None and path.stat().st_size != size:
        yield Finding(title, PROBLEM, f"{path}: {path.stat().st_size} bytes, expected {size}", other)
    elif (expected := expected or recorded_hash(path)) is None:
        yield Finding(title, OK, f"{path}: SHA-256 {sha256_file(path)[:12]}..., no expected hash known")
    else:
        actual = sha256_file(path)
        said = "as expected" if actual == expected else f"{actual[:12]}..., expected {expected[:12]}..."
        yield verdict(title, actual == expected, f"{path}: SHA-256 {said}", other)


def _module(title: str, entry: FrozenModule, absent: Status) -> Finding:
    """Check the files of a module of the user's own, without running it."""
    try:
        source = source_file(entry.module)
    except SpeechFTError as error:
        return Finding(title, absent, str(error), "Copy the file there, or correct PYTHONPATH.")
    if missing := [path for path in entry.files if not path.exists()]:
        return Finding(title, absent, f"{missing[0]}: missing", f"Copy it there, or correct `files` of the encoder {title.split()[-1]}.")
    check = " ".join(shlex.quote(word) for word in entry.arguments)
    return Finding(title, OK, f"{source}: SHA-256 {sha256_file(source)[:12]}..., not run; `speechft check-encoder {check}` does")


def _directory(title: str, path: Path) -> Finding:
    """Check an encoder directory against the hashes in its provenance."""
    missing = [file for file in ("config.json", "model.safetensors") if not (path / file).is_file()]
    if missing:
        return Finding(title, PROBLEM, f"{path}: {', '.join(missing)} missing", "Import the encoder again.")
    try:
        recorded = (read_provenance(path) or {}).get("outputs", {})
    except SpeechFTError as error:
        return Finding(title, PROBLEM, str(error), "Import the encoder again.")
    wrong = [file for file, expected in recorded.items() if not (path / file).is_file() or sha256_file(path / file) != expected]
    if wrong:
        return Finding(title, PROBLEM, f"{path / wrong[0]}: missing, or not as in its provenance", "Import the encoder again.")
    return Finding(title, OK, f"{path}: {'hashes as recorded' if recorded else 'complete, no hashes recorded'}")


def _lexicons(experiment: Experiment, absent: Status) -> Iterator[Finding]:
    """Check that the lexicons of PR exist, and that public ones are the expected files."""
    for source in Workflow(experiment).lexicons():
        if not Path(source).is_file():
            yield Finding(f"lexicon {source}", absent, "missing", how_to_get(source))
            continue
        try:
            check_identity(Path(source))
            yield Finding(f"lexicon {source}", OK, "present")
        except SpeechFTError as error:
            yield Finding(f"lexicon {source}", PROBLEM, "not the public file of this name", str(error))


def _planned_disk(path: Path, experiment: Experiment, absent: Status) -> Iterator[Finding]:
    """Compare free space with the plan of the experiment, including the work folder of one job."""
    total = plan_experiment(path, load_throughput()).total
    needed = max(1.0, total.disk_gb + total.work_gb)
    yield from _disk(experiment.results, needed, f"the experiment {experiment.name} takes", absent)


def _disk(results: Path, needed_gb: float, what: str, absent: Status) -> Iterator[Finding]:
    there = next(path for path in (results, *results.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9
    remedy = "Set `results` in the experiment to a larger disk; `speechft plan` shows what needs the space."
    yield verdict("disk", free >= needed_gb, f"{free:.0f} GB free for {results}, {what} {needed_gb:.0f} GB", remedy, absent)
