"""Protocol of SD: recordings in chunks of 40 s, heads chosen by frame accuracy on dev, diarization error rate on test.

SUPERB recipe, as in s3prl 0.4.18: reports the lowest test error rate of ten post-processing settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from speechft.conventions import SAMPLE_RATE, SPLITS, Manifests
from speechft.corpora import load_split, num_samples_16k
from speechft.corpora.rttm import Turn
from speechft.encoders import FeatureEncoder
from speechft.errors import TaskError, listing
from speechft.evaluate.data.clips import Clip
from speechft.evaluate.data.features import FrameFeatures, FrozenEncoder, keep_frames
from speechft.evaluate.data.folds import Fold
from speechft.evaluate.data.sampling import shuffled
from speechft.evaluate.data.splits import Split, manifest_hash, need_splits
from speechft.evaluate.probes.bank import Batch
from speechft.evaluate.probes.batches import scoring_batches
from speechft.evaluate.probes.outcome import Run, Tested
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.evaluate.probes.training import HeadTraining, train_folds
from speechft.evaluate.protocols.der import DiarizationErrors, errors_by_recording, sum_of_errors
from speechft.recipes.evaluation import EvaluationRecipe
from speechft.tasks.heads import fit_frames
from speechft.tasks.sd import FRAME_SHIFT, SpeakerDiarization, chunk_bounds, frame_labels

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
MEDIANS = (1, 11)
"""Lengths of the median filter, in frames."""
SHORT_CHUNK = "last chunk shorter than one encoder frame"


@dataclass(frozen=True)
class MixtureFold(Fold):
    """Recordings of two speakers. The clips of a split are chunks; `chunk_labels` are their frame labels."""

    chunk_labels: dict[str, list[Tensor]]


def check(task: SpeakerDiarization, cuts: Mapping[str, Sequence[Any]], *_: object) -> None:
    """Check that the corpus has all splits and two speakers per recording; errors as for `load`."""
    need_splits(cuts, SPLITS)
    problems: list[str] = []
    for name in SPLITS:
        for cut in cuts[name]:
            _turns(task, name, cut, problems)
    _refuse(problems)


def _turns(task: SpeakerDiarization, name: str, cut: Any, problems: list[str]) -> list[Turn]:
    """Return the turns of a recording; if they cannot be used, none, with a line in `problems`."""
    try:
        return task.turns(cut)
    except TaskError as error:
        problems.append(f"{name}: {error}")
        return []


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise TaskError(listing(f"{len(problems)} recording(s) cannot be used for task 'sd'.", problems))


def load(task: SpeakerDiarization, manifests: Manifests, encoder: FeatureEncoder, *_: object) -> list[MixtureFold]:
    """Cut the recordings of the three splits into chunks.

    A last chunk that is too short for the encoder is left out and counted; it counts as silence in the output.

    Raises:
        CorpusError: a manifest is missing or damaged.
        TaskError: recordings without exactly two speakers, or shorter than one frame; all are listed.
    """
    splits: dict[str, Split] = {}
    labels: dict[str, list[Tensor]] = {}
    problems: list[str] = []
    for name in SPLITS:
        cuts = tuple(load_split(manifests, name))
        clips: list[Clip] = []
        first_clip, labels[name], short = [0], [], 0
        for cut in cuts:
            turns = _turns(task, name, cut, problems)
            if not turns:
                continue
            for start, end in chunk_bounds(num_samples_16k(cut)):
                if (end - start) * FRAME_SHIFT < encoder.min_samples:
                    short += 1
                    continue
                clips.append(Clip(cut, start * FRAME_SHIFT, (end - start) * FRAME_SHIFT))
                labels[name].append(frame_labels(turns, start, end))
            if first_clip[-1] == len(clips):
                problems.append(f"{name}: {cut.id}: {num_samples_16k(cut)} samples at 16 kHz, shorter than one frame. Leave it out.")
            first_clip.append(len(clips))
        dropped = {SHORT_CHUNK: short} if short else {}
        splits[name] = Split(name, cuts, (), tuple(clips), tuple(first_clip), dropped, manifest_hash(cuts))
    _refuse(problems)
    return [MixtureFold(None, task.label_set(()), splits, labels)]


def run(task: SpeakerDiarization, recipe: EvaluationRecipe, encoder: FrozenEncoder, folds: Sequence[MixtureFold], folder: Path) -> Run:
    """Train the heads of all seeds and learning rates, choose on dev, and score test."""
    return train_folds(task, recipe, encoder, folds, folder, lambda fold: DiarizationTraining(task, recipe, encoder, fold))


class LabelledFrames:
    """Features of chunks, adjusted to the frames of their labels as in s3prl: a chunk has one frame less."""

    def __init__(self, encoder: FrozenEncoder, split: Split, labels: Sequence[Tensor]) -> None:
        self.frames = FrameFeatures(encoder, split.clips)
        self.num_labels = [len(label) for label in labels]

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return hidden states (num_states, B, T, D) and label frames (B,) of chunks, on the device."""
        hidden_states, lengths = self.frames[rows]
        wanted = torch.tensor([self.num_labels[row] for row in rows], device=lengths.device)
        return fit_frames(hidden_states, lengths, wanted), wanted


class DiarizationTraining(HeadTraining):
    """Head training on chunks in random order, with frame accuracy on dev and diarization error rate of whole recordings on test."""

    def __init__(self, task: SpeakerDiarization, recipe: EvaluationRecipe, encoder: FrozenEncoder, fold: MixtureFold) -> None:
        self.task, self.recipe, self.fold = task, recipe, fold
        self.metric = task.selection_metric
        of_split = {name: LabelledFrames(encoder, fold.splits[name], fold.chunk_labels[name]) for name in SPLITS}
        keep_frames({name: labelled.frames for name, labelled in of_split.items()}, recipe.cache_gb)
        self.features, self.dev, self.tested = (of_split[name] for name in SPLITS)

    def batches(self, generator: Generator) -> Iterator[Batch]:
        """Yield batches of chunks, each once per epoch."""
        labels = self.fold.chunk_labels["train"]
        for rows in shuffled(len(labels), self.recipe.batch_size, generator):
            yield rows, [labels[row] for row in rows]

    def score(self, bank: SeparateProbes, probes: Sequence[int], _: int) -> list[dict[str, float]]:
        """Compute the frame accuracy on dev."""
        rows = list(enumerate(self.fold.chunk_labels["dev"]))
        return bank.scores(self.dev, scoring_batches(self.fold.splits["dev"], rows, bank.frame_level), probes)  # type: ignore[arg-type]

    @torch.no_grad()
    def test(self, bank: SeparateProbes, chosen: int) -> Tested:
        """Compute the diarization error rates of the ten settings on test, and report the lowest."""
        split, probe = self.fold.splits["test"], bank.probes[chosen].eval()
        parts: dict[int, NDArray[Any]] = {}
        for rows in self.tested.frames.batches():
            logits, lengths = probe(*self.tested[rows])
            for row, outputs, length in zip(rows, torch.sigmoid(logits).cpu().numpy(), lengths.tolist(), strict=True):
                parts[row] = outputs[:length]
        probabilities = {
            cut.id: np.concatenate([parts[row] for row in range(split.first_clip[index], split.first_clip[index + 1])])
            for index, cut in enumerate(split.cuts)
        }
        reference = [turn for cut in split.cuts for turn in self.task.turns(cut)]
        settings = {}
        for median in MEDIANS:
            for threshold in THRESHOLDS:
                system = [turn for name, outputs in probabilities.items() for turn in system_turns(name, outputs, threshold, median)]
                settings[f"threshold {threshold:g}, median {median}"] = errors_by_recording(reference, system)
        rates = {name: {"SD": sum_of_errors(errors).rate} for name, errors in settings.items()}
        best = min(rates, key=lambda name: rates[name]["SD"])
        silent = DiarizationErrors(0, 0, 0, 0)
        errors = [settings[best].get(cut.id, silent) for cut in split.cuts]
        return Tested(rates[best], rates, split.cuts, {"SD": [(one.wrong, one.scored) for one in errors]})


def system_turns(recording: str, probabilities: NDArray[Any], threshold: float, median: int, frame_shift: int = FRAME_SHIFT) -> list[Turn]:
    """Convert frame probabilities (T, speakers) of a recording to turns: threshold, then a median filter.

    The filter covers `median` frames (odd), with zeros past the ends. Times have two decimals, as in RTTM.
    """
    turns = []
    for speaker, active in enumerate((probabilities > np.float32(threshold)).T):
        # The median of zeros and ones is the majority.
        smooth = np.convolve(active, np.ones(median), "full")[median // 2 :][: len(active)] > median / 2
        changes = np.flatnonzero(np.diff(smooth.astype(np.int8), prepend=0, append=0))
        for first, end in changes.reshape(-1, 2) * (frame_shift / SAMPLE_RATE):
            turns.append(Turn(recording, round(float(first), 2), round(float(end - first), 2), f"{recording}_{speaker}"))
    return turns
