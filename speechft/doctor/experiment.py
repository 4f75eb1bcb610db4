"""What an experiment needs: corpora, encoders with their hashes, room on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from speechft.cost.plan import plan_experiment
from speechft.cost.throughput import load_throughput
from speechft.doctor.findings import OK, PROBLEM, WARNING, Finding, Status, careful
from speechft.downloads.fetching import recorded_hash
from speechft.downloads.lexicons import check_identity, how_to_get
from speechft.encoders.directory.provenance import read_provenance
from speechft.errors import SpeechFTError
from speechft.experiment.encoders import PretrainedElsewhere, PublicEncoder
from speechft.experiment.schema import Experiment, load_experiment
from speechft.experiment.workflow import Workflow
from speechft.files.hashes import sha256_file

if TYPE_CHECKING:
    from speechft.corpora.checking import CorpusCheck

_LITTLE_GB = 5.0
"""What is needed without any experiment: the environment and the demo."""
_SHA256_SHOWN = 12


def check_experiment(path: Path | None, *, named: bool, corpora: bool) -> tuple[bool, Path, Iterator[Finding]]:
    """Whether the experiment asks for GPUs, the folder of its results, and the findings.

    `named`: the user wants to run this experiment, so that what is not there is a problem and not a warning.
    """
    if path is None:
        return False, Path("results"), iter([_disk(Path("results"), None, PROBLEM)])
    try:
        experiment = load_experiment(path)
    except SpeechFTError as error:
        finding = Finding("experiment", PROBLEM, str(error), "Mend the file, or name another with --experiment.")
        return False, Path("results"), iter([finding])
    stages = (experiment.resources.pretrain, experiment.resources.finetune, experiment.resources.evaluate)
    return any(stage.gpu for stage in stages), experiment.results, _findings(path, experiment, PROBLEM if named else WARNING, corpora)


def _findings(path: Path, experiment: Experiment, absent: Status, corpora: bool) -> Iterator[Finding]:
    yield Finding("experiment", OK, f"{path}: {len(experiment.tables)} tables, {len(experiment.tasks)} tasks")
    for name in experiment.encoders:
        yield from careful(lambda name=name: _encoder(experiment, name, absent))  # type: ignore[misc]
    yield from careful(lambda: _lexicons(experiment, absent))
    yield from careful(lambda: [_disk(experiment.results, experiment, absent)])
    if not corpora:
        yield Finding("corpora", OK, "not looked at (--no-corpora)")
        return
    seen: dict[str, CorpusCheck] = {}
    for name in experiment.corpora:
        yield from careful(lambda name=name: _looked_at(experiment, name, seen, absent))  # type: ignore[misc]


def _looked_at(experiment: Experiment, name: str, seen: dict[str, CorpusCheck], absent: Status) -> Iterator[Finding]:
    from speechft.doctor.needs import look_at  # imports torch, of which an installation may have none that works

    found = look_at(experiment, name, seen)
    yield _corpus(found, absent)
    for sentence in found.unmet:
        key, _, complaint = sentence.partition(": ")
        yield Finding(key, PROBLEM, complaint, "Its jobs would fail: change the recipe, or the corpus that it names.")


def _corpus(check: CorpusCheck, absent: Status) -> Finding:
    """One line about a corpus; `speechft prepare --check` has all."""
    name = f"corpus {check.corpus}"
    nothing = all(row.found == "nothing" for row in check.splits)
    sizes = ", ".join(f"{row.split} {row.found}" for row in check.splits if row.split)
    if nothing:
        return Finding(
            name, absent, check.problems[0].split(". ")[0] if check.problems else "empty", "docs/corpora.md says what must lie where."
        )
    if check.problems:
        more = f" and {len(check.problems) - 1} more" if len(check.problems) > 1 else ""
        return Finding(name, PROBLEM, f"{check.problems[0]}{more}", "`speechft prepare --check` lists everything.")
    if check.notes:
        found, _, remedy = check.notes[0].partition(". ")
        return Finding(name, WARNING, found, remedy)
    if check.remarks:
        return Finding(name, WARNING, check.remarks[0], "Not certain to be wrong: a number from the literature, or a part of a corpus.")
    return Finding(name, OK, sizes)


def _encoder(experiment: Experiment, name: str, absent: Status) -> Iterator[Finding]:
    """Whether the checkpoint of an encoder is there, and is the one that it should be."""
    entry, title = experiment.encoders[name], f"encoder {name}"
    if isinstance(entry, PublicEncoder):
        known = entry.checkpoint
        path, expected, size = known.path, known.sha256, known.bytes
        remedy = f"`speechft fetch {entry.name}` downloads it; Snakemake does so too, where there is a network."
        other = f"Move it away and fetch it again, or {known.own}."
    elif isinstance(entry, PretrainedElsewhere):
        path, expected, size = entry.path, entry.sha256, None
        remedy = f"Bring it, or let `encoders.{name}.path` name where it is."
        other = "Remove it and get it again: it is damaged, or another file."
    else:
        yield Finding(title, OK, "is made here")
        return
    if path.is_dir():
        yield _directory(title, path)
        return
    if not path.is_file():
        yield Finding(title, absent, f"{path}: not there", remedy)
        return
    if size is not None and path.stat().st_size != size:
        yield Finding(title, PROBLEM, f"{path}: {path.stat().st_size} bytes, {size} were published", other)
        return
    expected = expected or recorded_hash(path)
    found = sha256_file(path)
    if expected is None:
        yield Finding(title, OK, f"{path}: SHA-256 {found[:_SHA256_SHOWN]}..., nothing to compare it with")
    elif found != expected:
        text = f"{path}: SHA-256 {found[:_SHA256_SHOWN]}..., expected {expected[:_SHA256_SHOWN]}..."
        yield Finding(title, PROBLEM, text, other)
    else:
        yield Finding(title, OK, f"{path}: SHA-256 as expected")


def _lexicons(experiment: Experiment, absent: Status) -> Iterator[Finding]:
    """Whether the lexicons of PR are there, and the public ones among them are what they should be."""
    for source in Workflow(experiment).lexicons():
        if not Path(source).is_file():
            yield Finding(f"lexicon {source}", absent, "not there", how_to_get(source))
            continue
        try:
            check_identity(Path(source))
        except SpeechFTError as error:
            yield Finding(f"lexicon {source}", PROBLEM, "another file than the public one of this name", str(error))
        else:
            yield Finding(f"lexicon {source}", OK, "there")


def _directory(title: str, path: Path) -> Finding:
    """An encoder directory, by the hashes in its provenance."""
    missing = [file for file in ("config.json", "model.safetensors") if not (path / file).is_file()]
    if missing:
        return Finding(title, PROBLEM, f"{path}: lacks {', '.join(missing)}", "Import the encoder again.")
    try:
        recorded = (read_provenance(path) or {}).get("outputs", {})
    except SpeechFTError as error:
        return Finding(title, PROBLEM, str(error), "Import the encoder again.")
    for file, expected in recorded.items():
        if not (path / file).is_file() or sha256_file(path / file) != expected:
            return Finding(title, PROBLEM, f"{path / file}: missing, or not what its provenance says", "Import the encoder again.")
    return Finding(title, OK, f"{path}: {'hashes as recorded' if recorded else 'complete, no hashes recorded'}")


def _disk(results: Path, experiment: Experiment | None, absent: Status) -> Finding:
    """Free space against what the plan of the experiment needs, with the work folder of one job."""
    there = next(path for path in (results, *results.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9
    needed, what = _LITTLE_GB, "the environment and the demo take"
    if experiment is not None:
        total = plan_experiment(experiment, load_throughput()).total
        needed, what = max(1.0, total.disk_gb + total.work_gb), f"the experiment {experiment.name} takes"
    enough = free >= needed
    remedy = "" if enough else "Let `results` in the experiment lie where there is more room; `speechft plan` says what takes it."
    return Finding("disk", OK if enough else absent, f"{free:.0f} GB free for {results}, {what} {needed:.0f} GB", remedy)
