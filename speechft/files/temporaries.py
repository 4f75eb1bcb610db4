"""Hidden names beside an output for what is not complete yet, and what is left of them when a process was killed."""

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
    """A hidden name beside `path` that says which process of which machine uses it."""
    return path.with_name(f".{path.name}.{_HOST}{os.getpid():08x}{uuid.uuid4().hex[:4]}.tmp")


def remove_leftovers(path: Path) -> None:
    """Remove what processes left beside `path` that were killed while they made it.

    A name tells the machine and the process. Those of this machine that have ended are removed at once, those of other machines after a
    day without a change. Folders must carry our marker, too.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}\.([0-9a-f]{{4}})([0-9a-f]{{8}})[0-9a-f]{{4}}\.tmp")
    if not path.parent.is_dir():
        return
    for found in path.parent.iterdir():
        match = pattern.fullmatch(found.name)
        if match is None or found.is_symlink() or (found.is_dir() and not (found / MARKER).is_file()):
            continue
        with contextlib.suppress(OSError):
            if _has_ended(int(match[2], 16)) if match[1] == _HOST else time.time() - _last_change(found) > _DAY_SECONDS:
                if found.is_dir():
                    shutil.rmtree(found, ignore_errors=True)
                else:
                    found.unlink()


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
    return max(float(found.lstat().st_mtime) for found in (path, *inside))
