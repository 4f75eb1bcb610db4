"""Speech recognition by CTC: words over letters (ASR: SUPERB recipe, as in s3prl 0.4.18) or Mandarin characters (ASR_ZH)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from speechft.errors import TaskError
from speechft.tasks.base import LabelSet, Sampling, check_choice, check_positive
from speechft.tasks.catalog import TASKS
from speechft.tasks.classification import supervision
from speechft.tasks.ctc import RecurrentCTCTask, edit_distance
from speechft.tasks.metric import Metric
from speechft.tasks.pieces import WORD_START, Pieces, train_pieces
from speechft.tasks.spelling import SPELLINGS, Spelling

(WORD_ERRORS,) = TASKS["asr"].metrics
LETTER_ERRORS = Metric("ASR_CER", "letter error rate", higher_is_better=False)
(CHARACTER_ERRORS,) = TASKS["asr_zh"].metrics

LEARNED = ("characters", "unigram")


class SpeechRecognition(RecurrentCTCTask):
    """Automatic speech recognition (ASR) with greedy decoding; SUPERB's optional language model is not supported.

    Options:
        spelling: "superb" (default); "tedlium" for the letters of wav2vec 2.0 and the text normalization of the paper's released
            fine-tuning on TED-LIUM 3; "characters" for all characters of the training transcripts; "unigram" for pieces of words
            (sentencepiece).
        pieces: vocabulary size of "unigram" (default 500).
        projected, hidden, layers, dropout, spec_augment: see `RecurrentCTCTask`; the fine-tuning on TED-LIUM 3 uses 256, 256, 3 and 0.2.
        selection: metric that chooses checkpoints and learning rates on dev, "wer" (default) or "cer". The released fine-tuning on
            TED-LIUM 3 calls its character error rate `wer` and chooses by it.
    Letters outside the vocabulary become `<unk>`; s3prl would add outputs that its head does not have.
    """

    name = "asr"
    metrics = (WORD_ERRORS,)
    quotients: ClassVar = {WORD_ERRORS.key: ("word_edits", "words"), LETTER_ERRORS.key: ("unit_edits", "units")}
    sampling: ClassVar[Sampling] = "buckets"

    def __init__(
        self,
        spelling: Literal["superb", "tedlium", "characters", "unigram"] = "superb",
        selection: Literal["wer", "cer"] = "wer",
        pieces: int = 500,
        **head: Any,
    ) -> None:
        super().__init__(**head)
        check_choice(self.name, "spelling", spelling, (*SPELLINGS, *LEARNED))
        check_choice(self.name, "selection", selection, ("wer", "cer"))
        check_positive(self.name, pieces=pieces)
        self.spelling_name, self.spelling = spelling, SPELLINGS.get(spelling)
        self.pieces, self.selection = pieces, selection

    @property
    def dev_metrics(self) -> tuple[Metric, ...]:
        """Word and letter error rates; the one of the option `selection` first."""
        return (WORD_ERRORS, LETTER_ERRORS) if self.selection == "wer" else (LETTER_ERRORS, WORD_ERRORS)

    def text(self, cut: Any) -> str:
        """Return the transcript of a cut; empty if it has none."""
        return supervision(cut).text or ""

    def spelling_of(self, labels: LabelSet) -> Spelling:
        """Return the spelling that belongs to `labels`."""
        return self.spelling or Pieces(labels.extra["model"])

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:
        """Return the 32 fixed symbols of the spelling, or symbols learned from the training transcripts."""
        if self.spelling is not None:
            return LabelSet(self.spelling.vocabulary, {"spelling": self.spelling_name})
        kind: Literal["characters", "unigram"] = "characters" if self.spelling_name == "characters" else "unigram"
        model = train_pieces(map(self.text, train_cuts), kind, self.pieces)
        return LabelSet(Pieces(model).vocabulary, {"spelling": self.spelling_name, "model": model})

    def target(self, cut: Any, labels: LabelSet) -> Tensor:
        """Encode the transcript as symbol indices, int64 (U,)."""
        text = self.text(cut)
        symbols = self.spelling_of(labels).encode(text)
        if not symbols:
            reason = f"its transcript {text!r} has no letters to spell" if text.strip() else "has an empty transcript"
            raise TaskError(f"{cut.id}: {reason}. Fill the corpus's text column or leave the recording out.")
        return torch.tensor(symbols)

    def utterance_statistics(self, frame_labels: Sequence[int], target: Sequence[int], labels: LabelSet) -> dict[str, float]:
        """Count edits and references of words and of units (symbols for SUPERB's spelling, else characters)."""
        spelling = self.spelling_of(labels)
        hypothesis, reference = spelling.symbols(frame_labels), spelling.reference(target)
        units, words = spelling.units(reference), spelling.words(reference)
        return {
            "word_edits": edit_distance(spelling.words(hypothesis), words),
            "words": len(words),
            "unit_edits": edit_distance(spelling.units(hypothesis), units),
            "units": len(units),
        }

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Compute the corpus's word and letter error rates, as fractions; 1 without any reference, as in s3prl."""
        return {key: statistics[edits] / statistics[whole] if statistics[whole] else 1.0 for key, (edits, whole) in self.quotients.items()}


class MandarinRecognition(SpeechRecognition):
    """Mandarin ASR over the characters of the training transcripts, for encoders whose pre-training was continued in Mandarin.

    Not a SUPERB task; the paper's settings are not public, and these are ours. Head, SpecAugment and batches are those of SUPERB's ASR.
    Spaces do not count, since Mandarin is written without them. A character that is not in train counts as one error.
    Options:
        projected, hidden, layers, dropout, spec_augment: as in `SpeechRecognition`.
    """

    name = "asr_zh"
    metrics = (CHARACTER_ERRORS,)
    quotients: ClassVar = {CHARACTER_ERRORS.key: ("character_edits", "characters")}

    def __init__(self, projected: int = 1024, hidden: int = 1024, layers: int = 2, dropout: float = 0.2, spec_augment: bool = True) -> None:
        super().__init__("characters", projected=projected, hidden=hidden, layers=layers, dropout=dropout, spec_augment=spec_augment)

    @property
    def dev_metrics(self) -> tuple[Metric, ...]:
        """Character error rate, as on test."""
        return self.metrics

    def utterance_statistics(self, frame_labels: Sequence[int], target: Sequence[int], labels: LabelSet) -> dict[str, float]:
        """Count edits and reference characters, without spaces."""
        spelling = self.spelling_of(labels)
        hypothesis = [symbol for symbol in spelling.symbols(frame_labels) if symbol != WORD_START]
        reference = [symbol for symbol in spelling.reference(target) if symbol != WORD_START]
        return {"character_edits": edit_distance(hypothesis, reference), "characters": len(reference)}
