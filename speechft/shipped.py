"""Files shipped with the package that are not Python: the workflow and `config/`.

A clone has them at its root, an installed package in `share/`.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
ROOT = _PACKAGE / "share" if (_PACKAGE / "share").is_dir() else _PACKAGE.parent
"""Folder with `Snakefile`, `rules/`, `config/` and `slurm/`."""
SNAKEFILE = ROOT / "Snakefile"
PAPER = Path("config/paper.yaml")
"""Default experiment of commands."""


def shipped(path: str | Path) -> Path:
    """Find a file such as `config/published.csv` in the working folder, otherwise in the package.

    If neither exists, `path` itself is returned, so that the error of opening it names it.
    """
    own = Path(path)
    return own if own.exists() or not (ROOT / own).exists() else ROOT / own
