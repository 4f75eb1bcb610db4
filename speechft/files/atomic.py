"""Atomic outputs: written under a temporary name next to the target, then renamed."""

from __future__ import annotations

import contextlib
import errno
import glob
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from speechft.errors import OutputError, SpeechFTError, TransientError
from speechft.files.markers import read_record
from speechft.files.outputs import check_contents, check_folder, is_regular, remove_made, write_marker
from speechft.files.temporaries import remove_leftovers, temporary_sibling

logger = logging.getLogger(__name__)


def _mode_of_new_files(probe: Path) -> int:
    """Determine the permissions of new files by creating one; reading the umask would change it for all threads."""
    probe.touch()
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    return mode


def _allow(path: Path, mode: int) -> None:
    """Add `mode` to the permissions of a file; some libraries (safetensors) create files that only the owner can read."""
    if path.stat().st_mode & mode != mode:
        path.chmod(path.stat().st_mode | mode)


UNWRITABLE = {number: os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)}
"""System error number -> text, for errors that more free space or other permissions fix."""


def explain_unwritable(error: Exception, path: Path) -> TransientError | None:
    """Convert an error to a clear one if `path` could not be written; return None for other errors.

    safetensors wraps the system's error in its own, with the number in the text; torch only reports that its file is too short.
    """
    reason = UNWRITABLE.get(error.errno or 0) if isinstance(error, OSError) else None
    if reason is None and (wrapped := re.search(r"\(os error (\d+)\)", str(error))):
        reason = UNWRITABLE.get(int(wrapped[1]))
    if reason is None and isinstance(error, RuntimeError) and "inline_container" in str(error):
        reason = UNWRITABLE[errno.ENOSPC]
    return TransientError(f"{path}: cannot be written ({reason}). Check free space and permissions.") if reason else None


def make_parent(path: Path) -> None:
    """Create the folder of `path`.

    Raises:
        SpeechFTError: it cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        file = next((str(parent) for parent in path.parents if parent.is_file()), None)
        reason = f"{file} is a file" if file else error.strerror
        text = f"{path}: its folder cannot be created ({reason}). Name another output."
        raise explain_unwritable(error, path) or SpeechFTError(text) from None


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` on success, remove it on failure. Permissions follow the umask."""
    path = Path(path)
    if not is_regular(path):
        raise OutputError(f"{path}: a link, folder or device is not replaced by a file. Name another output.")
    make_parent(path)
    temporary = temporary_sibling(path)
    try:
        mode = _mode_of_new_files(temporary)
        yield temporary
        _allow(temporary, mode)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        _sync(path.parent)
    except Exception as error:
        if explained := explain_unwritable(error, path):
            raise explained from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: str | Path, made_by: str) -> Iterator[Path]:
    """Yield a temporary directory; rename it to `path` on success, remove it on failure.

    An older directory at `path` is replaced when the new one is complete, and only if the same command, `speechft MADE_BY`, made it and all
    its files (`speechft.files.outputs`). POSIX cannot exchange directories atomically: between two renames, `path` is briefly absent, but
    never partial. Permissions of files follow the umask.

    Raises:
        OutputError: `path` contains something else.
    """
    path = Path(path)
    check_folder(path, made_by)
    make_parent(path)
    temporary = temporary_sibling(path)
    retired = temporary_sibling(path)
    try:
        temporary.mkdir()
        mode = _mode_of_new_files(temporary / "probe")
        write_marker(temporary, made_by)
        yield temporary
        write_marker(temporary, made_by)
        for file in temporary.rglob("*"):
            if file.is_file() and not file.is_symlink():
                _allow(file, mode)
        for file in temporary.iterdir():
            _sync(file)
        if path.exists():
            check_contents(path, made_by)
            path.rename(retired)
        temporary.rename(path)
        _sync(path.parent)
        _discard(retired)
        remove_leftovers(path)
    except BaseException as error:
        if retired.exists() and not path.exists():
            retired.rename(path)
        if isinstance(error, Exception) and (explained := explain_unwritable(error, path)):
            raise explained from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _discard(folder: Path) -> None:
    """Remove a replaced folder, but keep foreign files that appeared in it meanwhile."""
    if not folder.exists():
        return
    record = read_record(folder)
    made = () if record is None else [glob.escape(file) for file in record.files if not file.endswith("/")]
    if kept := remove_made(folder, made):
        logger.warning("%s: contains %s, which speechft did not make; it is kept there.", folder, ", ".join(kept))


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk; some file systems cannot flush folders."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def scratch_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary directory on the same disk as `path`, and remove it afterwards."""
    path = Path(path)
    make_parent(path)
    temporary = temporary_sibling(path)
    try:
        temporary.mkdir()
        write_marker(temporary, "scratch")
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 `text` to `path` atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def from_here(path: str) -> str:
    """Return the path relative to the working folder if it is inside, else unchanged, so that a file always has the same name."""
    absolute = Path(path).absolute()
    return (absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else Path(path)).as_posix()
