"""Where outputs may be written: one rule for every verb, checked before its work starts.

A folder is written where nothing is, or over what the same command made there and nothing else: it carries a marker that lists its files.
A file is written where nothing is, or over a file of the same kind. Nothing is written over an input, inside an input, or through a
link. docs/outputs.md has the rule as a table, a row a verb. No torch here.
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
"""Files and folders that a command reads, or writes besides; None is left out."""
_ANOTHER = "Name another output"
_SHOWN = 3
_MAIN = ("model.safetensors", "corpus.json")
"""Files without which a folder is but what is left of one."""


def check_folder(out: str | Path, made_by: str, inputs: Inputs = ()) -> None:
    """Refuse a folder that `speechft MADE_BY` may not write, or not replace.

    Raises:
        OutputError: says what is there, and what to do.
    """
    path = Path(out)
    _check_place(path, inputs, folder=True)
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputError(f"{path}: is a file, and the output is a folder, so it is not replaced. {_ANOTHER}.")
    check_contents(path, made_by)


def check_contents(folder: Path, made_by: str) -> None:
    """Refuse to replace an existing folder unless `speechft MADE_BY` made it and all that is in it.

    What is left of a folder whose weights or manifests are gone may be replaced by any command: Snakemake removes the outputs that it
    knows before it makes them again, and leaves the others.

    Raises:
        OutputError: names files that speechft did not make, or the command that made the folder.
    """
    there = entries(folder)
    if not there:
        return
    record = read_record(folder)
    foreign = sorted(there if record is None else {entry for entry in there if not record.covers(entry)})
    if foreign:
        what = f"{first_of(foreign, _SHOWN)}, which `speechft {made_by}` did not make"
        raise OutputError(f"{folder}: holds {what}, so the folder is not replaced. {_ANOTHER}, or move them away.")
    if record is not None and record.made_by != made_by and any(Path(entry).name in _MAIN for entry in there):
        refusal = f"was made by `speechft {record.made_by}`, so `speechft {made_by}` does not replace it"
        raise OutputError(f"{folder}: {refusal}. {_ANOTHER}, or remove it.")


def entries(folder: Path) -> set[str]:
    """Files, links and empty folders below `folder`, as relative paths; not the marker, nor Snakemake's time stamps."""
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
    """Refuse a file that may not be written, or not replaced: an existing one must be of `kind`, or empty.

    Raises:
        OutputError: says what is there, and what to do.
    """
    path = Path(out)
    _check_place(path, inputs, folder=False)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, and the output is a file. {_ANOTHER}.")
    remove_leftovers(path)
    if not path.exists():
        return
    if not path.is_file():
        raise OutputError(f"{path}: is a device or a pipe, which a file would replace. {_ANOTHER}.")
    if path.stat().st_size and not kind.recognizes(path):
        raise OutputError(f"{path}: exists and is not {kind.what}, so it is not replaced. {_ANOTHER}, or remove it.")


def check_figure(out_png: str | Path, inputs: Inputs = ()) -> None:
    """Refuse a figure, which is two files, where one of them may not be written; see `check_file`."""
    inputs = list(inputs)
    check_file(out_png, FIGURE, inputs)
    if (svg := Path(out_png).with_suffix(".svg")) != Path(out_png):
        check_file(svg, FIGURE_SVG, inputs)


def check_shown(
    out_dir: str | Path, figures_dir: str | Path | None, name: str, suffixes: Sequence[str], kind: Kind, inputs: Inputs = ()
) -> None:
    """Refuse a table, `NAME.csv` and the like in `out_dir`, and its figure in `figures_dir`, that may not be written.

    The folders may hold anything else, which stays. The CSV says whose the files are; the others of the set go with it.

    Raises:
        OutputError: see `check_file`.
    """
    inputs, table = list(inputs), Path(out_dir) / f"{name}.csv"
    check_file(table, kind, inputs)
    part = Kind(f"a part of a table of speechft, as {table.name} is not there", lambda _: table.is_file() and table.stat().st_size > 0)
    for suffix in suffixes:
        check_file(table.with_name(f"{name}{suffix}"), part, inputs)
    if figures_dir is not None:
        check_figure(Path(figures_dir) / f"{name}.png", inputs)


def check_work_folder(work: str | Path, marker: str | None, inputs: Inputs, out: str | Path) -> None:
    """Refuse a folder for work that is a link, holds or lies in an input or the output `out`, or was not made for work.

    The file `marker` says that a folder is one for work; it is None where the command only adds files of its own.

    Raises:
        OutputError: says what is wrong, and what to do.
    """
    path, inputs = Path(work), list(inputs)
    remedy = "Name another work directory"
    _check_place(path, inputs, folder=True, remedy=remedy, changing=marker is not None)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file. {remedy}.")
    if marker is None:
        return
    real, target = path.resolve(), Path(out).resolve()
    if real.is_relative_to(target) or target.is_relative_to(real):
        raise OutputError(f"{path}: the work directory and the output {out} lie inside one another. {remedy}, outside of the output.")
    if path.is_dir() and (there := entries(path)) and not (path / marker).is_file():
        raise OutputError(f"{path}: holds {min(there)} and is no work directory of speechft. {remedy}, or an empty one.")


def check_added(folder: str | Path, inputs: Inputs, out: str | Path) -> None:
    """Refuse a folder that gets files beside a result, such as TensorBoard's, where it is the result's own or an input's.

    Raises:
        OutputError: says what is wrong, and what to do.
    """
    path = Path(folder)
    _check_place(path, inputs, folder=False)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file, and a folder is needed. {_ANOTHER}.")
    if path.resolve().is_relative_to(Path(out).resolve()):
        raise OutputError(f"{path}: lies inside the output {out}, which is replaced as a whole. Name another folder.")


def _check_place(path: Path, inputs: Inputs, *, folder: bool, remedy: str = _ANOTHER, changing: bool = True) -> None:
    """What holds for files and folders alike, whatever is there."""
    if path.is_symlink():
        raise OutputError(f"{path}: is a link to {path.readlink()}, and nothing is written through a link. Name {path.resolve()} itself.")
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
            raise OutputError(f"The output {path} lies inside the input {given}. {remedy}, outside of the inputs.")
        if folder and identity is not None and identity in {_identity(parent) for parent in Path(given).resolve().parents} and changing:
            raise OutputError(f"The input {given} lies inside the output {path}, which is replaced as a whole. {remedy}.")
    if (file := next((parent for parent in path.parents if parent.is_file()), None)) is not None:
        raise OutputError(f"{path}: its folder cannot be made ({file} is a file). {remedy}.")


def _is_everyones(real: Path) -> bool:
    """Whether a folder is the working folder or above it, a mount point or the user's home."""
    homes: set[Path] = set()
    with contextlib.suppress(KeyError, RuntimeError):  # in a container there may be no entry for the user's number
        homes = {Path(pwd.getpwuid(os.getuid()).pw_dir).resolve(), Path.home().resolve()}
    return Path.cwd().is_relative_to(real) or real in homes or real.is_mount()


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, which are the same for all names of a file or folder; None where nothing is."""
    status = _status(path)
    return None if status is None else (status.st_dev, status.st_ino)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def write_marker(folder: Path, made_by: str) -> None:
    """Let a complete folder say which command made it and which files it made."""
    record = {"schema": 1, "made_by": made_by, "files": sorted(entries(folder))}
    (folder / MARKER).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def remove_made(folder: Path, made: Iterable[str]) -> list[str]:
    """Remove the entries `made` (glob patterns below `folder`) and folders that are then empty; returns what stays, which is not ours."""
    for pattern in (*made, MARKER, f"**/{MARKER}", SNAKEMAKE_STAMP, f"**/{SNAKEMAKE_STAMP}"):
        for path in [path for path in folder.glob(pattern) if path.is_symlink() or not path.is_dir()]:
            path.unlink(missing_ok=True)
    for root, _, _ in os.walk(folder, topdown=False):
        if not any(Path(root).iterdir()):
            Path(root).rmdir()
    return sorted(entries(folder)) if folder.exists() else []


def is_regular(path: Path) -> bool:
    """Whether `path` may be replaced by a file at all: nothing, or a regular file that is no link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
