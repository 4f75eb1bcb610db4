"""Spelling: conversion between transcripts and letter sequences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from speechft.tasks.ctc import ctc_collapse
from speechft.tasks.vocabularies import ASR_VOCABULARY, BLANK_INDEX, SENTENCE_END, TEDLIUM_VOCABULARY, UNKNOWN, WORD_END

_NOT_SPELLED = re.compile(r"[^A-Z' ]")


def _upper(text: str) -> str:
    return text.upper().replace(WORD_END, " ")


def normalize_tedlium(text: str) -> str:
    """Normalize a transcript of TED-LIUM 3 as the released Speech-FT fine-tuning does: upper case, A-Z, apostrophes and single spaces.

    TED-LIUM separates clitics ("it 's"), so an apostrophe removes one space before it. Hyphens become spaces; all other characters,
    including digits and accented letters, are removed.
    """
    joined = text.upper().replace(" '", "'").replace("-", " ")
    return " ".join(_NOT_SPELLED.sub("", joined).split())


class Spelling:
    """A vocabulary of letters and the rules to spell transcripts with it.

    Args:
        vocabulary: output symbols, beginning with the CTC blank.
        normalize: maps a transcript to the text to spell.
        final: symbols at the end of every target.
        dropped: symbols that decoding removes in addition to the blank.
        unit_is_symbol: whether the symbol error rate counts symbols or the characters (including spaces) of the decoded text.
    """

    space = WORD_END

    def __init__(
        self,
        vocabulary: Sequence[str],
        normalize: Callable[[str], str],
        final: tuple[str, ...] = (),
        dropped: tuple[str, ...] = (),
        unit_is_symbol: bool = True,
    ) -> None:
        self.vocabulary, self.normalize, self.final, self.dropped = tuple(vocabulary), normalize, final, dropped
        self.unit_is_symbol = unit_is_symbol
        self._index = {symbol: index for index, symbol in enumerate(vocabulary)}

    def encode(self, text: str) -> list[int]:
        """Encode a transcript as symbol indices, empty if normalization leaves nothing; letters outside the vocabulary become `<unk>`."""
        words = self.normalize(text).split()
        if not words:
            return []
        symbols = [*WORD_END.join(words), *self.final]
        return [self._index.get(symbol, self._index[UNKNOWN]) for symbol in symbols]

    def symbols(self, frame_labels: Iterable[int]) -> list[str]:
        """Decode the best path: merge repeats, remove the blank and the dropped symbols; `<pad>` and `<unk>` are kept."""
        dropped = [BLANK_INDEX, *(self._index[symbol] for symbol in self.dropped)]
        return [self.vocabulary[index] for index in ctc_collapse(frame_labels, drop=dropped)]

    def reference(self, target: Sequence[int]) -> list[str]:
        """Return the symbols of a target, without those that decoding removes."""
        return [symbol for index in target if (symbol := self.vocabulary[index]) not in self.dropped]

    def text(self, symbols: Sequence[str]) -> str:
        """Join symbols to text; special symbols other than the dropped ones appear by name."""
        return "".join(symbols).replace(self.space, " ").strip()

    def words(self, symbols: Sequence[str]) -> list[str]:
        """Return the words of the text of `symbols`."""
        return self.text(symbols).split()

    def units(self, symbols: Sequence[str]) -> list[str]:
        """Return the units of the symbol error rate."""
        return list(symbols) if self.unit_is_symbol else list(self.text(symbols))


SUPERB_SPELLING = Spelling(ASR_VOCABULARY, _upper, final=(WORD_END, SENTENCE_END), dropped=(SENTENCE_END,))
"""Spelling of ASR in the SUPERB recipe: every word ends with `|`, the sentence with `</s>`; `<s>` is the blank."""
TEDLIUM_SPELLING = Spelling(TEDLIUM_VOCABULARY, normalize_tedlium, unit_is_symbol=False)
"""Spelling of the released Speech-FT fine-tuning on TED-LIUM 3, without final symbols."""
SPELLINGS = {"superb": SUPERB_SPELLING, "tedlium": TEDLIUM_SPELLING}
