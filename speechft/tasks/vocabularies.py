"""Output symbols of the CTC tasks, in the order of the SUPERB recipe."""

from __future__ import annotations

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
SPECIALS = (PAD, EOS, UNKNOWN)
BLANK_INDEX, EOS_INDEX = 0, 1
"""`<pad>` is the blank of CTC; every target ends with `<eos>`."""

_VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
_STOPS_AND_AFFRICATES = ("B", "CH", "D", "G", "JH", "K", "P", "T")
_FRICATIVES = ("DH", "F", "HH", "S", "SH", "TH", "V", "Z", "ZH")
_SONORANTS = ("L", "M", "N", "NG", "R", "W", "Y")
_CONSONANTS = _STOPS_AND_AFFRICATES + _FRICATIVES + _SONORANTS
ARPABET = tuple(sorted([*_CONSONANTS, *(f"{vowel}{stress}" for vowel in _VOWELS for stress in range(3))]))
"""The 69 phones of ARPAbet, vowels with their lexical stress."""

PHONEME_VOCABULARY = (*SPECIALS, "SIL", "SPN", *ARPABET)
"""The 74 output symbols of PR."""
