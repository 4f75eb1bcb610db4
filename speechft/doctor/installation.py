"""Python, packages and their versions."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from speechft.doctor.findings import OK, PROBLEM, WARNING, Finding

LOCK = Path(__file__).parents[2] / "envs" / "requirements.lock"
MADE = "Run `make environment`."
# Another version of these is known to break something, or to give other numbers.
CRITICAL = (
    "ve-fairseq",
    "transformers",
    "numpy",
    "hydra-core",
    "omegaconf",
    "lhotse",
    "snakemake",
    "snakemake-executor-plugin-slurm",
    "peft",
)
_LINE = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+?)(?:\s*;\s*(.*?))?\s*\\?$")
_SHOWN = 4


def check_python() -> Iterable[Finding]:
    """3.11 or 3.12."""
    good = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Finding(
        "Python", OK if good else PROBLEM, platform.python_version(), "" if good else "Use Python 3.11 or 3.12: `make PYTHON=python3.11`."
    )


def locked_versions(text: str) -> dict[str, str]:
    """Packages of a lock file that belong to this platform, and their versions."""
    from packaging.markers import Marker

    found = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match and (not match[3] or Marker(match[3]).evaluate()):
            found[match[1]] = match[2]
    return found


def check_packages() -> Iterable[Finding]:
    """Every installed package against the lock file."""
    if not LOCK.is_file():
        yield Finding("packages", WARNING, "no lock file beside this installation, versions not compared", "Install from a clone.")
        return
    wrong, grave = [], False
    locked = locked_versions(LOCK.read_text(encoding="utf-8"))
    for name, version in locked.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = "missing"
        if installed != version:
            wrong.append(f"{name} {installed} (locked: {version})")
            grave = grave or name in CRITICAL or installed == "missing"
    if not wrong:
        yield Finding("packages", OK, f"all {len(locked)} as locked")
        return
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    yield Finding("packages", PROBLEM if grave else WARNING, ", ".join(wrong[:_SHOWN]) + more, MADE)


def check_torchaudio() -> Iterable[Finding]:
    """It must not be there."""
    try:
        version = metadata.version("torchaudio")
    except metadata.PackageNotFoundError:
        yield Finding("torchaudio", OK, "absent, as it should be")
        return
    yield Finding("torchaudio", PROBLEM, version, "Remove it (`pip uninstall torchaudio`): its wheel breaks `import transformers` here.")


def check_torch() -> Iterable[Finding]:
    """Version and kind of build."""
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    right = torch.__version__.split("+")[0] == "2.13.0"
    found = f"{torch.__version__}, {build}, {torch.get_num_threads()} threads"
    yield Finding("torch", OK if right else PROBLEM, found, "" if right else MADE)


def check_fairseq() -> Iterable[Finding]:
    """It can be imported."""
    try:
        import fairseq
    except Exception as error:  # whatever a broken installation raises is the finding
        yield Finding("fairseq", PROBLEM, f"{type(error).__name__}: {error}", MADE)
        return
    yield Finding("fairseq", OK, str(fairseq.__version__))


def check_audio() -> Iterable[Finding]:
    """The library that decodes knows Opus, which the mini corpus is in."""
    import soundfile

    opus = "OPUS" in soundfile.available_subtypes("OGG")
    remedy = "" if opus else "This libsndfile cannot read Opus; reinstall `soundfile`."
    yield Finding("audio", OK if opus else PROBLEM, f"libsndfile {soundfile.__libsndfile_version__}", remedy)


INSTALLATION_CHECKS: tuple[Callable[[], Iterable[Finding]], ...] = (
    check_python,
    check_packages,
    check_torchaudio,
    check_torch,
    check_fairseq,
    check_audio,
)
