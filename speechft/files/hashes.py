"""Hashes of files and of JSON values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def sha256_file(path: str | Path) -> str:
    """Compute the hexadecimal SHA-256 of a file."""
    return _of_content(path, hashlib.sha256())


def git_blob_sha1(path: str | Path) -> str:
    """Compute the hexadecimal SHA-1 of a file as a git blob."""
    return _of_content(path, hashlib.sha1(b"blob %d\0" % Path(path).stat().st_size, usedforsecurity=False))


def _of_content(path: str | Path, digest: Any) -> str:
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return str(digest.hexdigest())


def sha256_json(value: Any) -> str:
    """Compute the hexadecimal SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def sha256_bytes(content: bytes) -> str:
    """Compute the hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()
