"""Plain text inside Markdown, LaTeX, HTML, CSV, YAML and terminals: one function a format, which every writer of the format uses.

Titles, labels, notes, names, paths and messages come from files that others wrote. Whatever they hold, they stay one piece of text: no
line break ends a cell, a comment or a code block, and no control character reaches a terminal.
"""

from __future__ import annotations

import json
import re
import unicodedata

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$",
    # Behind the \\ or the rule that ends the row above, these would be arguments of it.
    "[": "{[}", "]": "{]}", "*": "{*}",
}  # fmt: skip
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that make text read in another order than it is stored in."""
_MARKDOWN = re.compile(r"[\\|*`\[\]$]|~(?=~)|(?<=~)~|(?<!\w)_|_(?!\w)")
_MARKDOWN_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_BLOCK_START = re.compile(r"^(?:[#+=~-]|\d+(?=[.)]))")
_BREAKS = re.compile("[ ]*[\t\r\n\v\f\x1c-\x1f\x85\u2028\u2029][\t\r\n\v\f\x1c-\x1f\x85\u2028\u2029 ]*")
_FORMULA = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")


def is_control(character: str) -> bool:
    """Whether it moves the cursor, ends a line, or reorders text: C0, C1, line separators, directions; half a surrogate too."""
    return unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs") or character in _REORDERING


def terminal_text(text: str) -> str:
    r"""Text for a terminal or a log: control characters but line breaks and tabs are spelt out, ESC as `\x1b`."""
    return "".join(_spelt(character) if is_control(character) and character not in "\n\t" else character for character in text)


def one_line(text: str) -> str:
    """Text without line breaks, which become spaces, and with all other control characters spelt out."""
    return terminal_text(_BREAKS.sub(" ", text)).strip()


def _spelt(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def latex_escape(text: str) -> str:
    """Plain text as LaTeX."""
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def markdown_escape(text: str) -> str:
    """Plain text as GitHub-flavoured Markdown inside a line, e.g. in a table cell."""
    escaped = _MARKDOWN.sub(lambda match: f"\\{match[0]}", one_line(text))
    return re.sub("[&<>]", lambda match: _MARKDOWN_ENTITIES[match[0]], escaped)


def markdown_item(text: str) -> str:
    """Plain text as an item of a list, where the first characters could begin a heading, a rule or another list."""
    escaped = markdown_escape(text)
    match = _BLOCK_START.match(escaped)
    if match is None:
        return escaped
    place = match.end() if escaped[0].isdigit() else 0
    return f"{escaped[:place]}\\{escaped[place:]}"


def markdown_code(text: str) -> str:
    """Plain text as code inside a line."""
    line = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def code_line(text: str) -> str:
    """Plain text as a line of a fenced block of code, which it cannot close."""
    line = one_line(text)
    return f"    {line}" if line.startswith(("`", "~")) else line


def csv_text(text: str) -> str:
    """A text cell of CSV: spreadsheets take none for a formula. Numbers are no text and never come here."""
    line = one_line(text)
    return f"'{line}" if text.startswith(_FORMULA) or line.startswith(_FORMULA) else line


def json_text(text: str) -> str:
    """JSON, whose strings alone can hold control characters, with all of them as escapes of JSON."""
    return "".join(f"\\u{ord(character):04x}" if is_control(character) and character != "\n" else character for character in text)


def yaml_text(text: str) -> str:
    """Plain text as a YAML scalar, in quotes unless it is a simple word."""
    line = one_line(text)
    return line if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", line) and line.lower() not in _YAML_WORDS else json.dumps(line)


_YAML_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
