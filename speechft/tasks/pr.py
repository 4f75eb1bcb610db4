"""Phoneme recognition (PR) by CTC: phone error rate. SUPERB recipe, as in s3prl 0.4.18."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from speechft.downloads.lexicons import CMUDICT
from speechft.errors import TaskError, listing
from speechft.tasks.base import Head, LabelSet
from speechft.tasks.catalog import TASKS
from speechft.tasks.classification import supervision
from speechft.tasks.ctc import CTCTask, ctc_collapse, token_errors
from speechft.tasks.heads import FrameHead
from speechft.tasks.lexicon import Lexicon, lexicon_hashes, load_lexicon, missing_words
from speechft.tasks.vocabularies import BLANK_INDEX, EOS_INDEX, PHONEME_VOCABULARY

_EXAMPLES = 20
"""Number of words without a pronunciation listed in an error."""
_INDEX = {symbol: index for index, symbol in enumerate(PHONEME_VOCABULARY)}


class PhonemeRecognition(CTCTask):
    """Phoneme recognition. The target of a transcript is the phones of its words, without word boundaries or silence, and `<eos>`.

    Options:
        lexicon: sources of pronunciations in order of preference, each a file with lines `WORD PHONE PHONE ...` or "cmudict". Default
            ["cmudict"], the CMU Pronouncing Dictionary, which does not have all names and rare words of LibriSpeech. The SUPERB recipe uses
            superb_lexicon_200k, then superb_lexicon_allothers of config/lexicons.tsv.
    """

    name = "pr"
    metrics = TASKS["pr"].metrics
    quotients: ClassVar = {"PR": ("edits", "tokens")}
    sampling = "windows"

    def __init__(self, lexicon: Sequence[str] = (CMUDICT,)) -> None:
        self.lexicon_sources = (lexicon,) if isinstance(lexicon, str) else tuple(lexicon)
        if not self.lexicon_sources or not all(isinstance(source, str) for source in self.lexicon_sources):
            raise TaskError(f"pr: lexicon={lexicon!r} must be a list of files or {CMUDICT!r}.")

    @cached_property
    def lexicon(self) -> Lexicon:
        """Word (upper case) -> phones, loaded on first use."""
        return load_lexicon(self.lexicon_sources)

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:  # noqa: ARG002
        """Return the 74 fixed symbols; `extra` has the lexicons and their hashes."""
        return LabelSet(PHONEME_VOCABULARY, {"lexicon": lexicon_hashes(self.lexicon_sources)})

    def target(self, cut: Any, labels: LabelSet) -> Tensor:  # noqa: ARG002
        """Encode the transcript as symbol indices, int64 (U,), ending with `<eos>`."""
        words = (supervision(cut).text or "").upper().split()
        if not words:
            raise TaskError(f"{cut.id}: has an empty transcript. Fill the corpus's text column or leave the recording out.")
        unknown = [word for word in dict.fromkeys(words) if word not in self.lexicon]
        if unknown:
            raise TaskError(f"{cut.id}: not in the lexicons {', '.join(self.lexicon_sources)}: {', '.join(unknown)}.")
        return torch.tensor([*(_INDEX[phone] for word in words for phone in self.lexicon[word]), EOS_INDEX])

    def check(self, splits: Mapping[str, Iterable[Any]]) -> None:
        """Raise TaskError for words without a pronunciation in any split; it counts them and lists some with their utterances."""
        transcripts = [(name, cut.id, supervision(cut).text or "") for name, cuts in splits.items() for cut in cuts]
        missing = missing_words(self.lexicon, self.lexicon_sources, transcripts, _EXAMPLES)
        if missing is not None:
            sentence, examples = missing
            raise TaskError(listing(f"{self.name}: {sentence}", examples, limit=_EXAMPLES + 1))

    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:
        """Build Linear(D, 256), Linear(256, 74) on every frame."""
        return FrameHead(feature_dim, len(labels))

    def decode(self, frame_labels: Iterable[int], labels: LabelSet) -> list[str]:
        """Return the phones of the best path."""
        return [labels.symbols[index] for index in ctc_collapse(frame_labels, drop=(BLANK_INDEX, EOS_INDEX))]

    def utterance_statistics(self, frame_labels: Sequence[int], target: Sequence[int], labels: LabelSet) -> dict[str, float]:
        """Count edits and reference phones."""
        reference = [labels.symbols[index] for index in target if index not in (BLANK_INDEX, EOS_INDEX)]
        edits, tokens = token_errors(self.decode(frame_labels, labels), reference)
        return {"edits": edits, "tokens": tokens}

    def scores(self, statistics: Mapping[str, float]) -> dict[str, float]:
        """Compute the phone error rate of the corpus, a fraction."""
        return {"PR": statistics["edits"] / statistics["tokens"]}
