"""Plan of the corpus: voice, text and split of every recording.

A recording has the same split in every task, so that no task trains on test recordings of another.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import texts

# Kokoro's names: a = American, b = British; f = female, m = male.
VOICES = {
    "train": (
        *("af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_nicole", "af_nova", "af_sky"),
        *("am_adam", "am_echo", "am_eric", "am_onyx", "am_puck", "am_santa", "bf_alice", "bf_lily", "bm_fable", "bm_lewis"),
    ),
    "dev": ("af_river", "am_liam", "bf_isabella", "bm_daniel"),
    "test": ("af_alloy", "af_sarah", "am_fenrir", "am_michael", "bf_emma", "bm_george"),
}
SPLIT_OF_VOICE = {voice: split for split, voices in VOICES.items() for voice in voices}
ALL_VOICES = tuple(sorted(SPLIT_OF_VOICE))
WHISPERER = "af_nicole"  # always whispers, so excluded from the task of speaking styles
STYLES = ("neutral", "excited", "calm", "whispered")
FOLDS = 5

SENTENCES = {"train": 16, "dev": 12, "test": 12}  # of each voice of that split, for PR, ASR, SD, QbE
# Short ones for SID alone, of each voice of that split: {split of the recording: number}
SPEAKER_SENTENCES = {"train": {"dev": 2, "test": 5}, "dev": {"train": 10, "test": 5}, "test": {"train": 10, "dev": 2}}
KEYWORD_TAKES = {"train": 2, "dev": 4, "test": 6}
UNKNOWNS = {"train": 4, "dev": 6, "test": 10}
SILENCES = {"train": 36, "dev": 12, "test": 30}
COMMANDS = {"train": 12, "dev": 10, "test": 15}
STYLED = 3  # of each style and voice
QUERIES = 3  # of each term

# A second round, for dev and test alone: small test sets hide differences. It leaves the names and texts of the first one as they are.
MORE_SENTENCES = {"train": 0, "dev": 24, "test": 24}  # of each voice of that split
MORE_SPEAKER_SENTENCES = {"dev": 4, "test": 10}  # of each voice of another split
MORE_COMMANDS = {"train": 0, "dev": 15, "test": 30}


Phones = list[tuple[str, float, float]]


@dataclass(frozen=True)
class Utterance:
    """One recording.

    `kind` is sentence, speaker (a sentence for SID alone), keyword, unknown, silence, command, style or query; `label` what the task of
    that kind needs: the word, the style, the intent, the term. `slots` are the slot types of a command's words.
    """

    name: str
    kind: str
    split: str
    voice: str
    text: str
    label: str = ""
    slots: str = ""
    fold: str = ""

    @property
    def path(self) -> str:
        """Path of the recording, relative to the folder of the tables."""
        return f"{self.name}.opus"


@dataclass(frozen=True)
class Recording:
    """A finished recording: its length, the extent of its speech and its phones, all in seconds from its start."""

    utterance: Utterance
    seconds: float
    start: float
    end: float
    phones: Phones


def plan() -> list[Utterance]:
    """Plan all recordings, in a fixed order."""
    makers: tuple[Callable[[], Iterator[Utterance]], ...] = (_sentences, _keywords, _silences, _commands, _styles)
    utterances = [utterance for maker in makers for utterance in maker()]
    utterances += _queries([u for u in utterances if u.kind in ("sentence", "speaker")])
    return utterances + list(_more_sentences(utterances)) + list(_commands(MORE_COMMANDS, "more intents", COMMANDS))


def _sentences() -> Iterator[Utterance]:
    """Plan sentences without repeated texts. Those of dev and test contain a query term of their split, half of those of train any term."""
    seen: set[str] = set()
    decks = {split: _deck(f"terms {split}", terms) for split, terms in (("dev", texts.DEV_TERMS), ("test", texts.TEST_TERMS))}
    decks["train"] = _deck("terms train", texts.DEV_TERMS + texts.TEST_TERMS)
    for voice in ALL_VOICES:
        own = SPLIT_OF_VOICE[voice]
        jobs = [("sentence", own, texts.sentence)] * SENTENCES[own]
        jobs += [("speaker", split, texts.short_sentence) for split, count in SPEAKER_SENTENCES[own].items() for _ in range(count)]
        for number, (kind, split, grammar) in enumerate(jobs, start=1):
            name = f"sentences/{voice}-{number:02}"
            term = next(decks[split]) if split != "train" or number % 2 else None
            yield Utterance(name, kind, split, voice, _new_text(grammar, name, term, seen), term or "")


def _more_sentences(first: list[Utterance]) -> Iterator[Utterance]:
    """Plan the second round: sentences with terms that their voice does not say as a query, and short ones without terms."""
    said = [u for u in first if u.kind in ("sentence", "speaker")]
    seen, queries = {u.text for u in said}, {(u.voice, u.text) for u in first if u.kind == "query"}
    decks = {split: _deck(f"more terms {split}", terms) for split, terms in (("dev", texts.DEV_TERMS), ("test", texts.TEST_TERMS))}
    for voice in ALL_VOICES:
        own = SPLIT_OF_VOICE[voice]
        jobs = [("sentence", own)] * MORE_SENTENCES[own]
        jobs += [("speaker", split) for split, count in MORE_SPEAKER_SENTENCES.items() if split != own for _ in range(count)]
        for number, (kind, split) in enumerate(jobs, start=1 + sum(u.voice == voice for u in said)):
            name = f"sentences/{voice}-{number:02}"
            term = next(term for term in decks[split] if (voice, term) not in queries) if kind == "sentence" else None
            grammar = texts.sentence if kind == "sentence" else texts.short_sentence
            yield Utterance(name, kind, split, voice, _new_text(grammar, name, term, seen), term or "")


def _new_text(grammar: Callable[[Random, str | None], str], name: str, term: str | None, seen: set[str]) -> str:
    text = next(text for text in (grammar(Random(f"{name} {attempt}"), term) for attempt in range(99)) if _fits(text, seen))
    seen.add(text)
    return text


def _fits(text: str, seen: set[str]) -> bool:
    words = Counter(text.split())
    return text not in seen and all(count == 1 for word, count in words.items() if len(word) > 5)


def _deck(seed: str, items: tuple[str, ...]) -> Iterator[str]:
    """Yield all items in random order, repeatedly."""
    rng = Random(seed)
    while True:
        yield from rng.sample(items, len(items))


def _keywords() -> Iterator[Utterance]:
    for split, voices in VOICES.items():
        for voice in voices:
            for word in texts.KEYWORDS:
                for take in range(1, KEYWORD_TAKES[split] + 1):
                    yield Utterance(f"keywords/{voice}-{word}-{take}", "keyword", split, voice, word, word)
            for word in sorted(Random(f"unknown {voice}").sample(texts.UNKNOWN_WORDS[split], UNKNOWNS[split])):
                yield Utterance(f"keywords/{voice}-{word}", "unknown", split, voice, word, "_unknown_")


def _silences() -> Iterator[Utterance]:
    for split, count in SILENCES.items():
        for number in range(1, count + 1):
            yield Utterance(f"keywords/silence-{split}-{number:02}", "silence", split, "", "", "_silence_")


def _commands(counts: dict[str, int] = COMMANDS, seed: str = "intents", before: dict[str, int] | None = None) -> Iterator[Utterance]:
    """Plan `counts` commands of each voice, numbered after those of `before`."""
    for split, voices in VOICES.items():
        intents = _deck(f"{seed} {split}", tuple(texts.intents()))  # type: ignore[arg-type]
        for voice in voices:
            first = 1 + (before[split] if before else 0)
            for number in range(first, first + counts[split]):
                name, intent = f"commands/{voice}-{number:02}", next(intents)
                words, slots = texts.command(Random(name), intent)  # type: ignore[arg-type]
                yield Utterance(name, "command", split, voice, words, "|".join(intent), " ".join(slots))


def _styles() -> Iterator[Utterance]:
    """Plan styles, with the same texts in all styles and different voices."""
    sentences: list[str] = []
    rng = Random("plain sentences")
    while len(sentences) < 4 * STYLED * 4:
        text = texts.plain_sentence(rng)
        if text not in sentences and len(text.split()) >= 4:
            sentences.append(text)
    decks = {style: _deck(f"style {style}", tuple(sentences)) for style in STYLES}
    voices = [voice for voice in sorted(ALL_VOICES, key=lambda voice: (voice[:2], voice)) if voice != WHISPERER]
    for number, voice in enumerate(voices):
        used: set[str] = set()
        for style in STYLES:
            for take in range(1, STYLED + 1):
                text = next(text for text in decks[style] if text not in used)
                used.add(text)
                yield Utterance(f"styles/{voice}-{style}-{take}", "style", "train", voice, text, style, fold=str(number % FOLDS + 1))


def _queries(sentences: list[Utterance]) -> Iterator[Utterance]:
    """Plan queries: each term from held-out voices that do not say it in a document."""
    held_out = VOICES["dev"] + VOICES["test"]
    for split, terms in (("dev", texts.DEV_TERMS), ("test", texts.TEST_TERMS)):
        for term in terms:
            speakers = {u.voice for u in sentences if u.split == split and term in u.text}
            free = [voice for voice in held_out if voice not in speakers]
            for voice in sorted(Random(f"query {term}").sample(free, QUERIES)):
                yield Utterance(f"queries/{voice}-{term.replace(' ', '_')}", "query", split, voice, term, term)


if __name__ == "__main__":
    for utterance in random.sample(plan(), 30):
        print(utterance)
