"""Spelling: transcripts as sequences of letters, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from speechft.tasks.ctc import ctc_collapse
from speechft.tasks.vocabularies import ASR_VOCABULARY, BLANK_INDEX, SENTENCE_END, TEDLIUM_VOCABULARY, UNKNOWN, WORD_END

_NOT_SPELLED = re.compile(r"[^A-Z' ]")


def _upper(text: str) -> str:
    return text.upper().replace(WORD_END, " ")


def normalize_tedlium(text: str) -> str:
    """A transcript of TED-LIUM 3 as the released Speech-FT fine-tuning reads it: upper case, A-Z, apostrophes and single spaces.

    TED-LIUM writes clitics apart ("it 's"): an apostrophe swallows one space before it. Hyphens become spaces; every other character,
    digits and accented letters included, is dropped without a trace.
    """
    joined = text.upper().replace(" '", "'").replace("-", " ")
    return " ".join(_NOT_SPELLED.sub("", joined).split())


class Spelling:
    """A vocabulary of letters, and how transcripts are written with it.

    Args:
        vocabulary: output symbols, the blank of CTC first.
        normalize: maps a transcript to the text that is spelled.
        final: symbols that every target ends with.
        dropped: symbols that decoding leaves out besides the blank.
        unit_is_symbol: whether the symbol error rate counts symbols, or the characters (spaces included) of the decoded text.
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
        """Symbol indices of a transcript, empty if nothing is left of it; letters outside the vocabulary become `<unk>`."""
        words = self.normalize(text).split()
        if not words:
            return []
        symbols = [*WORD_END.join(words), *self.final]
        return [self._index.get(symbol, self._index[UNKNOWN]) for symbol in symbols]

    def symbols(self, frame_labels: Iterable[int]) -> list[str]:
        """Best-path decoding: repeats merged, the blank and the dropped symbols left out. `<pad>` and `<unk>` stay."""
        dropped = [BLANK_INDEX, *(self._index[symbol] for symbol in self.dropped)]
        return [self.vocabulary[index] for index in ctc_collapse(frame_labels, drop=dropped)]

    def reference(self, target: Sequence[int]) -> list[str]:
        """The symbols of a target, without those that decoding drops."""
        return [symbol for index in target if (symbol := self.vocabulary[index]) not in self.dropped]

    def text(self, symbols: Sequence[str]) -> str:
        """Symbols as text; special symbols other than the dropped ones appear by their names."""
        return "".join(symbols).replace(self.space, " ").strip()

    def words(self, symbols: Sequence[str]) -> list[str]:
        """The words of `text`."""
        return self.text(symbols).split()

    def units(self, symbols: Sequence[str]) -> list[str]:
        """What the symbol error rate counts."""
        return list(symbols) if self.unit_is_symbol else list(self.text(symbols))


SUPERB_SPELLING = Spelling(ASR_VOCABULARY, _upper, final=(WORD_END, SENTENCE_END), dropped=(SENTENCE_END,))
"""ASR of the SUPERB recipe: every word ends with `|`, the sentence with `</s>`. (`<s>` is the blank.)"""
TEDLIUM_SPELLING = Spelling(TEDLIUM_VOCABULARY, normalize_tedlium, unit_is_symbol=False)
"""The released Speech-FT fine-tuning on TED-LIUM 3: no final symbols."""
SPELLINGS = {"superb": SUPERB_SPELLING, "tedlium": TEDLIUM_SPELLING}
