"""Temporary files and folders next to outputs, and removal of those left behind by killed processes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import time
import uuid
import zlib
from pathlib import Path

from speechft.files.markers import MARKER

_HOST = f"{zlib.crc32(socket.gethostname().encode()) & 0xFFFF:04x}"
_DAY_SECONDS = 86_400.0


def temporary_sibling(path: Path) -> Path:
    """Return a hidden name next to `path` that encodes the machine and the process."""
    return path.with_name(f".{path.name}.{_HOST}{os.getpid():08x}{uuid.uuid4().hex[:4]}.tmp")


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` that killed processes left behind.

    The name encodes machine and process. Leftovers of this machine's ended processes are removed at once, those of other machines after a
    day without changes. Folders must also have speechft's marker.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}\.([0-9a-f]{{4}})([0-9a-f]{{8}})[0-9a-f]{{4}}\.tmp")
    if not path.parent.is_dir():
        return
    for entry in path.parent.iterdir():
        match = pattern.fullmatch(entry.name)
        if match is None or entry.is_symlink() or (entry.is_dir() and not (entry / MARKER).is_file()):
            continue
        with contextlib.suppress(OSError):
            if _has_ended(int(match[2], 16)) if match[1] == _HOST else time.time() - _last_change(entry) > _DAY_SECONDS:
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink()


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False


def _last_change(path: Path) -> float:
    inside = path.rglob("*") if path.is_dir() else ()
    return max(float(entry.lstat().st_mtime) for entry in (path, *inside))
