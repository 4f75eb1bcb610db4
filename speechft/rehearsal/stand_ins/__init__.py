"""Stand-ins of the published corpora: small, of synthetic speech, and laid out as the corpora are, with what is odd about them.

They say whether an experiment runs from end to end. Scores on them mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from speechft.errors import CorpusError, unknown_name
from speechft.files.atomic import atomic_directory
from speechft.rehearsal.stand_ins import (
    aishell,
    audio_snips,
    crema_d,
    csv_corpus,
    fluent_speech_commands,
    iemocap,
    libri2mix,
    librispeech,
    quesst14,
    speech_commands,
    tedlium3,
    timit,
    voxceleb1,
)
from speechft.rehearsal.stand_ins.base import SIZES, Layout, MiniSpeech

__all__ = ["BUILDERS", "SIZES", "build_csv_stand_in", "build_stand_in"]

Names = Mapping[str, str | tuple[str, ...]]
"""Keys of a recipe, with names of files within the stand-in."""

_MODULES = (
    *(librispeech, voxceleb1, speech_commands, fluent_speech_commands, iemocap, audio_snips),
    *(quesst14, libri2mix, timit, tedlium3, crema_d),
)
BUILDERS: Mapping[str, Callable[[Layout], Names | None]] = {
    **{module.__name__.rpartition(".")[2]: module.build for module in _MODULES},
    "aishell3": aishell.build_aishell3,
    "aishell1": aishell.build_aishell1,
}
"""Kind of a published corpus -> what writes its stand-in."""


def build_csv_stand_in(folder: Path, speech: Path, contents: Mapping[str, str], header: Mapping[str, str], trials: str | None) -> None:
    """Write a small CSV corpus to `folder` (replaced when it exists); see `csv_corpus.build`.

    Raises:
        CorpusError: there is no such speech.
    """
    source = MiniSpeech(speech)
    with atomic_directory(folder, "rehearsal") as directory:
        csv_corpus.build(Layout(directory, source), contents, header, trials)


def build_stand_in(kind: str, folder: Path, speech: Path) -> dict[str, Path | tuple[Path, ...]]:
    """Write a small corpus of a kind of `KINDS` to `folder` (replaced when it exists), made of a folder like mini/speech.

    Equal speech gives equal bytes. Returns the further keys of the recipe that name files: `lexicon` (two files) for librispeech,
    `split_list` and `trials` for voxceleb1 (the first for `use: sid`, the other for `use: asv`), `order` for iemocap.

    Raises:
        CorpusError: there is no such kind, or no such speech.
    """
    if kind not in BUILDERS:
        raise CorpusError(unknown_name("stand-in of", kind, BUILDERS))
    source = MiniSpeech(speech)
    with atomic_directory(folder, "rehearsal") as directory:
        names = BUILDERS[kind](Layout(directory, source)) or {}
    return {key: folder / value if isinstance(value, str) else tuple(folder / name for name in value) for key, value in names.items()}
