"""Speech Commands v0.01 (Warden, 2018) with its official test set, for KS, divided as SUPERB does.

lhotse's recipe divides by the lists in the archive; SUPERB by the hash of names, with background noise as silence in train and dev.
"""

from __future__ import annotations

from pathlib import Path

from speechft.corpora.published import listing, need_folder
from speechft.corpora.utterances import Count, Listing, Problem, Utterance
from speechft.recipes.corpora import SpeechCommands
from speechft.tasks.ks import SILENCE, SUPERB_CLASSES, UNKNOWN, speech_commands_split

TRAINING, TEST, NOISE = "speech_commands_v0.01", "speech_commands_test_set_v0.01", "_background_noise_"
SOURCE = (
    f"Get {TRAINING}.tar.gz and {TEST}.tar.gz from http://download.tensorflow.org/data/ and unpack each into a folder of its name, in "
    "`path`."
)

EXPECTED = (
    Count("test", "utterances", 3_081, f"{TEST}.tar.gz", certain=False),
    Count("train", "label _silence_", 6, f"{TRAINING}/{NOISE}", certain=False),
    *(Count(split, "labels", len(SUPERB_CLASSES), f"the folders of {folder}") for split, folder in (("train", TRAINING), ("test", TEST))),
)


def read_speech_commands(recipe: SpeechCommands) -> Listing:
    """Words by `speech_commands_split`, in order of folder and name; noise twice, once for train and once for dev; then the test set.

    Labels are the 12 of SUPERB; `text` is the word.

    Raises:
        CorpusError: one of both folders is missing.
    """
    training = need_folder(recipe.path / TRAINING, "Speech Commands", SOURCE)
    test = need_folder(recipe.path / TEST, "Speech Commands", SOURCE)
    utterances: list[Utterance] = []
    problems = _missing_classes(training, [*SUPERB_CLASSES[:10], NOISE]) + _missing_classes(test, list(SUPERB_CLASSES))
    for path in sorted(training.glob("*/*.wav")):
        word = path.parent.name
        if word == NOISE:
            utterances += [Utterance(0, f"{NOISE}_{path.stem}-{split}", path, split, label=SILENCE) for split in ("train", "dev")]
            continue
        split = speech_commands_split(path.name)
        if split != "discarded":
            label = word if word in SUPERB_CLASSES else UNKNOWN
            speaker = path.name.split("_nohash_")[0]
            utterances.append(Utterance(0, f"{word}_{path.stem}", path, split, text=word, speaker=speaker, label=label))
    for path in sorted(test.glob("*/*.wav")):
        label = path.parent.name
        if label in SUPERB_CLASSES:
            utterances.append(Utterance(0, f"test_{label}_{path.stem}", path, "test", label=label))
        else:
            problems.append(Problem(0, f"{path}: its folder is none of the 12 classes"))
    return listing(utterances, problems, EXPECTED, "Speech Commands", recipe.path, SOURCE)


def _missing_classes(folder: Path, names: list[str]) -> list[Problem]:
    return [Problem(0, f"{folder / name}: no such folder. {SOURCE}") for name in names if not (folder / name).is_dir()]
