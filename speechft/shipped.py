"""Files that come with the package and are no code: the workflow and `config/`.

In a clone they stand where the repository has them; an installed package holds a copy of them in `share/`.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
ROOT = _PACKAGE / "share" if (_PACKAGE / "share").is_dir() else _PACKAGE.parent
"""The folder of `Snakefile`, `rules/`, `config/` and `slurm/`."""
SNAKEFILE = ROOT / "Snakefile"
PAPER = Path("config/paper.yaml")
"""The experiment of verbs that are given none."""


def shipped(path: str | Path) -> Path:
    """Find a file such as `config/published.csv`: the one in the working folder, else the one that comes with the package.

    Where there is neither, the path itself is returned, for the message of whoever opens it.
    """
    own = Path(path)
    return own if own.exists() or not (ROOT / own).exists() else ROOT / own
