"""The corpora of benchmarks/superb_cell.py: the same recordings in the layout of s3prl's tasks and as our manifests."""

import csv
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import soundfile
import soxr

SAMPLE_RATE = 16_000
FOLDS = 5
EMOTIONS = ("ang", "hap", "neu", "sad")
CLIP_SECONDS = 1.0


@dataclass(frozen=True)
class Row:
    """A recording in the table."""

    path: Path
    speaker: str
    text: str
    split: str


@dataclass(frozen=True)
class Emotions:
    """ER in IEMOCAP's layout: `root` with recordings, `meta` with a folder of JSON files per session; `manifests` are ours."""

    root: Path
    meta: Path
    manifests: Path
    train: int
    """Training utterances of a fold."""
    scored: int
    """Dev and test utterances of a fold, which s3prl scores at each evaluation."""
    clips: int


@dataclass(frozen=True)
class Phones:
    """PR: a JSON file per split with paths and phones, their lexicon and vocabulary; `manifests` are ours."""

    splits: dict[str, Path]
    lexicon: Path
    vocabulary: Path
    manifests: Path
    sizes: dict[str, int]


def read_table(table: Path) -> list[Row]:
    """Read the rows with a text from a CSV file with the columns path, speaker, text and split."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = [Row(table.parent / row["path"], row["speaker"], row["text"], row["split"]) for row in csv.DictReader(file) if row["text"]]
    if not rows:
        raise SystemExit(f"{table}: no row has a text. Give a table of transcribed sentences with --table.")
    return rows


def make_emotions(rows: list[Row], folder: Path, clips_per_fold: int) -> Emotions:
    """Build an ER corpus in which four speakers represent four emotions, since the classes do not affect the cost.

    There are five sessions of `clips_per_fold` clips, the first seconds of recordings, equally many per class.
    """
    from speechft.tasks.er import er_fold_split

    per_class = clips_per_fold // len(EMOTIONS) * FOLDS
    if not per_class or clips_per_fold % len(EMOTIONS):
        raise SystemExit(f"--clips-per-fold {clips_per_fold}: must be a multiple of {len(EMOTIONS)}")
    by_speaker: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if soundfile.info(row.path).duration >= CLIP_SECONDS:
            by_speaker[row.speaker].append(row)
    chosen = [speaker for speaker, _ in Counter({name: len(spoken) for name, spoken in by_speaker.items()}).most_common(len(EMOTIONS))]
    if len(chosen) < len(EMOTIONS) or len(by_speaker[chosen[-1]]) < per_class:
        raise SystemExit(f"the table needs {len(EMOTIONS)} speakers with {per_class} recordings of {CLIP_SECONDS:g} s or more each")
    data: list[dict[str, str]] = []
    for index in range(per_class):
        for emotion, speaker in zip(EMOTIONS, chosen, strict=True):
            path = f"Session{index % FOLDS + 1}/{emotion}_{index:03d}.wav"
            _copy(by_speaker[speaker][index].path, folder / path, CLIP_SECONDS)
            data.append({"path": path, "label": emotion, "speaker": speaker})
    data.sort(key=lambda item: item["path"])
    for session in [f"Session{number + 1}" for number in range(FOLDS)]:
        parts = {"train": [item for item in data if not item["path"].startswith(session)]}
        parts["test"] = [item for item in data if item["path"].startswith(session)]
        for name, members in parts.items():
            labels = {emotion: number for number, emotion in enumerate(EMOTIONS)}
            _write_json(folder / "meta" / session / f"{name}_meta_data.json", {"labels": labels, "meta_data": members})
    table = [{"path": item["path"], "label": item["label"], "fold": Path(item["path"]).parent.name, "split": "train"} for item in data]
    train, dev = er_fold_split(len(data) - clips_per_fold)
    manifests = _prepare(table, folder)
    return Emotions(folder, folder / "meta", manifests, len(train), len(dev) + clips_per_fold, len(data))


def make_phones(rows: list[Row], folder: Path, sizes: dict[str, int]) -> Phones:
    """Build a PR corpus of the first `sizes[split]` whole recordings of each split. Both sides use the same file of CMU pronunciations."""
    from speechft.downloads.lexicons import CMUDICT
    from speechft.tasks.lexicon import load_lexicon
    from speechft.tasks.vocabularies import PHONEME_VOCABULARY, SPECIALS

    lexicon = load_lexicon([CMUDICT])
    table, splits, words = [], {}, {}
    for split, size in sizes.items():
        members = [row for row in rows if row.split == split and all(word in lexicon for word in row.text.upper().split())][:size]
        if len(members) < size:
            raise SystemExit(f"the table has {len(members)} usable recordings in split {split!r}, {size} are needed")
        entries = []
        for number, row in enumerate(members):
            path = f"{split}/{number:04d}.wav"
            _copy(row.path, folder / path, None)
            spoken = row.text.upper().split()
            words.update({word: lexicon[word] for word in spoken})
            entries.append({"path": str(folder / path), "phones": " ".join(phone for word in spoken for phone in lexicon[word])})
            table.append({"path": path, "text": row.text, "split": split})
        splits[split] = _write_json(folder / f"{split}.json", entries)
    lexicon_file, vocabulary = folder / "lexicon.txt", folder / "phones.txt"
    lexicon_file.write_text("".join(f"{word} {' '.join(phones)}\n" for word, phones in words.items()), encoding="utf-8")
    vocabulary.write_text("".join(f"{symbol}\n" for symbol in PHONEME_VOCABULARY[len(SPECIALS) :]), encoding="utf-8")
    return Phones(splits, lexicon_file, vocabulary, _prepare(table, folder), sizes)


def _copy(source: Path, target: Path, seconds: float | None) -> None:
    """Write the first channel as a 16 kHz WAV file, truncated to `seconds`."""
    samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    waveform = samples[:, 0] if rate == SAMPLE_RATE else soxr.resample(samples[:, 0], rate, SAMPLE_RATE)
    target.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(target, waveform[: None if seconds is None else round(seconds * SAMPLE_RATE)], SAMPLE_RATE, subtype="PCM_16")


def _write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def _prepare(table: list[dict[str, str]], folder: Path) -> Path:
    from speechft.corpora import prepare_corpus
    from speechft.recipes.corpora import CorpusRecipe

    path = folder / "corpus.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)
    prepare_corpus(CorpusRecipe(kind="csv", path=path), folder / "manifests")
    return folder / "manifests"
