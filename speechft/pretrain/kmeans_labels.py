"""k-means clusters of frames as HuBERT's targets, and MFCC, the features of its first iteration."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from tqdm import tqdm

from speechft.errors import TrainingError
from speechft.files.atomic import atomic_file
from speechft.runtime.threads import one_thread

LOGGER = logging.getLogger("speechft.finetune")
MFCC_RATE = 100
"""MFCC frames per second."""
MAX_FIT_FRAMES = 1_000_000
"""Most frames to fit k-means on, drawn at random: 2.8 hours of MFCC, 156 MB; fewer for features wider than 200."""
MAX_FIT_VALUES = 200_000_000
LABEL_PART = 2000
"""Number of files whose labels are written together."""
MIN_DEVIATION = 1e-3
"""Lower bound of the deviation in normalization."""
BATCH_SECONDS = 60
"""Seconds of audio per feature batch."""

Features = NDArray[np.float32]
FrameFeatures = Callable[[Sequence[torch.Tensor]], list[Features]]
"""Function from waveforms (N,) at 16 kHz to features (T, D) for k-means."""
FrameLabels = Callable[[Sequence[torch.Tensor]], list[NDArray[np.int64]]]
"""Function from waveforms (N,) at 16 kHz to labels (T,)."""


@cache
def _mfcc_layer() -> Any:
    from lhotse.features.kaldi.layers import Wav2MFCC

    # Kaldi's defaults, as in HuBERT: 25 ms Povey windows every 10 ms, 23 mel bins from 20 Hz to 8 kHz, whole windows only, no energy.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lhotse warns about lengths in feature manifests, which are not used here
        return Wav2MFCC(num_filters=23, num_ceps=13, low_freq=20.0, high_freq=0.0, snip_edges=True, use_energy=False, dither=0.0)


def mfcc_features(waveform: torch.Tensor) -> Features:
    """Compute 13 MFCC with first and second time derivatives (T, 39), 100 frames per second, of a waveform (N,) at 16 kHz.

    HuBERT (Hsu et al., 2021), section IV-A. T = 1 + (N - 400) // 160.
    """
    with torch.no_grad():
        cepstra = _mfcc_layer()(waveform[None].float())[0].numpy()
    first = slopes(cepstra)
    return np.concatenate([cepstra, first, slopes(first)], axis=1).astype(np.float32)


def slopes(values: Features) -> Features:
    """Compute the time derivative of (T, D) as in Kaldi: the slope of a line fitted over five frames, with repeated edge frames."""
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    slope: Features = ((padded[3:-1] - padded[1:-3] + 2.0 * (padded[4:] - padded[:-4])) / 10.0).astype(np.float32)
    return slope


def read_waveform(path: Path) -> torch.Tensor:
    """Read the float32 waveform (N,) of a mono file."""
    return torch.from_numpy(soundfile.read(path, dtype="float32")[0])


def mfcc_frames(waveforms: Sequence[torch.Tensor]) -> list[Features]:
    """Compute `mfcc_features` of several waveforms."""
    with one_thread():
        return [mfcc_features(waveform) for waveform in waveforms]


def normalized(features: FrameFeatures) -> FrameFeatures:
    """Normalize features to mean 0 and deviation 1 over each utterance; constant features become 0."""

    def scaled(matrix: Features) -> Features:
        centered = matrix - matrix.mean(axis=0)
        return np.asarray(centered / np.maximum(centered.std(axis=0), MIN_DEVIATION), dtype=np.float32)

    return lambda waveforms: [scaled(matrix) for matrix in features(waveforms)]


def smoothed(features: FrameFeatures, frames: int) -> FrameFeatures:
    """Average features over `frames` (odd) neighboring frames; edge frames are repeated."""
    return lambda waveforms: [uniform_filter1d(matrix, frames, axis=0, mode="nearest") for matrix in features(waveforms)]


def fit_kmeans(audio: Sequence[Path], clusters: int, seed: int, features: FrameFeatures = mfcc_frames) -> Features:
    """Fit k-means on the frames of `audio`, or of a random subset of the files, and return the centroids (clusters, D).

    Raises:
        TrainingError: there are fewer frames than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans

    frames: list[Features] = []
    count, wanted = 0, MAX_FIT_FRAMES
    order = [audio[index] for index in np.random.default_rng(seed).permutation(len(audio))]
    for batch in _batches(order, "frames for k-means"):
        for matrix in features([read_waveform(path) for path in batch]):
            wanted = min(wanted, MAX_FIT_VALUES // matrix.shape[1])
            if count < wanted:
                frames.append(matrix)
                count += len(matrix)
        if count >= wanted:
            break
    if count < clusters:
        raise TrainingError(f"{count} frames of audio are too few for {clusters} clusters. Add audio or lower `clusters`.")
    kmeans = MiniBatchKMeans(
        n_clusters=clusters,
        init="k-means++",
        batch_size=10_000,
        max_iter=100,
        n_init=5,
        tol=0.0,
        max_no_improvement=100,
        reassignment_ratio=0.0,
        random_state=seed,
    ).fit(np.concatenate(frames))
    LOGGER.info("k-means: %d clusters on %d frames, mean squared distance %.1f", clusters, count, kmeans.inertia_ / count)
    centroids: Features = kmeans.cluster_centers_.astype(np.float32)
    return centroids


def _batches(audio: Sequence[Path], title: str) -> Iterator[list[Path]]:
    """Yield `audio` in order, in lists of about BATCH_SECONDS, and show progress."""
    batch: list[Path] = []
    seconds = 0.0
    for path in tqdm(audio, desc=title, unit="file", disable=None):
        batch.append(path)
        seconds += soundfile.info(path).duration
        if seconds >= BATCH_SECONDS:
            yield batch
            batch, seconds = [], 0.0
    if batch:
        yield batch


def nearest_centroids(features: Features, centroids: Features) -> NDArray[np.int64]:
    """Return the index of the closest centroid (K, D) for every frame of features (T, D): (T,)."""
    # |x - c|^2 = |x|^2 - 2 x.c + |c|^2, and |x|^2 is the same for all centroids.
    distances = (centroids**2).sum(axis=1)[None, :] - 2.0 * features @ centroids.T
    return np.asarray(distances.argmin(axis=1))


def cluster_labels(features: FrameFeatures, centroids: Features) -> FrameLabels:
    """Build a labeler that assigns frames to their nearest centroids."""
    return lambda waveforms: [nearest_centroids(matrix, centroids) for matrix in features(waveforms)]


def write_labels(path: Path, audio: Sequence[Path], labels: FrameLabels) -> None:
    """Write one line of labels per file of `audio`; an interrupted process resumes after the last part of LABEL_PART files."""
    parts = path.with_name(f"{path.name}.parts")
    made = []
    for number, first in enumerate(range(0, len(audio), LABEL_PART)):
        made.append(parts / f"{number:05d}")
        if not made[-1].is_file():
            with atomic_file(made[-1]) as temporary, temporary.open("w", encoding="ascii") as file:
                for batch in _batches(audio[first : first + LABEL_PART], f"{path.name} from {first}"):
                    for sequence in labels([read_waveform(wav) for wav in batch]):
                        file.write(" ".join(map(str, sequence)) + "\n")
    with atomic_file(path) as temporary, temporary.open("wb") as whole:
        for part in made:
            whole.write(part.read_bytes())
    shutil.rmtree(parts, ignore_errors=True)


def save_centroids(path: Path, centroids: Features) -> None:
    """Write centroids to a .npy file."""
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, centroids, allow_pickle=False)


def load_centroids(path: Path) -> Features:
    """Read centroids from a .npy file.

    Raises:
        TrainingError: the file is damaged.
    """
    try:
        centroids: Features = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TrainingError(f"{path}: damaged ({error}). Remove it, and run the command again.") from None
    return centroids
