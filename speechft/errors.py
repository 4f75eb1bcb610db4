"""Errors caused by bad input. Each message says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from speechft.files.escapes import terminal_text
from speechft.files.text import read_names


class SpeechFTError(Exception):
    """Base of all errors that this package raises on purpose; the command line prints it without a traceback.

    Messages quote the content of files, so control characters in them are escaped.
    """

    def __str__(self) -> str:
        return terminal_text(super().__str__())


class TransientError(SpeechFTError):
    """A temporary obstacle: memory, disk, time, a GPU, another process. The same command may succeed later or elsewhere.

    Every other error repeats until the input is corrected, so the workflow does not retry such a job.
    """


class ConfigError(SpeechFTError):
    """An experiment file, a recipe or an option has an unknown key or an impossible value."""


class OutputError(SpeechFTError):
    """An output cannot be written there: the path is an input, or contains something that this command did not write."""


class CorpusError(SpeechFTError):
    """A corpus is incomplete, damaged or inconsistent. `problems` has one line per problem; the message shows the first 50."""

    SHOWN = 50

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(listing(message, self.problems, self.SHOWN))


class AudioError(SpeechFTError):
    """A recording cannot be read, or the encoder cannot process a waveform."""


class CheckpointError(SpeechFTError):
    """A checkpoint or encoder directory is damaged, unsafe, incomplete or of the wrong kind."""


class DownloadError(SpeechFTError):
    """A download failed, or its content is not what was expected."""


class MergeError(SpeechFTError):
    """Models cannot be merged: their tensors differ in name, shape or dtype, or hold NaN or Inf."""


class TaskError(SpeechFTError):
    """A task does not match the corpus: labels are missing, or targets that no head can produce."""


class TrainingError(SpeechFTError):
    """Training cannot continue: NaN loss, work directory in use, checkpoint from another recipe."""


class StoppedTrainingError(TrainingError, TransientError):
    """Training was stopped from outside: a signal, out of memory, a full disk."""


class MissingGpuError(ConfigError, TransientError):
    """A job requests more GPUs than are visible on this machine."""


class AnalysisError(SpeechFTError):
    """Two encoders cannot be compared, or a result of a comparison is malformed."""


class ClusterError(SpeechFTError):
    """A cluster does not respond, or jobs of an earlier run are still queued or running."""


class TableError(SpeechFTError):
    """A table cannot be built: malformed cell, unknown column."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest match of `name` in `allowed`, or an empty string."""
    close = difflib.get_close_matches(name, list(allowed), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> str:
    """Message for an unknown name: the closest match among `known`, and all of them."""
    known = list(known)
    return f"Unknown {kind} {name!r}.{nearest(str(name), known)} Available: {', '.join(known) or 'none'}."


def listing(heading: str, problems: Sequence[str], limit: int = 20) -> str:
    """Return `heading` and one indented line per problem, at most `limit`, then how many more there are."""
    lines = [heading, *(f"  {problem}" for problem in problems[:limit])]
    if len(problems) > limit:
        lines.append(f"  and {len(problems) - limit} more")
    return "\n".join(lines)


def first_of(items: Sequence[str], count: int, separator: str = ", ") -> str:
    """Join the first `count` items and state how many more there are: `a, b and 3 more`."""
    more = f" and {len(items) - count} more" if len(items) > count else ""
    return separator.join(items[:count]) + more


def missing_file(path: str | Path, purpose: str, remedy: str) -> str:
    """Message for a missing file. `purpose` continues "needed ..."; `remedy` is one sentence."""
    return f"{path}: no such file, needed {purpose}. {remedy}"


def read_lines(path: str | Path, purpose: str, remedy: str, error: type[SpeechFTError]) -> list[str]:
    """Read the lines of a UTF-8 file, in Unicode NFC.

    Raises:
        SpeechFTError: the file is missing or is not text. Its class is `error`, and `remedy` (one sentence) ends its message.
    """
    try:
        return read_names(path).split("\n")
    except FileNotFoundError:
        raise error(missing_file(path, purpose, remedy)) from None
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"{path}: cannot be read as UTF-8 text ({problem}). {remedy}") from None


def nearest_file(path: Path) -> str:
    """Suggest the experiment file closest to a mistyped name, and list those in its folder."""
    folder = path.parent if path.parent.is_dir() else Path("config")
    there = sorted(file.name for file in [*folder.glob("*.yaml"), *folder.glob("*.yml")])
    close = difflib.get_close_matches(path.name, there, n=1) or difflib.get_close_matches(f"{path.name}.yaml", there, n=1, cutoff=0.9)
    hint = f"Did you mean {folder / close[0]}? " if close else ""
    return f"{hint}Available in {folder}: {', '.join(there)}." if there else "For examples, see config/ in the repository."
