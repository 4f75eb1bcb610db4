"""Measure the corpus: `python mini/check_speech.py [--folder mini/speech] [--raw RAW --whisper WHISPER] [--sample 100]`.

Prints lengths and levels, accuracies of filterbank probes and, given the clean speech of synthesise.py and a Whisper model in CTranslate2
layout (see README.md), word error rates of clean speech and under recording conditions.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from pathlib import Path
from random import Random

import numpy as np
import soundfile
from effects import RATE
from probes import rows, table_accuracy

HERE = Path(__file__).parent
DIGITS = {"2": "two", "3": "three", "4": "four", "5": "five", "6": "six", "7": "seven", "8": "eight", "9": "nine", "10": "ten"}
DIGITS |= {"11": "eleven", "12": "twelve", "13": "thirteen", "30": "thirty", "40": "forty", "50": "fifty"}


def levels(folder: Path) -> None:
    """Print lengths and levels of all recordings."""
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    loudness: defaultdict[str, list[float]] = defaultdict(list)
    peaks, lengths = [], []
    for row in rows(folder, "manifest"):
        samples, rate = soundfile.read(folder / row["path"])
        if rate != RATE or samples.ndim != 1:
            raise SystemExit(f"{row['path']}: not 16 kHz mono")
        length = len(samples) / RATE
        for key in (("kind", row["kind"]), ("voice", row["speaker"]), ("split", row["split"])):
            seconds[key] += length
        loudness["silence" if row["kind"] == "silence" else "speech"].append(10 * np.log10(np.mean(samples**2)))
        peaks.append(np.abs(samples).max())
        lengths.append(length)
    extent = f"{min(lengths):.2f} to {max(lengths):.2f} s"
    print(f"{len(lengths)} recordings, {sum(lengths) / 60:.1f} minutes, {extent}; highest peak {max(peaks):.3f}")
    for kind, values in loudness.items():
        low, median, high = np.percentile(values, (0, 50, 100))
        print(f"RMS of {kind}: {low:.1f} to {high:.1f} dB of full scale, median {median:.1f}")
    for group in ("kind", "split", "voice"):
        print(
            f"minutes a {group}:",
            ", ".join(f"{name} {time / 60:.1f}" for (of, name), time in sorted(seconds.items()) if of == group and name),
        )


def probes(folder: Path) -> None:
    """Print accuracies of filterbank probes."""
    print("accuracy of logistic regression on | means | means, deviations, changes")
    for table in ("keywords", "speakers", "styles", "commands"):
        print(f"{table} | {100 * table_accuracy(folder, table, 40):.1f} % | {100 * table_accuracy(folder, table, 160):.1f} %")


def recognizer(folder: Path, raw: Path, whisper: Path, sample: int) -> None:
    """Print word error rates of Whisper on sentences, clean and under recording conditions."""
    import jiwer
    from faster_whisper import WhisperModel

    model = WhisperModel(str(whisper), device="cpu", compute_type="int8", cpu_threads=2, local_files_only=True)
    chosen = Random(0).sample([row for row in rows(folder, "manifest") if row["kind"] in ("sentence", "speaker")], sample)
    texts = [row["text"].lower() for row in chosen]
    for condition, place, suffix in (("clean", raw, ".flac"), ("recording conditions", folder, ".opus")):
        heard = []
        for row in chosen:
            samples, _ = soundfile.read((place / row["path"]).with_suffix(suffix), dtype="float32")
            segments, _ = model.transcribe(np.pad(samples, RATE // 2), language="en", without_timestamps=True)
            heard.append(_normal(" ".join(segment.text for segment in segments)))
        print(f"word error rate of {len(texts)} sentences, {condition}: {100 * jiwer.wer(texts, heard):.1f} %")


def _normal(text: str) -> str:
    words = re.sub("[^a-z0-9' ]", " ", text.lower()).split()
    return " ".join(DIGITS.get(word, word) for word in words)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=HERE / "speech")
    parser.add_argument("--raw", type=Path)
    parser.add_argument("--whisper", type=Path)
    parser.add_argument("--sample", type=int, default=100)
    arguments = parser.parse_args()
    levels(arguments.folder)
    probes(arguments.folder)
    if arguments.raw and arguments.whisper:
        recognizer(arguments.folder, arguments.raw, arguments.whisper, arguments.sample)
