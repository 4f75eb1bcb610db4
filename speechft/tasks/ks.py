"""Keyword spotting (KS): accuracy. SUPERB recipe, as in s3prl 0.4.18."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any, Literal

from speechft.errors import TaskError
from speechft.files.text import nfc
from speechft.tasks.base import MINUS_3_DB, Crop, LabelSet
from speechft.tasks.catalog import TASKS
from speechft.tasks.classification import UtteranceClassification, custom_label

SILENCE = "_silence_"
UNKNOWN = "_unknown_"
SUPERB_CLASSES = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", UNKNOWN, SILENCE)


class KeywordSpotting(UtteranceClassification):
    """Keyword spotting. The class of a cut is its `label`.

    Options:
        classes: the classes in order, or "superb" for the 12 of Speech Commands; default: those of the training split, sorted.
    As in s3prl, waveforms are attenuated by 3 dB, training draws have equal probability for all classes, and recordings of silence (label
    `_silence_`) are cropped to one second at random in training and on dev. s3prl redraws crops at every access; here one crop per whole
    second of a recording is drawn once and encoded once, unless the recipe has `crop_draws: every`.
    """

    name = "ks"
    metrics = TASKS["ks"].metrics
    sampling = "balanced"
    balanced_dev = True
    gain = MINUS_3_DB

    def __init__(self, classes: Sequence[str] | Literal["superb"] | None = None) -> None:
        if isinstance(classes, str) and classes != "superb":
            raise TaskError(f"ks: classes={classes!r} must be a list of names or 'superb'.")
        self.classes = SUPERB_CLASSES if classes == "superb" else None if classes is None else tuple(map(nfc, classes))
        if self.classes is not None and (len(set(self.classes)) != len(self.classes) or len(self.classes) < 2):
            raise TaskError(f"ks: classes={list(self.classes)} must be at least two distinct names.")

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """Return the classes of the option `classes`, else those of the training split."""
        return super().label_set(train_cuts) if self.classes is None else LabelSet(self.classes)

    def crop(self, cut: Any, split: str) -> Crop | None:
        """Crop silence to one second, in training and on dev."""
        if split == "test" or custom_label(cut) != SILENCE:
            return None
        return Crop(1.0, draws=max(1, math.floor(cut.duration)))


def speech_commands_split(path: str) -> Literal["train", "dev", "discarded"]:
    """Determine the split of a Speech Commands v0.01 training file from the SHA-1 of its name before `_nohash_`, the speaker.

    Below 10 % is dev, below 20 % is discarded (the official test set has its own folder), the rest is train.
    """
    speaker = PurePath(path).name.split("_nohash_")[0]
    largest = 2**27 - 1
    share = 100.0 * (int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16) % (largest + 1)) / largest
    return "dev" if share < 10 else "discarded" if share < 20 else "train"
