"""Stand-ins for AISHELL-1 (Mandarin transcripts) and AISHELL-3 (44.1 kHz). The speech is English; only the text is Mandarin."""

from __future__ import annotations

from speechft.corpora.readers.aishell import TRANSCRIPTS
from speechft.rehearsal.stand_ins.base import SIZES, Layout

RATE_3 = 44_100
# Words by position in a sentence: characters, and their reading in AISHELL-3's notation.
_WORDS = (
    (("我们", "wo3 men5"), ("他们", "ta1 men5"), ("老师", "lao3 shi1"), ("朋友", "peng2 you3")),
    (("今天", "jin1 tian1"), ("明天", "ming2 tian1"), ("早上", "zao3 shang5"), ("晚上", "wan3 shang5")),
    (("喜欢", "xi3 huan1"), ("打开", "da3 kai1"), ("看见", "kan4 jian4"), ("等待", "deng3 dai4")),
    (("音乐", "yin1 yue4"), ("窗户", "chuang1 hu5"), ("雨伞", "yu3 san3"), ("火车", "huo3 che1")),
)
# Some letters in abbreviations are full-width.
_ABBREVIATION = "ｋ t v"  # noqa: RUF001
_SPEAKERS_1 = {"train": ("S0002", "S0003", "S0004", "S0005"), "dev": ("S0724", "S0725"), "test": ("S0764", "S0765")}
_SPEAKERS_3 = {"train": ("SSB0005", "SSB0011", "SSB0016"), "test": ("SSB0009", "SSB0033")}


def build_aishell1(layout: Layout) -> None:
    """Write transcribed recordings, and one without transcript per train speaker."""
    lines: list[str] = []
    number = 0
    for split, speakers in _SPEAKERS_1.items():
        spoken = SIZES["aishell1"][split]
        silent = len(speakers) if split == "train" else 0
        for place, recording in enumerate(layout.speech.take(spoken + silent, ["sentence"], split)):
            speaker = speakers[place % len(speakers)]
            name = f"BAC009{speaker}W{122 + place:04}"
            layout.say(f"wav/{split}/{speaker}/{name}.wav", recording)
            if place < spoken:
                words = [characters for characters, _ in _sentence(number)]
                lines.append(f"{name} {' '.join(words + [_ABBREVIATION] * (place % 4 == 3))}")
                number += 1
    layout.text(f"transcript/{TRANSCRIPTS}", *lines)


def build_aishell3(layout: Layout) -> None:
    """Write recordings of train and test, all listed with characters and readings."""
    for part, of_part in _SPEAKERS_3.items():
        lines = []
        for place, recording in enumerate(layout.speech.take(SIZES["aishell3"][part], ["sentence"], part)):
            speaker = of_part[place % len(of_part)]
            name = f"{speaker}{place + 1:04}.wav"
            layout.say(f"{part}/wav/{speaker}/{name}", recording, RATE_3)
            pairs = [pair for word in _sentence(place) for pair in zip(word[0], word[1].split(), strict=True)]
            lines.append(f"{name}\t{' '.join(' '.join(pair) for pair in pairs)}")
        layout.text(f"{part}/content.txt", *lines)


def _sentence(number: int) -> list[tuple[str, str]]:
    """A sentence of four words; four consecutive ones contain all words."""
    return [words[(number + number // 4 * place) % len(words)] for place, words in enumerate(_WORDS)]
