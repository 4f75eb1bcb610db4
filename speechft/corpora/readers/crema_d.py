"""CREMA-D (Cao et al., 2014), for ER: twelve sentences by 91 actors in six emotions."""

from __future__ import annotations

import re

from speechft.corpora.published import Reading
from speechft.corpora.utterances import Count, Listing
from speechft.errors import CorpusError
from speechft.files.csv_tables import read_table
from speechft.recipes.corpora import CremaD

SOURCE = (
    "Get CREMA-D from https://github.com/CheyneyComputerScience/CREMA-D (with git lfs); `path` is the clone, with AudioWAV/ and "
    "VideoDemographics.csv."
)
CLASSES = {"ANG": "angry", "DIS": "disgusted", "FEA": "fearful", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
WITHOUT_SOUND = "1076_MTI_SAD_XX"
"""A recording without speech, left out."""
# Levels have two letters, except in 1040_ITH_SAD_X.
_NAME = re.compile(r"(\d{4})_[A-Z]{3}_([A-Z]{3})_[A-Z]{1,2}")

EXPECTED = (
    Count(None, "utterances", 7_441, "AudioWAV (7442 recordings, one of them without sound)"),
    Count(None, "speakers", 91, "VideoDemographics.csv"),
    Count(None, "labels", 6, "the names of the recordings"),
)


def read_crema_d(recipe: CremaD) -> Listing:
    """List the recordings of CREMA-D by name, with the label in the name.

    There are no official splits. Ours are disjoint in speakers, with both sexes in each: of every ten women and every ten men, by number,
    the ninth is in dev and the tenth in test.

    Raises:
        CorpusError: the recordings or the table of actors are missing, or it has other columns.
    """
    reading = Reading("CREMA-D", recipe.path, SOURCE)
    folder = reading.folder(recipe.path / "AudioWAV")
    split_of = _divide(recipe)
    for path in sorted(folder.glob("*.wav")):
        match = _NAME.fullmatch(path.stem)
        if match is None or match[2] not in CLASSES:
            reading.problem(f"{path}: its name is not ACTOR_SENTENCE_EMOTION_LEVEL.wav")
        elif match[1] not in split_of:
            reading.problem(f"{path}: actor {match[1]} is not in {recipe.path / 'VideoDemographics.csv'}")
        elif path.stem != WITHOUT_SOUND:
            reading.add(path.stem, path, split_of[match[1]], speaker=match[1], label=CLASSES[match[2]])
    return reading.listing(EXPECTED)


def _divide(recipe: CremaD) -> dict[str, str]:
    """Return actor -> split."""
    path = recipe.path / "VideoDemographics.csv"
    (_, header), *rows = read_table(path, "for the sex of the actors", SOURCE) or [(1, [])]
    if not {"ActorID", "Sex"} <= set(header):
        raise CorpusError(f"{path}: has no column ActorID or Sex. {SOURCE}")
    sexes: dict[str, list[str]] = {}
    for _, values in rows:
        cells = dict(zip(header, values, strict=False))
        sexes.setdefault(cells.get("Sex", ""), []).append(cells["ActorID"])
    places = {8: "dev", 9: "test"}
    return {actor: places.get(place % 10, "train") for actors in sexes.values() for place, actor in enumerate(sorted(actors))}
