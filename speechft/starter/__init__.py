"""The files of `speechft init`: an experiment folder for people with their own data."""

from __future__ import annotations

import contextlib
from pathlib import Path

from speechft.errors import OutputError
from speechft.files.atomic import write_text
from speechft.files.outputs import entries
from speechft.files.text import read_text
from speechft.shipped import ROOT

_FILES = ("Snakefile", "README.md", "config/experiment.yaml", "corpora/mine.csv")


def make_folder(folder: str | Path) -> list[Path]:
    """Write an experiment folder: the workflow as a module, a commented experiment, a corpus to replace, the Slurm profile.

    Args:
        folder: a new or empty folder.

    Returns:
        The files, in the order in which to read them.

    Raises:
        OutputError: the folder is not empty.
    """
    out = Path(folder)
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputError(f"{out}: is a {'link' if out.is_symlink() else 'file'}. Name a new folder.")
    if out.is_dir() and (there := sorted(entries(out))):
        raise OutputError(f"{out}: contains {there[0]}, which is not overwritten. Name a new or empty folder.")
    templates = Path(__file__).parent
    sources = {name: templates / name for name in _FILES}
    sources |= {".gitignore": templates / "gitignore", "slurm/config.yaml": ROOT / "slurm/config.yaml"}
    made = [out / name for name in sources]
    try:
        for path, source in zip(made, sources.values(), strict=True):
            write_text(path, read_text(source))
    except BaseException:  # the half of a folder would be in the way of the next try
        for path in made:
            path.unlink(missing_ok=True)
        for part in {path.parent for path in made} - {out}:
            with contextlib.suppress(OSError):  # it was not made yet
                part.rmdir()
        raise
    return made
