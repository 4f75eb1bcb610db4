"""Phoneme recognition (PR): the phones of an utterance by CTC; phone error rate. SUPERB recipe, as in s3prl 0.4.18."""

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
"""Words without a pronunciation that an error shows."""
_INDEX = {symbol: index for index, symbol in enumerate(PHONEME_VOCABULARY)}


class PhonemeRecognition(CTCTask):
    """PR. A transcript becomes the phones of its words, without word boundaries or silence, and `<eos>`.

    Options:
        lexicon: sources of pronunciations in order of preference, each a file with lines `WORD PHONE PHONE ...` or "cmudict". Default
            ["cmudict"], the CMU Pronouncing Dictionary, which lacks names and rare words of LibriSpeech. The SUPERB recipe reads
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
        """Word (upper case) -> phones; read when first needed."""
        return load_lexicon(self.lexicon_sources)

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:  # noqa: ARG002
        """The 74 symbols, whatever the training data; `extra` names the lexicons and their hashes."""
        return LabelSet(PHONEME_VOCABULARY, {"lexicon": lexicon_hashes(self.lexicon_sources)})

    def target(self, cut: Any, labels: LabelSet) -> Tensor:  # noqa: ARG002
        """Symbol indices of the transcript, int64 (U,), the last one `<eos>`."""
        words = (supervision(cut).text or "").upper().split()
        if not words:
            raise TaskError(f"{cut.id}: has an empty transcript. Fill the corpus' text column or leave the recording out.")
        unknown = [word for word in dict.fromkeys(words) if word not in self.lexicon]
        if unknown:
            raise TaskError(f"{cut.id}: not in the lexicons {', '.join(self.lexicon_sources)}: {', '.join(unknown)}.")
        return torch.tensor([*(_INDEX[phone] for word in words for phone in self.lexicon[word]), EOS_INDEX])

    def check(self, splits: Mapping[str, Iterable[Any]]) -> None:
        """Refuse words without a pronunciation, in any split; the error counts them and shows some with their utterances."""
        transcripts = [(name, cut.id, supervision(cut).text or "") for name, cuts in splits.items() for cut in cuts]
        missing = missing_words(self.lexicon, self.lexicon_sources, transcripts, _EXAMPLES)
        if missing is not None:
            sentence, examples = missing
            raise TaskError(listing(f"{self.name}: {sentence}", examples, limit=_EXAMPLES + 1))

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
