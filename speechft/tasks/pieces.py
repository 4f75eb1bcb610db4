"""Text units learned from the training transcripts (sentencepiece): characters of any language, or pieces of a unigram model."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal

from speechft.errors import TaskError
from speechft.tasks.spelling import Spelling
from speechft.tasks.vocabularies import BLANK_INDEX, PAD, UNKNOWN

WORD_START = "▁"
UNSPELLABLE = "\ufffd"
"""Replaces characters without a symbol in references; it never equals an output, so it always counts as an error."""


def train_pieces(texts: Iterable[str], kind: Literal["characters", "unigram"], num_pieces: int) -> str:
    """Train a sentencepiece model on transcripts in upper case, and return it as base64 text. Equal transcripts give equal models.

    Symbol 0 is `<pad>`, the CTC blank, symbol 1 is `<unk>`.

    Args:
        texts: transcripts.
        kind: "characters" for every occurring character, "unigram" for pieces of words.
        num_pieces: vocabulary size of the unigram model, including the two special symbols; reduced if the transcripts do not suffice.

    Raises:
        TaskError: there is no text, or too little for the model.
    """
    import sentencepiece

    lines = [text.upper() for text in texts if text.strip()]
    if not lines:
        raise TaskError("asr: no training utterance has a transcript. Fill the corpus's text column.")
    sizes: dict[str, Any] = (
        {"model_type": "char", "use_all_vocab": True}
        if kind == "characters"
        else {"model_type": "unigram", "vocab_size": num_pieces, "hard_vocab_limit": False}
    )
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=written,
            character_coverage=1.0,
            pad_id=BLANK_INDEX,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            pad_piece=PAD,
            unk_piece=UNKNOWN,
            max_sentence_length=1_000_000,
            num_threads=1,
            minloglevel=2,
            **sizes,
        )
    except RuntimeError as error:
        raise TaskError(
            f"asr: sentencepiece cannot train a {kind} model on the transcripts ({error}). Change the number of pieces."
        ) from None
    return base64.b64encode(written.getvalue()).decode("ascii")


@lru_cache(maxsize=8)
def _processor(model: str) -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=base64.b64decode(model))


class Pieces(Spelling):
    """Spelling with the vocabulary of a model of `train_pieces`."""

    space = WORD_START

    def __init__(self, model: str) -> None:
        self._processor = _processor(model)
        super().__init__(self._processor.id_to_piece(list(range(self._processor.get_piece_size()))), str.upper, unit_is_symbol=False)

    def encode(self, text: str) -> list[int]:
        """Encode a transcript as symbol indices; characters not in the training transcripts become `<unk>`."""
        indices: list[int] = self._processor.encode(self.normalize(text))
        return indices

    def reference(self, target: Sequence[int]) -> list[str]:
        """Return the symbols of a target."""
        return [UNSPELLABLE if self.vocabulary[index] == UNKNOWN else self.vocabulary[index] for index in target]
