"""The files of `speechft init`: an experiment folder for people with their own data."""

from __future__ import annotations

import shutil
from pathlib import Path

from speechft.errors import OutputError
from speechft.files.outputs import entries
from speechft.shipped import ROOT

_FILES = ("Snakefile", "README.md", "config/experiment.yaml", "corpora/mine.csv")


def make_folder(folder: str | Path) -> list[Path]:
    """Write an experiment folder: the workflow as a module, an experiment with comments, a corpus to replace, the profile for Slurm.

    Args:
        folder: a new or empty folder.

    Returns:
        The files, in the order in which a reader wants to see them.

    Raises:
        OutputError: the folder holds something already.
    """
    out = Path(folder)
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputError(f"{out}: is a {'link' if out.is_symlink() else 'file'}. Name a new folder.")
    if out.is_dir() and (there := sorted(entries(out))):
        raise OutputError(f"{out}: holds {there[0]} already, and nothing of yours is overwritten. Name a new or empty folder.")
    templates = Path(__file__).parent
    sources = {name: templates / name for name in _FILES}
    sources |= {".gitignore": templates / "gitignore", "slurm/config.yaml": ROOT / "slurm/config.yaml"}
    for name, source in sources.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, out / name)
    return [out / name for name in sources]
