"""IEMOCAP (Busso et al., 2008), for ER: four classes, a fold a session."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from speechft.corpora.published import bad_line, listing, need_folder, read_lines
from speechft.corpora.utterances import Count, Listing, Problem, Utterance
from speechft.corpus_recipes import Iemocap
from speechft.errors import CorpusError, missing_file
from speechft.files import read_json

SOURCE = (
    "Ask for IEMOCAP at https://sail.usc.edu/iemocap/iemocap_release.htm; `path` is the folder IEMOCAP_full_release, with Session1 to "
    "Session5. Labels are read from SessionN/dialog/EmoEvaluation/*.txt, recordings from SessionN/sentences/wav/DIALOGUE/*.wav."
)
CLASSES = {"neu": "neutral", "hap": "happy", "exc": "happy", "ang": "angry", "sad": "sad"}
SESSIONS = tuple(f"Session{number}" for number in range(1, 6))
_TURN = re.compile(r"\[\d+\.\d+ - \d+\.\d+\]\t(\S+)\t(\w+)\t\[.*\]")
_LISTS = "`order` is the folder downstream/emotion/meta_data of s3prl."

EXPECTED = (
    Count(None, "utterances", 5_531, "SessionN/dialog/EmoEvaluation"),
    *(
        Count(None, f"fold {session}", number, f"{session}/dialog/EmoEvaluation")
        for session, number in zip(SESSIONS, (1_085, 1_023, 1_151, 1_031, 1_241), strict=True)
    ),
    *(
        Count(None, f"label {label}", number, "the labels in SessionN/dialog/EmoEvaluation")
        for label, number in (("neutral", 1_708), ("happy", 1_636), ("angry", 1_103), ("sad", 1_084))
    ),
    Count(None, "speakers", 10, "the names of the recordings"),
)


def read_iemocap(recipe: Iemocap) -> Listing:
    """Turns whose label most annotators agreed on as neutral, happy or excited, angry, or sad; all in train, the session as `fold`.

    Their order decides about train and dev. With `order` it is that of SUPERB's lists; else it is that of sessions, dialogues by name, the
    woman's turns before the man's, numbers.

    Raises:
        CorpusError: a session, its labels or a list of the order is missing, or the lists name other turns than the corpus has.
    """
    found: dict[str, Utterance] = {}
    problems: list[Problem] = []
    for session in SESSIONS:
        labels = need_folder(recipe.path / session / "dialog" / "EmoEvaluation", "IEMOCAP", SOURCE)
        sentences = need_folder(recipe.path / session / "sentences" / "wav", "IEMOCAP", SOURCE)
        turns: list[Utterance] = []
        for path in sorted(labels.glob("Ses*.txt")):
            for number, line in read_lines(path, "as labels of IEMOCAP", SOURCE):
                if not line.startswith("["):  # what each annotator said
                    continue
                match = _TURN.fullmatch(line.strip())
                if match is None:
                    problems.append(bad_line(path, number, f"{line.strip()!r} is not `[start - end] turn label [values]`"))
                    continue
                name, emotion = match.groups()
                if emotion in CLASSES:
                    dialogue, _, turn = name.rpartition("_")
                    audio = sentences / dialogue / f"{name}.wav"
                    speaker = f"{name[:5]}{turn[0]}"
                    turns.append(Utterance(0, name, audio, "train", speaker=speaker, label=CLASSES[emotion], fold=session))
        # F sorts before M, and numbers have three digits.
        found |= {turn.id: turn for turn in sorted(turns, key=lambda turn: turn.id)}
    utterances = list(found.values()) if recipe.order is None else _ordered(recipe.order, found)
    return listing(utterances, problems, EXPECTED, "IEMOCAP", recipe.path, SOURCE)


def _ordered(folder: Path, found: dict[str, Utterance]) -> list[Utterance]:
    names: list[str] = []
    wrong: list[str] = []
    for session in SESSIONS:
        path = folder / session / "test_meta_data.json"
        if not path.is_file():
            raise CorpusError(missing_file(path, "for the order of IEMOCAP's recordings", _LISTS))
        content: Any = read_json(path)
        try:
            entries = [(Path(entry["path"]).stem, entry["label"]) for entry in content["meta_data"]]
        except (KeyError, TypeError):
            raise CorpusError(f"{path}: is not a list of recordings (`meta_data` with `path` and `label`). {_LISTS}") from None
        for name, emotion in entries:
            names.append(name)
            if name in found and found[name].label != CLASSES.get(emotion):
                wrong.append(f"{name}: {path} says {emotion}, the corpus {found[name].label}")
    wrong += [f"{name}: is not in the corpus" for name in names if name not in found]
    wrong += [f"{name}: is not in the lists" for name in sorted(found.keys() - set(names))]
    if wrong or len(set(names)) != len(names):
        raise CorpusError(f"{folder}: its lists and the corpus do not hold the same recordings. {_LISTS}", wrong)
    return [found[name] for name in names]
