"""Speech Commands v0.01 (Warden, 2018) with its official test set, for KS, in SUPERB's splits.

lhotse's recipe splits by the lists in the archive, SUPERB by the hash of names, with background noise as silence in train and dev.
"""

from __future__ import annotations

from speechft.corpora.published import Reading
from speechft.corpora.utterances import Count, Listing
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
    """List the recordings of Speech Commands by folder and name: words in the splits of `speech_commands_split`, then the test set.

    Noise recordings occur twice, in train and in dev. Labels are SUPERB's 12 classes; `text` is the word.

    Raises:
        CorpusError: one of the two folders is missing.
    """
    reading = Reading("Speech Commands", recipe.path, SOURCE)
    training, test = reading.folder(recipe.path / TRAINING), reading.folder(recipe.path / TEST)
    for folder in [*(training / name for name in (*SUPERB_CLASSES[:10], NOISE)), *(test / name for name in SUPERB_CLASSES)]:
        if not folder.is_dir():
            reading.problem(f"{folder}: no such folder. {SOURCE}")
    for path in sorted(training.glob("*/*.wav")):
        word = path.parent.name
        if word == NOISE:
            for split in ("train", "dev"):
                reading.add(f"{NOISE}_{path.stem}-{split}", path, split, label=SILENCE)
        elif (split := speech_commands_split(path.name)) != "discarded":
            label = word if word in SUPERB_CLASSES else UNKNOWN
            reading.add(f"{word}_{path.stem}", path, split, text=word, speaker=path.name.split("_nohash_")[0], label=label)
    for path in sorted(test.glob("*/*.wav")):
        label = path.parent.name
        if label in SUPERB_CLASSES:
            reading.add(f"test_{label}_{path.stem}", path, "test", label=label)
        else:
            reading.problem(f"{path}: its folder is not one of the 12 classes")
    return reading.listing(EXPECTED)
