"""Stand-ins for the published corpora: small, with synthetic speech, in the layout of each corpus including its oddities.

They show whether an experiment runs from end to end; scores on them are meaningless.
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
"""Keys of a recipe -> names of files within the stand-in."""

_MODULES = (
    *(librispeech, voxceleb1, speech_commands, fluent_speech_commands, iemocap, audio_snips),
    *(quesst14, libri2mix, timit, tedlium3, crema_d),
)
BUILDERS: Mapping[str, Callable[[Layout], Names | None]] = {
    **{module.__name__.rpartition(".")[2]: module.build for module in _MODULES},
    "aishell3": aishell.build_aishell3,
    "aishell1": aishell.build_aishell1,
}
"""Kind of a published corpus -> function that writes its stand-in."""


def build_csv_stand_in(folder: Path, speech: Path, contents: Mapping[str, str], header: Mapping[str, str], trials: str | None) -> None:
    """Write a small CSV corpus to `folder` (replaced if it exists); see `csv_corpus.build`.

    Raises:
        CorpusError: `speech` is not a folder like mini/speech.
    """
    source = MiniSpeech(speech)
    with atomic_directory(folder, "rehearsal") as directory:
        csv_corpus.build(Layout(directory, source), contents, header, trials)


def build_stand_in(kind: str, folder: Path, speech: Path) -> dict[str, Path | tuple[Path, ...]]:
    """Write the stand-in of a published corpus to `folder` (replaced if it exists); the same speech gives the same bytes.

    Args:
        kind: a key of `BUILDERS`.
        folder: receives the corpus.
        speech: a folder like mini/speech.

    Returns:
        Other keys of the recipe that name files: `lexicon` (two files) for librispeech, `split_list` (for `use: sid`) and `trials` (for
        `use: asv`) for voxceleb1, `order` for iemocap.

    Raises:
        CorpusError: unknown kind, or `speech` is not a folder like mini/speech.
    """
    if kind not in BUILDERS:
        raise CorpusError(unknown_name("stand-in corpus", kind, BUILDERS))
    source = MiniSpeech(speech)
    with atomic_directory(folder, "rehearsal") as directory:
        names = BUILDERS[kind](Layout(directory, source)) or {}
    return {key: folder / value if isinstance(value, str) else tuple(folder / name for name in value) for key, value in names.items()}
