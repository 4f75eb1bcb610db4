"""Text as people bring it: byte-order marks, the two Unicode forms of a letter, and file names in either of them."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Literal

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: str | Path) -> str:
    """Text of a UTF-8 file; a byte-order mark at its start is no part of it.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is not UTF-8 text; UTF-16 is named.
    """
    return decode(Path(path).read_bytes())


def read_names(path: str | Path) -> str:
    """Text of a UTF-8 file in Unicode NFC, so that equal names are equal; not for files that name other files.

    Raises:
        OSError, UnicodeDecodeError: see `read_text`.
    """
    return nfc(read_text(path))


def decode(content: bytes, errors: Literal["strict", "surrogateescape"] = "strict") -> str:
    """UTF-8 as text without byte-order marks; every line end is a newline.

    Raises:
        UnicodeDecodeError: it is UTF-16, has a NUL, or, with `errors` strict, is not UTF-8.
    """
    if content.startswith(_UTF16_MARKS):
        raise UnicodeDecodeError("utf-8", content, 0, 2, "it is UTF-16; save it as UTF-8")
    if (place := content.find(b"\0")) >= 0:
        raise UnicodeDecodeError("utf-8", content, place, place + 1, "text holds no NUL; save it as UTF-8, or give the right file")
    text = content.decode("utf-8", errors).lstrip("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def nfc(text: str) -> str:
    """Text in Unicode NFC: an accented letter is one code point, however it was typed."""
    return unicodedata.normalize("NFC", text)


def on_disk(path: Path) -> Path:
    """`path` as the disk spells it: as given if that is there, else with each name in the Unicode form (NFC, NFD) that is.

    Names of files are bytes, and a table from another system may spell them in the other form. What is not there stays as given.
    """
    if str(path).isascii() or os.path.exists(path):  # noqa: PTH110 - Path.exists raises for names that are too long
        return path
    spelled = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        forms = [spelled / form for form in (part, nfc(part), unicodedata.normalize("NFD", part))]
        spelled = next(filter(os.path.exists, forms), forms[0])
    return spelled
