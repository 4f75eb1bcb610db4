"""Robust text input: byte-order marks, Unicode normal forms, and file names in either form."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Literal

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: str | Path) -> str:
    """Read a UTF-8 file, without a byte-order mark at its start.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: the file is not UTF-8 text; UTF-16 is recognized in the message.
    """
    return decode(Path(path).read_bytes())


def read_names(path: str | Path) -> str:
    """Read a UTF-8 file in Unicode NFC, so that equal names compare equal; not for files with file names in them.

    Raises:
        OSError, UnicodeDecodeError: see `read_text`.
    """
    return nfc(read_text(path))


def decode(content: bytes, errors: Literal["strict", "surrogateescape"] = "strict") -> str:
    """Decode UTF-8 without byte-order marks, with newlines as line ends.

    Raises:
        UnicodeDecodeError: the content is UTF-16, has a NUL, or, with `errors` strict, is not UTF-8.
    """
    if content.startswith(_UTF16_MARKS):
        raise UnicodeDecodeError("utf-8", content, 0, 2, "it is UTF-16; save it as UTF-8")
    if (place := content.find(b"\0")) >= 0:
        raise UnicodeDecodeError("utf-8", content, place, place + 1, "text cannot contain NUL; save it as UTF-8, or give the right file")
    text = content.decode("utf-8", errors).lstrip("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def nfc(text: str) -> str:
    """Normalize text to Unicode NFC, in which an accented letter is one code point."""
    return unicodedata.normalize("NFC", text)


def on_disk(path: Path) -> Path:
    """Spell `path` as on disk: unchanged if it exists, else with each name in the Unicode form (NFC, NFD) that exists.

    File names are bytes, and a table from another system may use the other form. Names that do not exist stay unchanged.
    """
    if str(path).isascii() or os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names that are too long
        return path
    spelled = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        forms = [spelled / form for form in (part, nfc(part), unicodedata.normalize("NFD", part))]
        spelled = next(filter(os.path.exists, forms), forms[0])
    return spelled
