"""IEMOCAP (Busso et al., 2008), for ER: four classes, one fold per session."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from speechft.corpora.published import Reading
from speechft.corpora.utterances import Count, Listing, Utterance
from speechft.errors import CorpusError, missing_file
from speechft.files.structured import read_json
from speechft.recipes.corpora import Iemocap

SOURCE = (
    "Ask for IEMOCAP at https://sail.usc.edu/iemocap/iemocap_release.htm; `path` is the folder IEMOCAP_full_release, with Session1 to "
    "Session5. Labels are read from SessionN/dialog/EmoEvaluation/*.txt, recordings from SessionN/sentences/wav/DIALOGUE/*.wav."
)
CLASSES = {"neu": "neutral", "hap": "happy", "exc": "happy", "ang": "angry", "sad": "sad"}
FOLDS = tuple(str(number) for number in range(1, 6))
"""Fold N holds out session N, as in SUPERB and in the paper's released recipe for ER."""
SESSIONS = tuple(f"Session{fold}" for fold in FOLDS)
_TURN = re.compile(r"\[\d+\.\d+ - \d+\.\d+\]\t(\S+)\t(\w+)\t\[.*\]")
_LIST = "test_meta_data.json"
_LISTS = "`order` is the folder downstream/emotion/meta_data of s3prl."
FOLDER = "meta_data"
"""Folder in the corpus where s3prl's lists are looked for."""

EXPECTED = (
    Count(None, "utterances", 5_531, "SessionN/dialog/EmoEvaluation"),
    *(
        Count(None, f"fold {fold}", number, f"{session}/dialog/EmoEvaluation")
        for session, fold, number in zip(SESSIONS, FOLDS, (1_085, 1_023, 1_151, 1_031, 1_241), strict=True)
    ),
    *(
        Count(None, f"label {label}", number, "the labels in SessionN/dialog/EmoEvaluation")
        for label, number in (("neutral", 1_708), ("happy", 1_636), ("angry", 1_103), ("sad", 1_084))
    ),
    Count(None, "speakers", 10, "the names of the recordings"),
)


def read_iemocap(recipe: Iemocap) -> Listing:
    """List the turns of IEMOCAP with majority label neutral, happy or excited, angry, or sad; all in train; `fold` is the session.

    Their order determines train and dev. It is that of SUPERB's lists: in `order`, else in `meta_data` of the corpus, else in an installed
    s3prl. Without these, or with `order: names`, turns are sorted by session, dialogue, sex (women first) and number, and the listing has
    a note on it.

    Raises:
        CorpusError: a session, its labels or a list is missing, or the lists and the corpus contain different turns.
    """
    reading = Reading("IEMOCAP", recipe.path, SOURCE)
    for session, fold in zip(SESSIONS, FOLDS, strict=True):
        labels = reading.folder(recipe.path / session / "dialog" / "EmoEvaluation")
        sentences = reading.folder(recipe.path / session / "sentences" / "wav")
        for path in sorted(labels.glob("Ses*.txt")):
            for number, line in reading.lines(path, "as labels of IEMOCAP"):
                if not line.startswith("["):  # labels of single annotators
                    continue
                match = _TURN.fullmatch(line.strip())
                if match is None:
                    reading.bad_line(path, number, f"{line.strip()!r} is not `[start - end] turn label [values]`")
                    continue
                name, emotion = match.groups()
                if emotion in CLASSES:
                    dialogue, _, turn = name.rpartition("_")
                    audio = sentences / dialogue / f"{name}.wav"
                    reading.add(name, audio, "train", speaker=f"{name[:5]}{turn[0]}", label=CLASSES[emotion], fold=fold)
    # Ids sort as wanted: F comes before M, and numbers have three digits.
    reading.utterances.sort(key=lambda turn: (turn.fold or "", turn.id))
    turns = {turn.id: turn for turn in reading.utterances}
    folder = _find_lists(recipe)
    reading.utterances = list(turns.values()) if folder is None else _ordered(folder, turns, recipe.complete)
    order = "names" if folder is None else f"s3prl's lists in {folder}"
    return reading.listing(EXPECTED, order=order, notes=(_note(recipe.path),) if folder is None else ())


def _find_lists(recipe: Iemocap) -> Path | None:
    """Return the folder of SUPERB's lists; None means the order of names."""
    if recipe.order is not None:
        return None if recipe.order == "names" else Path(recipe.order)
    if (beside := recipe.path / FOLDER).is_dir():
        return beside
    package = find_spec("s3prl")
    installed = [Path(place, "downstream/emotion", FOLDER) for place in (package.submodule_search_locations or () if package else ())]
    # An incomplete corpus uses the order of names by default, since the lists contain other recordings too.
    return next((place for place in installed if recipe.complete and (place / SESSIONS[-1] / _LIST).is_file()), None)


def _note(corpus: Path) -> str:
    return (
        "recordings are in order of their names, not of s3prl's lists, so that train and dev of ER are not those of SUPERB. "
        f"Copy s3prl/downstream/emotion/meta_data to {corpus / FOLDER}, or name it as `order`."
    )


def _ordered(folder: Path, utterances: dict[str, Utterance], complete: bool) -> list[Utterance]:
    """Put the turns into the order of the lists, which may contain more if the corpus is not complete."""
    names: list[str] = []
    wrong: list[str] = []
    for session in SESSIONS:
        path = folder / session / _LIST
        if not path.is_file():
            raise CorpusError(missing_file(path, "for the order of IEMOCAP's recordings", _LISTS))
        content: Any = read_json(path)
        try:
            entries = [(Path(entry["path"]).stem, entry["label"]) for entry in content["meta_data"]]
        except (KeyError, TypeError):
            raise CorpusError(f"{path}: is not a list of recordings (`meta_data` with `path` and `label`). {_LISTS}") from None
        for name, emotion in entries:
            names.append(name)
            if name in utterances and utterances[name].label != CLASSES.get(emotion):
                wrong.append(f"{name}: {path} says {emotion}, but the corpus {utterances[name].label}")
    wrong += [f"{name}: is not in the corpus" for name in names if complete and name not in utterances]
    wrong += [f"{name}: is not in the lists" for name in sorted(utterances.keys() - set(names))]
    if wrong or len(set(names)) != len(names):
        raise CorpusError(f"{folder}: its lists and the corpus contain different recordings. {_LISTS}", wrong)
    return [utterances[name] for name in names if name in utterances]
