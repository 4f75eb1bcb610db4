"""Stand-in for LibriSpeech: chapters of FLAC files with transcripts, names missing from dictionaries, and lexicons with them."""

from __future__ import annotations

from speechft.corpora.readers.librispeech import PARTS
from speechft.downloads.lexicons import CMUDICT
from speechft.rehearsal.stand_ins.base import SIZES, Layout, Recording
from speechft.tasks.lexicon import load_lexicon

# Part -> speaker -> chapter.
_CHAPTERS = {
    "train": {"103": "1240", "1034": "121119", "1040": "133433", "1069": "133699", "1081": "125237", "1088": "129236"},
    "dev": {"84": "121123", "174": "50561", "251": "118436", "422": "122949"},
    "test": {"61": "70968", "121": "121726", "237": "126133", "260": "123286"},
}
# Part -> a name not in the CMU Pronouncing Dictionary, with its phones. It replaces the last word of the part's first transcript.
_NAMES = {
    "train": ("GWYNPLAINE", "G W IH1 N P L EY2 N"),
    "dev": ("SHIMERDA", "SH IH0 M EH1 R D AH0"),
    "test": ("MAINHALL", "M EY1 N HH AO2 L"),
}
LEXICONS = ("lexicon/200k-g2p.txt", "lexicon/allothers-g2p.txt")
"""Two lexicons as in SUPERB's recipe of PR: many words, and all others. Not under SUPERB's names, whose hashes are checked."""


def build(layout: Layout) -> dict[str, tuple[str, ...]]:
    """Write three parts; `lexicon` has two files, both needed by PR."""
    words: set[str] = set()
    for split, part in PARTS.items():
        recordings = layout.speech.take(SIZES["librispeech"][split], ["sentence"], split)
        of_voice: dict[str, list[Recording]] = {}
        for recording in recordings:
            of_voice.setdefault(recording.speaker, []).append(recording)
        # There are more voices than speakers, so several voices read one chapter.
        chapters: dict[str, list[Recording]] = {speaker: [] for speaker in _CHAPTERS[split]}
        for place, members in enumerate(of_voice.values()):
            chapters[list(chapters)[place % len(chapters)]] += members
        first = True
        for speaker, members in chapters.items():
            chapter = _CHAPTERS[split][speaker]
            lines = []
            for number, recording in enumerate(members):
                name = f"{speaker}-{chapter}-{number:04}"
                spoken = recording.text.split()
                if first:
                    spoken[-1] = _NAMES[split][0]
                    first = False
                words.update(spoken)
                layout.say(f"{part}/{speaker}/{chapter}/{name}.flac", recording)
                lines.append(f"{name} {' '.join(spoken)}")
            layout.text(f"{part}/{speaker}/{chapter}/{speaker}-{chapter}.trans.txt", *lines)
    known = load_lexicon([CMUDICT])
    names = dict(_NAMES.values())
    layout.text(LEXICONS[0], *(f"{word}\t{' '.join(known[word])}" for word in sorted(words - names.keys())))
    layout.text(LEXICONS[1], *(f"{name}\t{phones}" for name, phones in sorted(names.items())))
    return {"lexicon": LEXICONS}
