"""Fetch the recorded words of config/recorded.yaml: `python mini/fetch_words.py [FOLDER]`.

Clones two public data sets with git into mini/words and writes a table for each: `digits.csv`, the 3000 spoken digits of the Free Spoken
Digit Dataset (CC BY-SA 4.0), and `keywords.csv`, 900 spoken keywords of Picovoice's wake-word benchmark (Apache-2.0). Recordings are not
changed. Existing clones and tables are kept. The data sets are not part of the repository.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import soundfile

HERE = Path(__file__).parent
DIGITS = "https://github.com/Jakobovski/free-spoken-digit-dataset"
DIGIT_WORDS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TAKES = 50
TEST_TAKES = 5
KEYWORDS = "https://github.com/Picovoice/wake-word-benchmark"
KEYWORD_FOLDERS = ("alexa", "computer", "jarvis", "smart mirror", "snowboy", "view glass")
RECORDINGS_OF_A_KEYWORD = 150

Row = dict[str, str]


def clone(url: str, folder: Path) -> Path:
    """Clone the latest state of a repository into a folder of `folder`, unless it exists."""
    out = folder / url.rpartition("/")[2]
    if out.is_dir():
        return out
    by_hand = f"Or clone {url} on another machine, copy the clone to {out} and run this again."
    if shutil.which("git") is None:
        sys.exit(f"{url}: git is needed to get it. {by_hand}")
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["git", "clone", "--quiet", "--depth", "1", url, part],
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{url}: cannot be cloned ({' '.join(done.stderr.split())}). Check the network. {by_hand}")
    return part.rename(out)


def seconds(path: Path) -> str | None:
    """Return the length of a recording; None if it is damaged, empty or not mono."""
    try:
        samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    except soundfile.LibsndfileError:
        return None
    return f"{len(samples) / rate:.3f}" if samples.size and samples.shape[1] == 1 else None


def digits(repository: Path) -> Iterator[Row]:
    """Yield rows of all recordings of the six speakers; the data set's own test split is takes 0 to 4."""
    for digit, word in enumerate(DIGIT_WORDS):
        for speaker in SPEAKERS:
            for take in range(TAKES):
                path = repository / "recordings" / f"{digit}_{speaker}_{take}.wav"
                length = seconds(path)
                if length is None:
                    sys.exit(f"{path}: missing or damaged. Delete {repository} and run this again.")
                split = "test" if take < TEST_TAKES else "train"
                relative = path.relative_to(repository.parent).as_posix()
                yield {"path": relative, "text": word, "digit": str(digit), "speaker": speaker, "split": split, "seconds": length}


def keywords(repository: Path) -> Iterator[Row]:
    """Yield rows of the first decodable recordings of every keyword, by the numbers in their names."""
    for name in KEYWORD_FOLDERS:
        folder = repository / "audio" / name
        files = sorted((path for path in folder.glob("*") if path.suffix in (".flac", ".wav")), key=_by_number)
        usable = islice(((path, length) for path in files if (length := seconds(path))), RECORDINGS_OF_A_KEYWORD)
        rows = [
            {
                "path": path.relative_to(repository.parent).as_posix(),
                "text": name.upper(),
                "keyword": name.replace(" ", "_"),
                "seconds": length,
            }
            for path, length in usable
        ]
        if len(rows) < RECORDINGS_OF_A_KEYWORD:
            sys.exit(f"{folder}: {len(rows)} usable of {RECORDINGS_OF_A_KEYWORD} recordings. Delete {repository} and run this again.")
        yield from rows


def _by_number(path: Path) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"^\d+$", path.stem)], path.name


def write(out: Path, url: str, rows_of: Callable[[Path], Iterator[Row]]) -> None:
    """Write a table unless it exists."""
    if out.is_file():
        print(f"{out} is there and stays as it is")
        return
    rows = list(rows_of(clone(url, out.parent)))
    part = out.with_name(f"{out.name}.part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    part.replace(out)
    print(f"{out}: {len(rows)} recordings, {sum(float(row['seconds']) for row in rows) / 60:.1f} minutes, from {url}")


def main(folder: Path) -> None:
    """Write both tables."""
    write(folder / "digits.csv", DIGITS, digits)
    write(folder / "keywords.csv", KEYWORDS, keywords)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "words")
