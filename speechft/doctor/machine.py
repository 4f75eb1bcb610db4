"""Checks of Python, package versions, GPU and driver, and write speed of the results folder."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from speechft.doctor.findings import OK, PROBLEM, WARNING, Finding, ask, verdict
from speechft.errors import SpeechFTError, first_of
from speechft.requirements import check_versions
from speechft.shipped import ROOT

LOCK = ROOT / "envs/requirements.lock"
MADE = "Run `make environment`."
# Other versions of these are known to break something or to change results.
CRITICAL = {"ve-fairseq", "transformers", "numpy", "hydra-core", "omegaconf", "lhotse", "snakemake", "peft"}
CRITICAL |= {"snakemake-executor-plugin-slurm"}
SLOW_MB = 20.0
"""Megabytes per second below which writing a checkpoint of a base model takes more than a minute."""
WRITTEN_MB = 64
_SHOWN = 4


def installed_version(package: str) -> str:
    """Return the version of an installed package, or "missing"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def locked_versions() -> dict[str, str]:
    """Package -> version in the lock file for this platform; empty without the file."""
    from packaging.markers import Marker

    lines = LOCK.read_text(encoding="utf-8").splitlines() if LOCK.is_file() else []
    matches = [re.match(r"([A-Za-z0-9_.-]+)==(\S+?)(?:\s*;\s*(.*?))?\s*\\?$", line) for line in lines]
    return {match[1]: match[2] for match in matches if match and (not match[3] or Marker(match[3]).evaluate())}


def not_installed(name: str, extra: str) -> Finding:
    """Build the finding for a missing package of an extra: a problem in a clone, a warning after installation with pip."""
    if locked_versions():
        return Finding(name, PROBLEM, "missing", MADE)
    return Finding(name, WARNING, "not installed", f"If you need it: pip install 'speechft[{extra}]'.")


def check_installation() -> Iterator[Finding]:
    """Check Python, and every package against the lock file."""
    good = (3, 11) <= sys.version_info[:2] < (3, 13)
    locked = locked_versions()
    remedy = "Use Python 3.11 or 3.12: `make PYTHON=python3.11`." if locked else "Fine-tuning needs Python 3.11 or 3.12; the rest works."
    yield verdict("Python", good, platform.python_version(), remedy, PROBLEM if locked else WARNING)
    installed = {name: installed_version(name) for name in locked}
    other = {name: version for name, version in installed.items() if version != locked[name]}
    wrong = [f"{name} {version} (locked: {locked[name]})" for name, version in other.items()]
    grave = any(name in CRITICAL or version == "missing" for name, version in other.items())
    if not locked:
        yield Finding("packages", WARNING, "no lock file next to this installation, versions not compared", "Install from a clone.")
    elif wrong:
        yield Finding("packages", PROBLEM if grave else WARNING, first_of(wrong, _SHOWN), MADE)
    else:
        yield Finding("packages", OK, f"all {len(locked)} as locked")
    absent = installed_version("torchaudio") == "missing"
    remedy = "Remove it (`pip uninstall torchaudio`): its wheel breaks `import transformers` here."
    yield verdict("torchaudio", absent, "not installed, as required" if absent else installed_version("torchaudio"), remedy)


def check_torch() -> Iterator[Finding]:
    """Check version and build of torch."""
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    version = f"{torch.__version__}, {build}, {torch.get_num_threads()} threads"
    try:
        check_versions()
    except SpeechFTError as error:
        yield Finding("torch", PROBLEM, version, str(error))
        return
    tested = not locked_versions() or torch.__version__.split("+")[0] == "2.13.0"
    yield verdict("torch", tested, version, MADE)


def check_fairseq() -> Iterator[Finding]:
    """Check that fairseq can be imported."""
    if find_spec("fairseq") is None:
        yield not_installed("fairseq", "train")
        return
    import fairseq

    yield Finding("fairseq", OK, str(fairseq.__version__))


def check_audio() -> Iterator[Finding]:
    """Check that libsndfile can decode Opus, the format of the mini corpus."""
    import soundfile

    opus = "OPUS" in soundfile.available_subtypes("OGG")
    version = f"libsndfile {soundfile.__libsndfile_version__}"
    yield verdict("audio", opus, version, "This libsndfile cannot read Opus; reinstall `soundfile`.")


def check_gpu(*, needed: bool, must: bool) -> Iterator[Finding]:
    """Check the GPUs that the driver reports, and whether torch can use them.

    If GPUs are `needed`, a missing one is a problem with `must`, otherwise a warning; on a cluster, where jobs run on other nodes, always a
    warning.
    """
    import torch

    login_node = "On a cluster run this on a compute node (`srun --gres=gpu:1 speechft doctor`); the demo and the tests need no GPU."
    usable = torch.cuda.is_available()
    try:
        answered, said = ask("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    except FileNotFoundError:
        if usable:
            yield Finding("GPU", OK, f"{torch.cuda.get_device_name()}, nvidia-smi is not on PATH")
        else:
            lacking = PROBLEM if must and shutil.which("sinfo") is None else WARNING
            yield verdict("GPU", not needed, "none here (no nvidia-smi)", login_node, lacking)
        return
    rows = [line.strip() for line in said.splitlines() if line.strip()]
    gpus = "; ".join(dict.fromkeys(rows)) + (f" ({len(rows)} GPUs)" if len(rows) > 1 else "")
    if not answered:
        yield Finding("GPU", PROBLEM, f"nvidia-smi: {said}", "The driver does not work; ask this machine's administrator.")
    elif not rows:
        yield Finding("GPU", WARNING, "the driver reports no GPU", login_node)
    elif torch.version.cuda is None:
        index = "https://pytorch.org/get-started says which index matches the driver."
        remedy = f"Install a CUDA build of the same version; {index}"
        yield Finding("GPU", PROBLEM, f"{gpus}; but torch {torch.__version__} is a CPU build", remedy)
    else:
        remedy = f"The driver may be too old for CUDA {torch.version.cuda}: update it, or install a build of torch for an older CUDA."
        yield verdict("GPU", usable, f"{gpus}; {f'CUDA {torch.version.cuda}' if usable else 'but torch cannot use it'}", remedy)


def check_write_speed(folder: Path) -> Iterator[Finding]:
    """Check that the results folder can be written, and how fast."""
    try:
        speed = write_speed(folder)
    except OSError as error:
        remedy = "Set `results` in the experiment to a folder that you can write to."
        yield Finding("writing", PROBLEM, f"{folder}: cannot be written ({error})", remedy)
        return
    remedy = "Writing checkpoints will be slow; set `results` in the experiment to a folder on a faster file system."
    yield verdict("writing", speed >= SLOW_MB, f"{folder}: {speed:.0f} MB/s", remedy, WARNING)


def write_speed(folder: Path) -> float:
    """Measure the megabytes per second written to `folder`, synced to disk; the file and created folders are removed."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    block = os.urandom(1 << 20)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".speechft-speed-") as file:
            started = time.perf_counter()
            for _ in range(WRITTEN_MB):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            return WRITTEN_MB * 1.048576 / max(1e-9, time.perf_counter() - started)
    finally:
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
