"""Kinds of output files, recognized by their content so that no other file is replaced. This module does not import torch."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from speechft.files.hashes import sha256_bytes

PROGRAM = "speechft"
"""Creator named in figures, and folder name in the archives of exports."""


@dataclass(frozen=True)
class Kind:
    """A kind of output file: `what` names it in errors, `recognizes` tests a file."""

    what: str
    recognizes: Callable[[Path], bool]


def _has_keys(*keys: str) -> Callable[[Path], bool]:
    def recognizes(path: Path) -> bool:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(value, dict) and all(key in value for key in keys)

    return recognizes


def _is_schema(path: Path) -> bool:
    return _has_keys("$schema", "$defs", "properties")(path) and json.loads(path.read_text(encoding="utf-8")).get("title") == "Experiment"


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)


def _begins(*columns: str) -> Callable[[Path], bool]:
    """Test whether the first columns of a CSV file are `columns`."""
    return lambda path: _start(path).decode("utf-8", errors="replace").split("\n")[0].strip().split(",")[: len(columns)] == list(columns)


def _is_figure(path: Path) -> bool:
    start = _start(path)
    return start.startswith(b"\x89PNG\r\n\x1a\n") and f"tEXtSoftware\0{PROGRAM}".encode() in start


_SVG_CREATOR = re.compile(rb"<svg.*<dc:creator>\s*<cc:Agent>\s*<dc:title>" + PROGRAM.encode() + rb"</dc:title>", re.DOTALL)


def _begins_with(pattern: str) -> Callable[[Path], bool]:
    """Recognize a ZIP archive by the name of its first file."""

    def recognizes(path: Path) -> bool:
        try:
            with zipfile.ZipFile(path) as archive:
                return re.fullmatch(pattern, archive.namelist()[0]) is not None
        except (OSError, zipfile.BadZipFile, IndexError, ValueError):
            return False

    return recognizes


def _is_safetensors(path: Path) -> bool:
    start = _start(path)
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


_SEAL = re.compile(r"# SHA-256 of the lines below: ([0-9a-f]{64})\n")


def sealed(text: str) -> str:
    """Prepend a hash line to text, from which later edits are detected."""
    return f"# SHA-256 of the lines below: {sha256_bytes(text.encode())}\n{text}"


def _is_sealed(path: Path) -> bool:
    content = path.read_bytes()
    seal = _SEAL.match(content[:200].decode("utf-8", errors="replace"))
    return seal is not None and sha256_bytes(content[seal.end() :]) == seal[1]


CELL = Kind("a cell of `speechft evaluate`", _has_keys("schema", "model", "task", "metrics", "trials", "hashes"))
ANALYSIS = Kind("a result of `speechft analyse`", _has_keys("schema", "model", "start_sha256", "deviation", "states"))
SCHEMA = Kind("a schema of `speechft schema`", _is_schema)
SPEEDS = Kind("a file of `speechft calibrate`", _has_keys("devices"))
TABLE = Kind("a table of `speechft tables`", _begins("table", "encoder", "finetuning", "method", "label", "task", "metric"))
DIFFERENCES = Kind(
    "a table of `speechft report differences`", _begins("encoder", "finetuning", "method", "minus_encoder", "minus_finetuning")
)
CHOICE = Kind("a choice of `speechft choose`", _has_keys("schema", "alpha", "best", "rule", "points", "without"))
CONNECTION = Kind("a result of `speechft connect`", _has_keys("schema", "task", "points", "loss_barrier", "error_barrier"))
CURVE = Kind("a table of `speechft report alpha`", _begins("alpha", "task", "metric", "mean"))
SIMILARITY = Kind("a table of `speechft report similarity`", _begins("encoder", "finetuning", "method", "label"))
CONNECTION_TABLE = Kind("a table of `speechft report connection`", _begins("alpha", "loss", "start", "end", "task", "split", "head"))
SUPERB_EXPERIMENT = Kind("an experiment as `speechft superb` derived it", _is_sealed)
PAGE = Kind("a page of `speechft report`", lambda path: f'<meta name="generator" content="{PROGRAM}">'.encode() in _start(path))
FIGURE = Kind("a figure of speechft", _is_figure)
FIGURE_SVG = Kind("a figure of speechft", lambda path: _SVG_CREATOR.search(_start(path)) is not None)
# torch names the folder in an archive after the file; older exports were written under a temporary name.
EXPORT = Kind("an export of speechft", _begins_with(rf"({PROGRAM}|\..+\.[0-9a-f]{{8}})/data\.pkl"))
REHEARSAL = Kind("the record of a rehearsal", _has_keys("rehearsal_of", "corpora", "encoders"))
REHEARSED = Kind("an experiment as `speechft rehearse` derived it", _is_sealed)
SMALL_ENCODER = Kind("a small encoder of `speechft rehearse`", _begins_with("rehearsal/data\\.pkl"))
MERGED = Kind("a safetensors file", _is_safetensors)
