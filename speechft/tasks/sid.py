"""Speaker identification (SID) among known speakers: accuracy. SUPERB recipe, as in s3prl 0.4.18."""

from __future__ import annotations

from typing import Any, Literal

from speechft.errors import TaskError
from speechft.tasks.base import check_choice
from speechft.tasks.catalog import TASKS
from speechft.tasks.classification import UtteranceClassification, custom_label, supervision


class SpeakerIdentification(UtteranceClassification):
    """Speaker identification. The class of a cut is its speaker; training utterances are cropped to 8 s at random.

    As in s3prl, evaluation with the recipe's `crop_draws: every` redraws crops at every access; with a number, an utterance has that many
    crops, each encoded once. Dev and test are not cropped, as in s3prl.
    Options:
        source: "speaker" (default), or "label" for corpora with the speaker in the label column.
    """

    name = "sid"
    metrics = TASKS["sid"].metrics
    train_crop_seconds = 8.0

    def __init__(self, source: Literal["speaker", "label"] = "speaker") -> None:
        check_choice(self.name, "source", source, ("speaker", "label"))
        self.source = source

    def class_name(self, cut: Any) -> str:
        """Return the speaker of the cut."""
        name = supervision(cut).speaker if self.source == "speaker" else custom_label(cut)
        if not name:
            raise TaskError(f"{cut.id}: has no {self.source}. Fill the corpus's {self.source} column.")
        return str(name)
