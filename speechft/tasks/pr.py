"""Phoneme recognition (PR): the phones of an utterance by CTC; phone error rate. SUPERB recipe, as in s3prl 0.4.18."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from speechft.errors import TaskError
from speechft.tasks.base import Head, LabelSet, Metric, listing
from speechft.tasks.classification import supervision
from speechft.tasks.ctc import CTCTask
from speechft.tasks.heads import FrameHead
from speechft.tasks.lexicon import CMUDICT, Lexicon, lexicon_hashes, load_lexicon
from speechft.tasks.metrics import ctc_collapse, token_errors
from speechft.tasks.vocabularies import BLANK_INDEX, EOS_INDEX, PHONEME_VOCABULARY

_INDEX = {symbol: index for index, symbol in enumerate(PHONEME_VOCABULARY)}


class PhonemeRecognition(CTCTask):
    """PR. A transcript becomes the phones of its words, without word boundaries or silence, and `<eos>`.

    Options:
        lexicon: sources of pronunciations in order of preference, each a file with lines `WORD PHONE PHONE ...` or "cmudict". Default
            ["cmudict"], the CMU Pronouncing Dictionary. The SUPERB recipe reads two grapheme-to-phoneme files of its own first; give
            them here to have its targets.
    """

    name = "pr"
    metrics = (Metric("PR", "phone error rate", higher_is_better=False),)
    sampling = "windows"

    def __init__(self, lexicon: Sequence[str] = (CMUDICT,)) -> None:
        self.lexicon_sources = (lexicon,) if isinstance(lexicon, str) else tuple(lexicon)
        if not self.lexicon_sources or not all(isinstance(source, str) for source in self.lexicon_sources):
            raise TaskError(f"pr: lexicon={lexicon!r} must be a list of files or {CMUDICT!r}.")

    @cached_property
    def lexicon(self) -> Lexicon:
        """Word (upper case) -> phones; read when first needed."""
        return load_lexicon(self.lexicon_sources)

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:  # noqa: ARG002
        """The 74 symbols, whatever the training data; `extra` names the lexicons and their hashes."""
        return LabelSet(PHONEME_VOCABULARY, {"lexicon": lexicon_hashes(self.lexicon_sources)})

    def target(self, cut: Any, labels: LabelSet) -> Tensor:  # noqa: ARG002
        """Symbol indices of the transcript, int64 (U,), the last one `<eos>`.

        Raises:
            TaskError: the transcript is empty or has words that no lexicon has.
        """
        words = self._words(cut)
        unknown = [word for word in dict.fromkeys(words) if word not in self.lexicon]
        if unknown:
            raise TaskError(f"{cut.id}: not in the lexicon: {', '.join(unknown)}. {self._remedy}")
        return torch.tensor([*(_INDEX[phone] for word in words for phone in self.lexicon[word]), EOS_INDEX])

    def targets(self, cuts: Iterable[Any], labels: LabelSet, source: str) -> list[Tensor]:
        """Targets of all cuts.

        Raises:
            TaskError: lists every unknown word once, with its utterances, and every empty transcript.
        """
        cuts = list(cuts)
        problems: list[str] = []
        users: dict[str, list[str]] = {}
        for cut in cuts:
            try:
                for word in dict.fromkeys(self._words(cut)):
                    if word not in self.lexicon:
                        users.setdefault(word, []).append(cut.id)
            except TaskError as error:
                problems.append(str(error))
        if users:
            problems += [f"{word}: {_some(ids)}" for word, ids in sorted(users.items())]
        if problems:
            unusable = len(problems) - len(users)
            heading = f"{source}: {len(users)} word(s) are in no lexicon, {unusable} transcript(s) can not be used. {self._remedy}"
            raise TaskError(listing(heading, problems, limit=max(20, len(users) + 20)))
        return [self.target(cut, labels) for cut in cuts]

    @property
    def _remedy(self) -> str:
        sources = ", ".join(self.lexicon_sources)
        return f"Lexicons: {sources}. Name a file with the missing words in the task option `lexicon`, or correct the text."

    def _words(self, cut: Any) -> list[str]:
        words = (supervision(cut).text or "").upper().split()
        if not words:
            raise TaskError(f"{cut.id}: has an empty transcript. Fill the corpus' text column or leave the recording out.")
        return words

    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:
        """Linear(D, 256), Linear(256, 74) on every frame."""
        return FrameHead(feature_dim, len(labels))

    def decode(self, frame_labels: Iterable[int], labels: LabelSet) -> list[str]:
        """Phones of the best path."""
        return [labels.symbols[index] for index in ctc_collapse(frame_labels, drop=(BLANK_INDEX, EOS_INDEX))]

    def utterance_statistics(self, frame_labels: Sequence[int], target: Sequence[int], labels: LabelSet) -> dict[str, float]:
        """Edits and reference phones."""
        reference = [labels.symbols[index] for index in target if index not in (BLANK_INDEX, EOS_INDEX)]
        edits, tokens = token_errors(self.decode(frame_labels, labels), reference)
        return {"edits": edits, "tokens": tokens}

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Phone error rate of the corpus, a fraction."""
        return {"PR": statistics["edits"] / statistics["tokens"]}


def _some(ids: Sequence[str], limit: int = 5) -> str:
    return ", ".join(ids[:limit]) + (f" and {len(ids) - limit} more" if len(ids) > limit else "")
