"""Input files of fairseq's pre-training tasks: 16 kHz FLAC files, their lists, and HuBERT's labels. Every step runs only once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from tqdm import tqdm

from speechft.conventions import SAMPLE_RATE
from speechft.corpora import load_audio, load_split, num_samples_16k
from speechft.errors import ConfigError, TrainingError
from speechft.files.atomic import atomic_file, write_text
from speechft.files.structured import read_json_mapping, write_json
from speechft.pretrain.kmeans_labels import (
    MFCC_RATE,
    FrameFeatures,
    FrameLabels,
    cluster_labels,
    fit_kmeans,
    load_centroids,
    mfcc_frames,
    normalized,
    save_centroids,
    smoothed,
    write_labels,
)
from speechft.pretrain.layer_labels import ClusterHead, FrozenLayer
from speechft.recipes.pretraining import ContinuedPretrainRecipe, PretrainRecipe

LOGGER = logging.getLogger("speechft.finetune")
LABELS = "km"


@dataclass(frozen=True)
class Utterances:
    """Cuts to train and to validate on, the number of cuts that were too short, and the repetitions of each training cut per epoch."""

    train: list[Any]
    valid: list[Any]
    too_short: int
    repeats: list[int]

    @property
    def hours(self) -> float:
        """Length of the training audio in hours, counting each recording once."""
        return sum(num_samples_16k(cut) for cut in self.train) / SAMPLE_RATE / 3600


def choose_utterances(manifests: Sequence[str | Path], recipe: PretrainRecipe | ContinuedPretrainRecipe) -> Utterances:
    """Choose the train splits of `manifests` without short recordings, and hold out a random share for validation.

    Raises:
        CorpusError: a manifest is missing or damaged.
        TrainingError: fewer than two recordings are long enough.
        ConfigError: `repeats` does not fit the number of manifests.
    """
    repeats = recipe.repeats or (1,) * len(manifests)
    if len(repeats) != len(manifests):
        raise ConfigError(f"repeats: {len(repeats)} numbers for {len(manifests)} corpora. Give one per corpus, in order.")
    cuts = [(cut, times) for manifest, times in zip(manifests, repeats, strict=True) for cut in load_split(manifest, "train")]
    shortest = max(recipe.min_seconds * SAMPLE_RATE, SAMPLE_RATE // 40)
    kept = [(cut, times) for cut, times in cuts if num_samples_16k(cut) >= shortest]
    if len(kept) < 2:
        raise TrainingError(
            f"{len(kept)} of {len(cuts)} recordings last {recipe.min_seconds:g} s or more; at least two are needed. Add audio."
        )
    order = np.random.default_rng(recipe.seed).permutation(len(kept))
    num_valid = max(1, round(recipe.valid_fraction * len(kept)))
    valid, train = sorted(order[:num_valid].tolist()), sorted(order[num_valid:].tolist())
    return Utterances(
        train=[kept[index][0] for index in train],
        valid=[kept[index][0] for index in valid],
        too_short=len(cuts) - len(kept),
        repeats=[kept[index][1] for index in train],
    )


@dataclass(frozen=True)
class LabelSource:
    """Source of HuBERT's targets: MFCC, or a hidden layer or the cluster head of an encoder."""

    kind: Literal["mfcc", "layer", "own_predictions"]
    encoder_dir: Path | None = None
    layer: int | None = None
    normalize: bool = False
    """Whether features are normalized over each utterance before clustering."""
    smooth: int = 1
    """Number of frames over which features are averaged before clustering."""


def prepare_pretraining_data(folder: Path, utterances: Utterances, source: LabelSource | None, *, clusters: int, seed: int) -> float:
    """Write train.tsv, valid.tsv, the audio and, given a `source`, labels and their dictionary to `folder`; existing files are kept.

    Returns:
        Labels per second; 0 without a source.
    """
    audio = {
        "train": _write_audio(folder, "train", utterances.train, utterances.repeats),
        "valid": _write_audio(folder, "valid", utterances.valid, [1] * len(utterances.valid)),
    }
    if source is None:
        return 0.0
    facts = folder / "labels.json"
    if not facts.is_file():
        labels, rate, symbols = _labels(folder, audio["train"], source, clusters, seed)
        for split, files in audio.items():
            if not (folder / f"{split}.{LABELS}").is_file():
                write_labels(folder / f"{split}.{LABELS}", files, labels)
        # fairseq's format, with every cluster, whether or not it is used.
        write_text(folder / f"dict.{LABELS}.txt", "".join(f"{symbol} 1\n" for symbol in symbols))
        write_json(facts, {"rate": rate, "symbols": len(symbols)})
    known = read_json_mapping(facts)
    try:
        return float(known["rate"])
    except (KeyError, TypeError, ValueError):
        raise TrainingError(f"{facts}: damaged. Remove {folder}, and run the command again.") from None


def _labels(folder: Path, audio: list[Path], source: LabelSource, clusters: int, seed: int) -> tuple[FrameLabels, float, list[str]]:
    """Return the frame labeler, labels per second, and the names of the labels."""
    if source.kind == "own_predictions":
        assert source.encoder_dir is not None
        head = ClusterHead(source.encoder_dir)
        return head, head.rate, head.symbols
    features: FrameFeatures = mfcc_frames
    rate: float = MFCC_RATE
    if source.kind == "layer":
        assert source.encoder_dir is not None
        features = frozen = FrozenLayer(source.encoder_dir, source.layer)
        rate = frozen.rate
    if source.normalize:
        features = normalized(features)
    if source.smooth > 1:
        features = smoothed(features, source.smooth)
    centroids = folder / "centroids.npy"
    if not centroids.is_file():
        save_centroids(centroids, fit_kmeans(audio, clusters, seed, features))
    return cluster_labels(features, load_centroids(centroids)), rate, [str(cluster) for cluster in range(clusters)]


def _write_audio(folder: Path, split: str, cuts: Sequence[Any], repeats: Sequence[int]) -> list[Path]:
    """Write audio and its list, with each file repeated as in an epoch, and return the listed files."""
    root = folder / split
    files = [root / f"{index:07d}.flac" for index in range(len(cuts))]
    listed = [file for file, times in zip(files, repeats, strict=True) for _ in range(times)]
    manifest = folder / f"{split}.tsv"
    if manifest.is_file():
        return listed
    lengths = {}
    for cut, path in tqdm(list(zip(cuts, files, strict=True)), desc=f"{split} audio", unit="file", disable=None):
        if not path.is_file():
            with atomic_file(path) as temporary:
                soundfile.write(temporary, load_audio(cut).clamp(-1.0, 1.0).numpy(), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        lengths[path] = num_samples_16k(cut)
    write_text(manifest, "".join(f"{line}\n" for line in [root, *(f"{path.name}\t{lengths[path]}" for path in listed)]))
    return listed
