"""Output symbols of the CTC tasks, in the order of the SUPERB recipe."""

from __future__ import annotations

from collections.abc import Sequence

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
SPECIALS = (PAD, EOS, UNKNOWN)
BLANK_INDEX, EOS_INDEX = 0, 1
"""Indices of `<pad>`, the CTC blank, and of `<eos>`, the end of every target."""

_VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
_STOPS_AND_AFFRICATES = ("B", "CH", "D", "G", "JH", "K", "P", "T")
_FRICATIVES = ("DH", "F", "HH", "S", "SH", "TH", "V", "Z", "ZH")
_SONORANTS = ("L", "M", "N", "NG", "R", "W", "Y")
_CONSONANTS = _STOPS_AND_AFFRICATES + _FRICATIVES + _SONORANTS
ARPABET = tuple(sorted([*_CONSONANTS, *(f"{vowel}{stress}" for vowel in _VOWELS for stress in range(3))]))
"""The 69 phones of ARPAbet, vowels with their lexical stress."""

PHONEME_VOCABULARY = (*SPECIALS, "SIL", "SPN", *ARPABET)
"""The 74 output symbols of PR."""

SPACE = " "
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ'")

WORD_END = "|"
SENTENCE_START, SENTENCE_END = "<s>", "</s>"
_BY_FREQUENCY = "E T A O N I H S R D L U M {} F G Y P B V K ' X J Q Z"
ASR_VOCABULARY = (SENTENCE_START, PAD, SENTENCE_END, UNKNOWN, WORD_END, *_BY_FREQUENCY.format("C W").split())
"""The 32 output symbols of ASR; `<s>` is the CTC blank."""
TEDLIUM_VOCABULARY = (PAD, SENTENCE_START, SENTENCE_END, UNKNOWN, WORD_END, *_BY_FREQUENCY.format("W C").split())
"""The 32 symbols of wav2vec 2.0's CTC models, used in the paper's fine-tuning on TED-LIUM 3; `<pad>` is the blank."""


def slot_filling_vocabulary(slot_types: Sequence[str]) -> tuple[str, ...]:
    """Return the symbols of SF: special symbols, space, letters, and a begin and an end mark per slot type that include their space.

    The 39 types of Audio SNIPS give 109 symbols.
    """
    marks = [mark for slot_type in slot_types for mark in (begin_mark(slot_type), end_mark(slot_type))]
    return (*SPECIALS, SPACE, *LETTERS, *marks)


def begin_mark(slot_type: str) -> str:
    """Return the symbol before the first word of a slot."""
    return f"B-{slot_type} "


def end_mark(slot_type: str) -> str:
    """Return the symbol after the last word of a slot."""
    return f" E-{slot_type}"
