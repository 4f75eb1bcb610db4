"""Mandarin speech recognition: characters by CTC, character error rate. It judges encoders whose pre-training went on in Mandarin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from speechft.tasks.asr import SpeechRecognition
from speechft.tasks.base import LabelSet, Metric
from speechft.tasks.metrics import edit_distance
from speechft.tasks.pieces import WORD_START

CHARACTER_ERRORS = Metric("ASR_ZH_CER", "character error rate", higher_is_better=False)


class MandarinRecognition(SpeechRecognition):
    """ASR over the characters of the training transcripts. No task of SUPERB; the paper's settings are not public, so these are ours.

    Head, SpecAugment and batches are those of SUPERB's ASR. Spaces do not count: Mandarin is written without them. A character that
    train does not have is one error whatever the output is.

    Options:
        projected, hidden, layers, dropout, spec_augment: as in `SpeechRecognition`.
    """

    name = "asr_zh"
    metrics = (CHARACTER_ERRORS,)

    def __init__(self, projected: int = 1024, hidden: int = 1024, layers: int = 2, dropout: float = 0.2, spec_augment: bool = True) -> None:
        super().__init__("characters", projected, hidden, layers, dropout, spec_augment)

    @property
    def dev_metrics(self) -> tuple[Metric, ...]:
        """Characters, on dev as on test."""
        return self.metrics

    def utterance_statistics(self, frame_labels: Sequence[int], target: Sequence[int], labels: LabelSet) -> dict[str, float]:
        """Edits and reference counts of characters, spaces left out."""
        spelling = self.spelling_of(labels)
        hypothesis = [symbol for symbol in spelling.symbols(frame_labels) if symbol != WORD_START]
        reference = [symbol for symbol in spelling.reference(target) if symbol != WORD_START]
        return {"character_edits": edit_distance(hypothesis, reference), "characters": len(reference)}

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Character error rate of the corpus, a fraction; without any reference 1."""
        characters = statistics["characters"]
        return {CHARACTER_ERRORS.key: statistics["character_edits"] / characters if characters else 1.0}
