"""Stand-in for CREMA-D: six emotions in file names, a silent recording, and one with a truncated name."""

from __future__ import annotations

import numpy as np

from speechft.conventions import SAMPLE_RATE
from speechft.corpora.readers.crema_d import CLASSES, WITHOUT_SOUND
from speechft.rehearsal.stand_ins.base import SIZES, Layout

ACTORS = range(1001, 1092)
SHORT_NAME = "1040_ITH_SAD_X"
"""One recording in the corpus has a level of one letter."""
# Positions of the actors of one sex in steps of ten: the reader puts the ninth into dev and the tenth into test.
_PLACES = {"train": (0, 1, 2, 3, 4, 5), "dev": (8, 18), "test": (9, 19)}
_SENTENCES = ("DFA", "IEO", "IOM", "ITH", "ITS", "IWL", "IWW", "MTI", "TAI", "TIE", "TSI", "WSI")
_LEVELS = {"NEU": "XX"}


def build(layout: Layout) -> None:
    """Write a table of all actors, and recordings of a few, as many women as men."""
    sizes = SIZES["crema_d"]
    sexes = {actor: "Female" if actor % 2 == 0 else "Male" for actor in ACTORS}
    by_sex = {sex: [actor for actor in ACTORS if sexes[actor] == sex] for sex in ("Female", "Male")}
    number = 0
    recordings = layout.speech.take(
        1 + sum(sizes[f"{split} speakers"] for split in _PLACES) * len(CLASSES) * sizes["per class and speaker"], ["style"]
    )
    for split, places in _PLACES.items():
        for speaker in range(sizes[f"{split} speakers"]):
            actor = by_sex[("Female", "Male")[speaker % 2]][places[speaker // 2]]
            for emotion in CLASSES:
                for _ in range(sizes["per class and speaker"]):
                    sentence = _SENTENCES[number % len(_SENTENCES)]
                    name = f"{actor}_{sentence}_{emotion}_{_LEVELS.get(emotion, 'HI')}"
                    layout.say(f"AudioWAV/{name}.wav", recordings[number])
                    number += 1
    layout.say(f"AudioWAV/{SHORT_NAME}.wav", recordings[number])
    layout.audio(f"AudioWAV/{WITHOUT_SOUND}.wav", np.zeros(SAMPLE_RATE))
    layout.text(
        "VideoDemographics.csv",
        '"ActorID","Age","Sex","Race","Ethnicity"',
        *(f'"{actor}","{20 + actor % 50}","{sex}","Not given","Not given"' for actor, sex in sexes.items()),
    )
