"""Files that appear whole or not at all: temporary names, renames, hashes, locks."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import logging
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechft.errors import OutputError, SpeechFTError, TransientError
from speechft.output_records import read_record
from speechft.outputs import check_contents, check_folder, is_regular, remove_made, write_marker
from speechft.repeated_keys import RepeatedKeyError, load_json
from speechft.temporaries import remove_leftovers, temporary_sibling
from speechft.text_files import read_text

logger = logging.getLogger(__name__)


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


_UNWRITABLE = {number: os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)}


def explain_unwritable(error: Exception, path: Path) -> TransientError | None:
    """A clear error if `path` could not be written; None if something else was wrong in the block.

    safetensors wraps the system's error into its own, with the number in the text; torch only notices that its file is too short.
    """
    reason = _UNWRITABLE.get(error.errno or 0) if isinstance(error, OSError) else None
    if reason is None and (wrapped := re.search(r"\(os error (\d+)\)", str(error))):
        reason = _UNWRITABLE.get(int(wrapped[1]))
    if reason is None and isinstance(error, RuntimeError) and "inline_container" in str(error):
        reason = _UNWRITABLE[errno.ENOSPC]
    return TransientError(f"{path}: cannot be written ({reason}). Check free space and permissions.") if reason else None


def make_parent(path: Path) -> None:
    """Make the folder of `path`.

    Raises:
        SpeechFTError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        file = next((str(parent) for parent in path.parents if parent.is_file()), None)
        reason = f"{file} is a file" if file else error.strerror
        text = f"{path}: its folder cannot be made ({reason}). Name another output."
        raise explain_unwritable(error, path) or SpeechFTError(text) from None


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on any failure. Permissions follow the umask."""
    path = Path(path)
    if not is_regular(path):
        raise OutputError(f"{path}: is a link, a folder or a device, so no file replaces it. Name another output.")
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
    """Yield a temporary directory beside `path`; on success it takes the place of `path`, on failure it is removed.

    An older directory at `path` is kept until the new one is complete, and is replaced only if the same command made it and all that is
    in it (`speechft.outputs`). POSIX has no atomic exchange of directories, so between two renames there is an instant without `path`;
    never one with a partial `path`. Permissions of files follow the umask.

    Args:
        path: the directory.
        made_by: the verb that makes it, for its marker.

    Raises:
        OutputError: something else is at `path`.
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
    """Remove a folder that was replaced; a file that came into it in the last instant is not ours and stays."""
    if not folder.exists():
        return
    record = read_record(folder)
    made = () if record is None else [glob.escape(file) for file in record.files if not file.endswith("/")]
    if kept := remove_made(folder, made):
        logger.warning("%s: holds %s, which speechft did not make; it is kept there.", folder, ", ".join(kept))


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk; some file systems cannot do it for folders."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def scratch_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary directory beside `path`, on the same disk, that is removed in the end."""
    path = Path(path)
    make_parent(path)
    temporary = temporary_sibling(path)
    try:
        temporary.mkdir()
        write_marker(temporary, "scratch")
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as an exception does, so that temporary files are removed; status 143, as shells call it."""
    main = os.getpid()

    def end(number: int, _frame: object) -> None:
        if os.getpid() != main:  # a worker process, whose temporary files are its parent's
            os._exit(128 + number)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 `text` to `path` atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and Inf are refused because other programs cannot read them."""
    try:
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise SpeechFTError(f"{path}: a number for it is NaN or infinite. Look for it in what it is made of.") from None
    write_text(path, f"{text}\n")


def read_json(path: str | Path) -> Any:
    """Parse a JSON file.

    Raises:
        SpeechFTError: the file is missing, is not JSON, or has a key twice.
    """
    try:
        return load_json(read_text(path))
    except FileNotFoundError as error:
        raise SpeechFTError(f"{path}: no such file. Check its name; paths are relative to the folder that the command runs in.") from error
    except RepeatedKeyError as error:
        raise SpeechFTError(f"{path}: {error}.") from None
    except (ValueError, RecursionError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else error
        raise SpeechFTError(f"{path}: is not valid JSON ({problem}). Delete it and run the job that makes it again.") from error


def read_json_mapping(path: str | Path) -> dict[str, Any]:
    """Parse a JSON file that holds a mapping.

    Raises:
        SpeechFTError: the file is missing, is not JSON, or holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        found = "null" if value is None else f"a {type(value).__name__}"
        raise SpeechFTError(f"{path}: holds {found} where a mapping is needed. Delete it and run the job that makes it again.")
    return value


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
