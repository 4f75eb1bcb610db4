"""The phones of TIMIT: 61 labels, folded to the usual 39 classes (Lee and Hon, 1989)."""

from __future__ import annotations

SILENCE = "sil"
GLOTTAL_STOP = "q"
"""Label without a class after folding."""

# Class -> labels folded into it, unless this is only the class itself.
_FOLDS = {
    "aa": ("aa", "ao"),
    "ah": ("ah", "ax", "ax-h"),
    "er": ("er", "axr"),
    "hh": ("hh", "hv"),
    "ih": ("ih", "ix"),
    "l": ("l", "el"),
    "m": ("m", "em"),
    "n": ("n", "en", "nx"),
    "ng": ("ng", "eng"),
    "sh": ("sh", "zh"),
    "uw": ("uw", "ux"),
    SILENCE: ("pcl", "tcl", "kcl", "bcl", "dcl", "gcl", "h#", "pau", "epi"),
}
_VOWELS_ALONE = ("ae", "aw", "ay", "eh", "ey", "iy", "ow", "oy", "uh")
_CONSONANTS_ALONE = ("b", "ch", "d", "dh", "dx", "f", "g", "jh", "k", "p", "r", "s", "t", "th", "v", "w", "y", "z")
_ALONE = _VOWELS_ALONE + _CONSONANTS_ALONE

TIMIT_61 = tuple(sorted([*_ALONE, *(label for labels in _FOLDS.values() for label in labels), GLOTTAL_STOP]))
TIMIT_39 = tuple(sorted([*_ALONE, *_FOLDS]))

FOLDED: dict[str, str | None] = {
    **{label: label for label in TIMIT_39},
    **{label: folded for folded, labels in _FOLDS.items() for label in labels},
    GLOTTAL_STOP: None,
}
"""Label -> class, None for the glottal stop. Folded labels keep their class."""
