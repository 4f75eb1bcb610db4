"""Speech recognition (ASR): the words of an utterance, by CTC over letters; word error rate. SUPERB recipe, as in s3prl 0.4.18."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from speechft.errors import TaskError
from speechft.tasks.base import LabelSet, Metric
from speechft.tasks.classification import supervision
from speechft.tasks.metrics import edit_distance
from speechft.tasks.recurrent import RecurrentCTCTask
from speechft.tasks.spelling import SPELLINGS

WORD_ERRORS = Metric("ASR", "word error rate", higher_is_better=False)
LETTER_ERRORS = Metric("ASR_CER", "letter error rate", higher_is_better=False)


class SpeechRecognition(RecurrentCTCTask):
    """ASR. Decoding is greedy; SUPERB's optional language model is not supported.

    Options:
        spelling: "superb" (default), or "tedlium" for the letters and the text normalisation of the released fine-tuning on TED-LIUM 3.
        projected, hidden, layers, dropout: sizes of the head. Defaults 1024, 1024 in each direction, 2 and 0.2 are SUPERB's; the
            fine-tuning on TED-LIUM 3 has 256, 256, 3 and 0.2.
        spec_augment: augment features in training (default true).
        selection: what chooses checkpoints and learning rates on dev, "wer" (default) or "cer". The released fine-tuning on TED-LIUM 3
            calls its character error rate `wer` and chooses by it.

    Letters outside the vocabulary become `<unk>`; the reference would add outputs that its head does not have.
    """

    name = "asr"
    metrics = (WORD_ERRORS,)
    sampling = "buckets"

    def __init__(
        self,
        spelling: Literal["superb", "tedlium"] = "superb",
        projected: int = 1024,
        hidden: int = 1024,
        layers: int = 2,
        dropout: float = 0.2,
        spec_augment: bool = True,
        selection: Literal["wer", "cer"] = "wer",
    ) -> None:
        super().__init__(projected, hidden, layers, dropout, spec_augment)
        if spelling not in SPELLINGS:
            raise TaskError(f"asr: spelling={spelling!r} is unknown. Allowed: {', '.join(SPELLINGS)}.")
        if selection not in ("wer", "cer"):
            raise TaskError(f"asr: selection={selection!r} is unknown. Allowed: wer, cer.")
        self.spelling_name, self.spelling = spelling, SPELLINGS[spelling]
        self.selection = selection

    @property
    def dev_metrics(self) -> tuple[Metric, ...]:
        """Words and letters; the one of the option `selection` first."""
        return (WORD_ERRORS, LETTER_ERRORS) if self.selection == "wer" else (LETTER_ERRORS, WORD_ERRORS)

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:  # noqa: ARG002
        """The 32 symbols of the spelling, whatever the training data."""
        return LabelSet(self.spelling.vocabulary, {"spelling": self.spelling_name})

    def target(self, cut: Any, labels: LabelSet) -> Tensor:  # noqa: ARG002
        """Symbol indices of the transcript, int64 (U,).

        Raises:
            TaskError: the transcript is empty, or normalisation leaves nothing of it.
        """
        text = supervision(cut).text or ""
        symbols = self.spelling.encode(text)
        if not symbols:
            reason = f"nothing of its transcript {text!r} can be spelled" if text.strip() else "has an empty transcript"
            raise TaskError(f"{cut.id}: {reason}. Fill the corpus' text column or leave the recording out.")
        return torch.tensor(symbols)

    def utterance_statistics(self, frame_labels: Sequence[int], target: Sequence[int], labels: LabelSet) -> dict[str, float]:  # noqa: ARG002
        """Edits and reference counts of words and of units (symbols, or characters for the spelling of TED-LIUM)."""
        spelling = self.spelling
        hypothesis, reference = spelling.symbols(frame_labels), [spelling.vocabulary[index] for index in target]
        reference = [symbol for symbol in reference if symbol not in spelling.dropped]
        units, words = spelling.units(reference), spelling.words(reference)
        return {
            "word_edits": edit_distance(spelling.words(hypothesis), words),
            "words": len(words),
            "unit_edits": edit_distance(spelling.units(hypothesis), units),
            "units": len(units),
        }

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Word error rate and letter error rate of the corpus, fractions; without any reference 1, as in the reference code."""
        words, units = statistics["words"], statistics["units"]
        return {
            WORD_ERRORS.key: statistics["word_edits"] / words if words else 1.0,
            LETTER_ERRORS.key: statistics["unit_edits"] / units if units else 1.0,
        }
