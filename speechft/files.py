"""Files that appear whole or not at all: temporary names, renames, hashes, locks."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechft.errors import SpeechFTError, TransientError
from speechft.repeated_keys import RepeatedKeyError, load_json

logger = logging.getLogger(__name__)


def _temporary_sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _mode_of_new_files(probe: Path) -> int:
    """Permissions of files made beside `probe`. They are asked of the file system: reading the umask means changing it for all threads."""
    probe.touch()
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    return mode


def _allow(path: Path, mode: int) -> None:
    """Add `mode` to the permissions of a file; some libraries (safetensors) make theirs readable by their owner alone."""
    if path.stat().st_mode & mode != mode:
        path.chmod(path.stat().st_mode | mode)


_UNWRITABLE = {number: os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)}


def explain_unwritable(error: Exception, path: Path) -> TransientError | None:
    """A clear error if `path` could not be written; None if something else was wrong in the block.

    safetensors wraps the system's error into its own, with the number in the text; torch only notices that its file is too short.
    """
    reason = _UNWRITABLE.get(error.errno or 0) if isinstance(error, OSError) else None
    if reason is None and (wrapped := re.search(r"\(os error (\d+)\)", str(error))):
        reason = _UNWRITABLE.get(int(wrapped[1]))
    if reason is None and isinstance(error, RuntimeError) and "inline_container" in str(error):
        reason = _UNWRITABLE[errno.ENOSPC]
    return TransientError(f"{path}: can not be written ({reason}). Check free space and permissions.") if reason else None


def make_parent(path: Path) -> None:
    """Make the folder of `path`.

    Raises:
        SpeechFTError: it can not be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        file = next((str(parent) for parent in path.parents if parent.is_file()), None)
        reason = f"{file} is a file" if file else error.strerror
        text = f"{path}: its folder can not be made ({reason}). Name another output."
        raise explain_unwritable(error, path) or SpeechFTError(text) from None


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on any failure. Permissions follow the umask."""
    path = Path(path)
    make_parent(path)
    temporary = _temporary_sibling(path)
    try:
        mode = _mode_of_new_files(temporary)
        yield temporary
        _allow(temporary, mode)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except Exception as error:
        if explained := explain_unwritable(error, path):
            raise explained from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary directory beside `path`; on success it takes the place of `path`, on failure it is removed.

    An older directory at `path` is kept until the new one is complete. POSIX has no atomic exchange of directories,
    so between two renames there is an instant without `path`; never one with a partial `path`. Permissions of files follow the umask.
    """
    path = Path(path)
    make_parent(path)
    temporary = _temporary_sibling(path)
    retired = _temporary_sibling(path)
    try:
        temporary.mkdir()
        mode = _mode_of_new_files(temporary / "probe")
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file() and not file.is_symlink():
                _allow(file, mode)
        if path.exists():
            path.rename(retired)
        temporary.rename(path)
    except Exception as error:
        if retired.exists() and not path.exists():
            retired.rename(path)
        if explained := explain_unwritable(error, path):
            raise explained from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 `text` to `path` atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and Inf are refused because other programs can not read them."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Parse a JSON file.

    Raises:
        SpeechFTError: the file is missing, is not JSON, or has a key twice.
    """
    try:
        return load_json(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SpeechFTError(f"{path}: no such file. Check its name; paths are relative to the folder that the command runs in.") from error
    except RepeatedKeyError as error:
        raise SpeechFTError(f"{path}: {error}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SpeechFTError(f"{path}: is not valid JSON ({error}). Delete it and run the job that makes it again.") from error


def sha256_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob_sha1(path: str | Path) -> str:
    """Hexadecimal SHA-1 by which git knows the content of a file."""
    digest = hashlib.sha1(b"blob %d\0" % Path(path).stat().st_size, usedforsecurity=False)
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Hexadecimal SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


LOCK_SECONDS = "SPEECHFT_LOCK_SECONDS"
"""Environment variable: how long a job waits for a lock. The workflow sets it; by hand it is 0, and a second job is refused at once."""


@contextlib.contextmanager
def exclusive_lock(path: str | Path, holder: str) -> Iterator[bool]:
    """Hold the lock file `path` while the block runs; yields whether another process had held it first.

    Who had to wait should look whether the other one has done the work. The system frees the lock when its holder dies, however that
    happens. On shared file systems this needs locks that work across nodes (NFS: yes; Lustre: mounted with `flock`).

    Raises:
        TransientError: another process works there, and still does after the seconds in SPEECHFT_LOCK_SECONDS; `holder` says at what.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    waited = False
    try:
        lock.acquire()
    except Timeout as error:
        refusal = f"{path}: another process is {holder} here. Wait for it or end it, then run this again."
        seconds = _lock_seconds()
        if not seconds:
            raise TransientError(refusal) from error
        logger.info("%s: another process is %s here; waiting for it", path, holder)
        waited = True
        try:
            lock.acquire(timeout=seconds, poll_interval=1.0)
        except Timeout:
            raise TransientError(refusal) from error
    try:
        yield waited
    finally:
        lock.release()


def _lock_seconds() -> float:
    text = os.environ.get(LOCK_SECONDS, "0")
    try:
        return float(text)
    except ValueError:
        raise SpeechFTError(f"{LOCK_SECONDS}={text}: is not a number of seconds. Set one, or unset the variable.") from None


def from_here(path: str) -> str:
    """The path from the working folder, so that the same file is always called the same; another one as it is."""
    found = Path(path).absolute()
    return (found.relative_to(Path.cwd()) if found.is_relative_to(Path.cwd()) else Path(path)).as_posix()
