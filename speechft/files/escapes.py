"""Escape plain text for Markdown, LaTeX, CSV, JSON, YAML and terminals, with one function per format.

Titles, labels, notes, names, paths and messages come from untrusted files. After escaping, no line break in them ends a cell, comment or
code block, and no control character reaches a terminal.
"""

from __future__ import annotations

import json
import re
import unicodedata

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$",
    # After the \\ or the rule that ends the previous row, these would be its arguments.
    "[": "{[}", "]": "{]}", "*": "{*}",
}  # fmt: skip
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of displayed text."""
_MARKDOWN = re.compile(r"[\\|*`\[\]$]|~(?=~)|(?<=~)~|(?<!\w)_|_(?!\w)")
_MARKDOWN_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_BLOCK_START = re.compile(r"^(?:[#+=~-]|\d+(?=[.)]))")
_BREAKS = re.compile("[ ]*[\t\r\n\v\f\x1c-\x1f\x85\u2028\u2029][\t\r\n\v\f\x1c-\x1f\x85\u2028\u2029 ]*")
_FORMULA = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")


def is_control(character: str) -> bool:
    """Whether a character moves the cursor, ends a line, or reorders text: C0, C1, line separators, directions; also lone surrogates."""
    return unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs") or character in _REORDERING


def terminal_text(text: str) -> str:
    r"""Escape text for a terminal or log: control characters except line breaks and tabs are spelled out, ESC as `\x1b`."""
    return "".join(_spelt(character) if is_control(character) and character not in "\n\t" else character for character in text)


def one_line(text: str) -> str:
    """Replace line breaks by spaces and spell out all other control characters."""
    return terminal_text(_BREAKS.sub(" ", text)).strip()


def _spelt(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def latex_escape(text: str) -> str:
    """Escape plain text for LaTeX."""
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def markdown_escape(text: str) -> str:
    """Escape plain text for GitHub-flavored Markdown within a line, such as a table cell."""
    escaped = _MARKDOWN.sub(lambda match: f"\\{match[0]}", one_line(text))
    return re.sub("[&<>]", lambda match: _MARKDOWN_ENTITIES[match[0]], escaped)


def markdown_item(text: str) -> str:
    """Escape plain text for a Markdown list item, whose first characters could begin a heading, a rule or another list."""
    escaped = markdown_escape(text)
    match = _BLOCK_START.match(escaped)
    if match is None:
        return escaped
    place = match.end() if escaped[0].isdigit() else 0
    return f"{escaped[:place]}\\{escaped[place:]}"


def markdown_code(text: str) -> str:
    """Format plain text as inline code in Markdown."""
    line = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def code_line(text: str) -> str:
    """Escape plain text for a line of a fenced code block, which it cannot close."""
    line = one_line(text)
    return f"    {line}" if line.startswith(("`", "~")) else line


def csv_text(text: str) -> str:
    """Escape a text cell of CSV so that spreadsheets do not take it for a formula; not for numbers."""
    line = one_line(text)
    return f"'{line}" if text.startswith(_FORMULA) or line.startswith(_FORMULA) else line


def json_text(text: str) -> str:
    """Escape the control characters in serialized JSON, which can occur only in strings."""
    return "".join(f"\\u{ord(character):04x}" if is_control(character) and character != "\n" else character for character in text)


def yaml_text(text: str) -> str:
    """Format plain text as a YAML scalar, quoted unless it is a simple word."""
    line = one_line(text)
    return line if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", line) and line.lower() not in _YAML_WORDS else json.dumps(line)


_YAML_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
