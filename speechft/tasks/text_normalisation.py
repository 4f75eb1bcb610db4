"""Normalisation of transcripts whose raw form is not plain upper-case words."""

from __future__ import annotations

import re

_NOT_SPELLED = re.compile(r"[^A-Z' ]")
_SPACES = re.compile(r" {2,}")


def normalise_tedlium(text: str) -> str:
    """A transcript of TED-LIUM 3 as the released Speech-FT fine-tuning reads it: upper case, A-Z, apostrophes and single spaces.

    TED-LIUM writes clitics apart ("it 's"): an apostrophe swallows one space before it. Hyphens become spaces; every other character,
    digits and accented letters included, is dropped without a trace.
    """
    joined = text.upper().replace(" '", "'").replace("-", " ")
    return _SPACES.sub(" ", _NOT_SPELLED.sub("", joined)).strip()
