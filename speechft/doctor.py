"""Checks of the machine and the installation, for `speechft doctor`."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple


class Finding(NamedTuple):
    """One line of the report."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def _python() -> Finding:
    found = platform.python_version()
    return Finding("Python", (3, 11) <= sys.version_info[:2] < (3, 13), found, "Use Python 3.11 or 3.12.")


def _packages() -> Finding:
    wrong = []
    lock = Path(__file__).parents[1] / "envs" / "requirements.lock"
    if not lock.is_file():
        return Finding("packages", True, "no lock file beside this installation, versions not compared")
    for name in ("ve-fairseq", "transformers", "numpy", "hydra-core", "omegaconf", "lhotse", "snakemake"):
        locked = next((line.split("==")[1].split()[0] for line in lock.read_text().splitlines() if line.startswith(f"{name}==")), None)
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = "missing"
        if installed != locked:
            wrong.append(f"{name} {installed} (locked: {locked})")
    return Finding("packages", not wrong, ", ".join(wrong) or "as locked", "Run `make environment`.")


def _no_torchaudio() -> Finding:
    try:
        version = metadata.version("torchaudio")
    except metadata.PackageNotFoundError:
        return Finding("torchaudio", True, "absent, as it should be")
    return Finding("torchaudio", False, version, "Remove it (`pip uninstall torchaudio`): its wheel breaks `import transformers` here.")


def _torch() -> Finding:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return Finding("torch", torch.__version__.startswith("2.13.0"), f"{torch.__version__}, {device}", "Run `make environment`.")


def _fairseq() -> Finding:
    try:
        import fairseq
    except Exception as error:  # whatever a broken installation raises is the finding
        return Finding("fairseq", False, f"{type(error).__name__}: {error}", "Run `make environment`.")
    return Finding("fairseq", True, str(fairseq.__version__))


def _audio() -> Finding:
    import soundfile

    opus = "OPUS" in soundfile.available_subtypes("OGG")
    return Finding(
        "audio", opus, f"libsndfile {soundfile.__libsndfile_version__}", "This libsndfile can not read Opus; reinstall `soundfile`."
    )


def _disk() -> Finding:
    free = shutil.disk_usage(".").free / 2**30
    return Finding("disk", free > 5, f"{free:.0f} GB free here", "The demo needs 1 GB, the paper's experiment several hundred.")


CHECKS: tuple[Callable[[], Finding], ...] = (_python, _packages, _no_torchaudio, _torch, _fairseq, _audio, _disk)


def check_all() -> list[Finding]:
    """Run every check; none of them changes anything."""
    return [check() for check in CHECKS]
