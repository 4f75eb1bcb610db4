"""Rules on where outputs may be written, checked before a command starts its work.

A folder may be new, or replace a folder whose files were all made by the same command; a marker in the folder lists them. A file may be
new, or replace a file of the same kind. Nothing is written over an input, inside an input, or through a link. docs/outputs.md lists the
rules by command. This module does not import torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from speechft.errors import OutputError, first_of
from speechft.files.markers import MARKER, SNAKEMAKE_STAMP, read_record
from speechft.files.output_kinds import FIGURE, FIGURE_SVG, Kind
from speechft.files.temporaries import remove_leftovers

Inputs = Iterable[str | Path | None]
"""Files and folders that a command reads, or writes as another output; None is ignored."""
_ANOTHER = "Name another output"
_SHOWN = 3
_MAIN = ("model.safetensors", "corpus.json")
"""Main files; a folder without them is an incomplete remainder."""


def check_folder(out: str | Path, made_by: str, inputs: Inputs = ()) -> None:
    """Refuse a folder that `speechft MADE_BY` may not create or replace.

    Raises:
        OutputError: `out` is not allowed.
    """
    path = Path(out)
    _check_place(path, inputs, folder=True)
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputError(f"{path}: a file is not replaced by a folder. {_ANOTHER}.")
    check_contents(path, made_by)


def check_contents(folder: Path, made_by: str) -> None:
    """Refuse to replace an existing folder unless `speechft MADE_BY` made it and all its files.

    A folder whose weights or manifests are gone may be replaced by any command: before rerunning a job, Snakemake removes the outputs that
    it knows and leaves the others.

    Raises:
        OutputError: the folder has other files, or another command made it.
    """
    there = entries(folder)
    if not there:
        return
    record = read_record(folder)
    foreign = sorted(there if record is None else {entry for entry in there if not record.covers(entry)})
    if foreign:
        what = f"{first_of(foreign, _SHOWN)}, which `speechft {made_by}` did not make"
        raise OutputError(f"{folder}: contains {what}, so the folder is not replaced. {_ANOTHER}, or move them away.")
    if record is not None and record.made_by != made_by and any(Path(entry).name in _MAIN for entry in there):
        refusal = f"was made by `speechft {record.made_by}`, so `speechft {made_by}` does not replace it"
        raise OutputError(f"{folder}: {refusal}. {_ANOTHER}, or remove it.")


def entries(folder: Path) -> set[str]:
    """List files, links and empty folders below `folder` as relative paths, without the marker and Snakemake's timestamps."""
    listed = set()
    for root, folders, files in os.walk(folder):
        here = Path(root)
        names = [name for name in files if name not in (MARKER, SNAKEMAKE_STAMP)]
        links = [name for name in folders if (here / name).is_symlink()]
        listed |= {(here / name).relative_to(folder).as_posix() for name in (*names, *links)}
        if here != folder and not names and not folders:
            listed.add(f"{here.relative_to(folder).as_posix()}/")
    return listed


def check_file(out: str | Path, kind: Kind, inputs: Inputs = ()) -> None:
    """Refuse a file that may not be created or replaced: an existing one must be of `kind` or empty.

    Raises:
        OutputError: `out` is not allowed.
    """
    path = Path(out)
    _check_place(path, inputs, folder=False)
    if path.is_dir():
        raise OutputError(f"{path}: a folder is not replaced by a file. {_ANOTHER}.")
    remove_leftovers(path)
    if not path.exists():
        return
    if not path.is_file():
        raise OutputError(f"{path}: a device or pipe is not replaced by a file. {_ANOTHER}.")
    if path.stat().st_size and not kind.recognizes(path):
        raise OutputError(f"{path}: exists and is not {kind.what}, so it is not replaced. {_ANOTHER}, or remove it.")


def check_figure(out_png: str | Path, inputs: Inputs = ()) -> None:
    """Refuse a figure if one of its two files may not be written; see `check_file`."""
    inputs = list(inputs)
    check_file(out_png, FIGURE, inputs)
    if (svg := Path(out_png).with_suffix(".svg")) != Path(out_png):
        check_file(svg, FIGURE_SVG, inputs)


def check_shown(
    out_dir: str | Path, figures_dir: str | Path | None, name: str, suffixes: Sequence[str], kind: Kind, inputs: Inputs = ()
) -> None:
    """Refuse a table (`NAME.csv` and related files in `out_dir`) and its figure in `figures_dir` if they may not be written.

    Other files in the folders stay. The content of the CSV decides for all files of the table.

    Raises:
        OutputError: a file may not be written; see `check_file`.
    """
    inputs, table = list(inputs), Path(out_dir) / f"{name}.csv"
    check_file(table, kind, inputs)
    part = Kind(f"part of a speechft table, since there is no {table.name}", lambda _: table.is_file() and table.stat().st_size > 0)
    for suffix in suffixes:
        check_file(table.with_name(f"{name}{suffix}"), part, inputs)
    if figures_dir is not None:
        check_figure(Path(figures_dir) / f"{name}.png", inputs)


def check_work_folder(work: str | Path, marker: str | None, inputs: Inputs, out: str | Path) -> None:
    """Refuse a work directory that is a link, contains or is inside an input or the output `out`, or was not made as one.

    The file `marker` marks a work directory; it is None if the command only adds its own files.

    Raises:
        OutputError: `work` is not allowed.
    """
    path, inputs = Path(work), list(inputs)
    remedy = "Name another work directory"
    _check_place(path, inputs, folder=True, remedy=remedy, changing=marker is not None)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: a file, not a folder. {remedy}.")
    if marker is None:
        return
    real, target = path.resolve(), Path(out).resolve()
    if real.is_relative_to(target) or target.is_relative_to(real):
        raise OutputError(f"{path}: one of the work directory and the output {out} is inside the other. {remedy}, outside the output.")
    if path.is_dir() and (there := entries(path)) and not (path / marker).is_file():
        raise OutputError(f"{path}: contains {min(there)} and is not a work directory of speechft. {remedy}, or an empty one.")


def check_added(folder: str | Path, inputs: Inputs, out: str | Path) -> None:
    """Refuse a folder for additional files, such as TensorBoard's, if it is inside the output `out` or an input.

    Raises:
        OutputError: `folder` is not allowed.
    """
    path = Path(folder)
    _check_place(path, inputs, folder=False)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: a file, not a folder. {_ANOTHER}.")
    if path.resolve().is_relative_to(Path(out).resolve()):
        raise OutputError(f"{path}: is inside the output {out}, which is replaced as a whole. Name another folder.")


def _check_place(path: Path, inputs: Inputs, *, folder: bool, remedy: str = _ANOTHER, changing: bool = True) -> None:
    """Check the rules common to files and folders."""
    if path.is_symlink():
        raise OutputError(f"{path}: is a link to {path.readlink()}; nothing is written through links. Name {path.resolve()} instead.")
    real = path.resolve()
    if changing and (path.name in ("", "..") or (folder and _is_everyones(real))):
        what = "the working folder, a parent of it, a home or a mount point"
        raise OutputError(f"{path}: is {what}, which is never replaced. {remedy}, such as a new folder.")
    identity, above = _identity(real), {_identity(parent) for parent in real.parents}
    for given in inputs:
        if given is None:
            continue
        if (status := _status(Path(given))) is None:
            if Path(given).resolve() == real:  # another output of the command
                raise OutputError(f"{path}: is named for two results of this command. {remedy}.")
            continue
        source = (status.st_dev, status.st_ino)
        if identity is not None and source == identity:
            raise OutputError(f"The output {path} is the input {given}. {remedy}.")
        if stat.S_ISDIR(status.st_mode) and source in above:
            raise OutputError(f"The output {path} is inside the input {given}. {remedy}, outside the inputs.")
        if folder and identity is not None and identity in {_identity(parent) for parent in Path(given).resolve().parents} and changing:
            raise OutputError(f"The input {given} is inside the output {path}, which is replaced as a whole. {remedy}.")
    if (file := next((parent for parent in path.parents if parent.is_file()), None)) is not None:
        raise OutputError(f"{path}: its folder cannot be created ({file} is a file). {remedy}.")


def _is_everyones(real: Path) -> bool:
    """Whether a folder is the working folder or a parent of it, a mount point, or a home."""
    homes: set[Path] = set()
    with contextlib.suppress(KeyError, RuntimeError):  # the user id may have no entry in a container
        homes = {Path(pwd.getpwuid(os.getuid()).pw_dir).resolve(), Path.home().resolve()}
    return Path.cwd().is_relative_to(real) or real in homes or real.is_mount()


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode, equal for all names of a file or folder; None if it does not exist."""
    status = _status(path)
    return None if status is None else (status.st_dev, status.st_ino)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def write_marker(folder: Path, made_by: str) -> None:
    """Record in a complete folder the command that made it and its files."""
    record = {"schema": 1, "made_by": made_by, "files": sorted(entries(folder))}
    (folder / MARKER).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def remove_made(folder: Path, made: Iterable[str]) -> list[str]:
    """Remove the entries `made` (glob patterns below `folder`) and folders left empty; return the remaining foreign entries."""
    for pattern in (*made, MARKER, f"**/{MARKER}", SNAKEMAKE_STAMP, f"**/{SNAKEMAKE_STAMP}"):
        for path in [path for path in folder.glob(pattern) if path.is_symlink() or not path.is_dir()]:
            path.unlink(missing_ok=True)
    for root, _, _ in os.walk(folder, topdown=False):
        if not any(Path(root).iterdir()):
            Path(root).rmdir()
    return sorted(entries(folder)) if folder.exists() else []


def is_regular(path: Path) -> bool:
    """Whether a file may replace `path`: it does not exist, or is a regular file and not a link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
