"""Baseline accuracy of averaged filterbanks: logistic regression on mean and deviation over time of 40 log-mel energies."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from effects import RATE
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

WINDOW, HOP, MELS = 400, 160, 40
Row = dict[str, str]


def mel_weights() -> NDArray[np.float64]:
    """Build triangular filters of equal width on the mel scale, (bins, mels)."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), MELS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(512, 1 / RATE)[:, None]
    return np.maximum(0, np.minimum((bins - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - bins) / (edges[2:] - edges[1:-1])))


@cache
def features(path: Path) -> NDArray[np.float64]:
    """Compute mean and deviation over time of a recording's log-mel energies and of their changes, (160,)."""
    samples, _ = soundfile.read(path)
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP] * np.hanning(WINDOW)
    energies = np.log(np.abs(np.fft.rfft(frames, 512)) ** 2 @ mel_weights() + 1e-8)
    changes = np.gradient(energies, axis=0)
    return np.concatenate([energies.mean(0), energies.std(0), changes.mean(0), changes.std(0)])


def rows(folder: Path, table: str) -> list[Row]:
    """Read the rows of a table."""
    with (folder / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def accuracy(folder: Path, train: list[Row], test: list[Row], label: str = "label", width: int = 160) -> list[bool]:
    """Fit a probe on train and return which test rows it classifies correctly; `width` 40 uses only the means."""
    matrices = [np.stack([features(folder / row["path"])[:width] for row in part]) for part in (train, test)]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=2000))
    probe.fit(matrices[0], [row[label] for row in train])
    return [bool(found == row[label]) for found, row in zip(probe.predict(matrices[1]), test, strict=True)]


def table_accuracy(folder: Path, table: str, width: int) -> float:
    """Compute the accuracy on a table: on its test split, as mean over its folds, or for intents with all slots correct."""
    found = rows(folder, table)
    if table == "commands":
        for row in found:
            row["action"], row["object"], row["location"] = row["label"].split("|")
        train, test = ([row for row in found if row["split"] == split] for split in ("train", "test"))
        slots = [accuracy(folder, train, test, slot, width) for slot in ("action", "object", "location")]
        return float(np.mean(np.all(slots, axis=0)))
    if "fold" in found[0]:
        folds = sorted({row["fold"] for row in found})
        splits = [([r for r in found if r["fold"] != fold], [r for r in found if r["fold"] == fold]) for fold in folds]
    else:
        splits = [([r for r in found if r["split"] == "train"], [r for r in found if r["split"] == "test"])]
    return float(np.mean([np.mean(accuracy(folder, *split, width=width)) for split in splits]))
