"""Protocol of ASV: heads are trained to classify speakers and chosen by the equal error rate of trials.

SUPERB recipe, as in s3prl 0.4.18. Without trials of dev, as in VoxCeleb1, test selects step and learning rate, as in s3prl, and the cell
says so. With trials of dev, dev selects.
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
from speechft.corpora import load_split, split_names
from speechft.corpora.trials import Trial, read_trials, trials_by_split, trials_path
from speechft.corpora.unchanged import check_content
from speechft.encoders import FeatureEncoder
from speechft.errors import CorpusError, TaskError
from speechft.evaluate.data.clips import CropTable, crop_generator
from speechft.evaluate.data.features import FrameFeatures, FrozenEncoder
from speechft.evaluate.data.folds import Fold
from speechft.evaluate.data.sampling import shuffled
from speechft.evaluate.data.silence import Silence
from speechft.evaluate.data.splits import Split, check_targets, manifest_hash, need_splits, refuse_short, split_titles
from speechft.evaluate.probes.bank import Batch
from speechft.evaluate.probes.outcome import Run, Tested, speakers_of
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.evaluate.probes.training import HeadTraining, train_folds
from speechft.files.hashes import sha256_json
from speechft.recipes.evaluation import EvaluationRecipe
from speechft.recipes.items import TrialScores
from speechft.tasks.asv import SpeakerVerification
from speechft.tasks.detection import equal_error_rate
from speechft.tasks.xvector import XVectorHead

UNUSED = "in no trial"
ENROLMENTS_AT_A_TIME = 4096


@dataclass(frozen=True)
class TrialFold(Fold):
    """Train with speaker indices, dev and test with trials; dev and test contain only recordings in trials."""

    speakers: list[Tensor]
    trials: dict[str, list[Trial]]


def load(
    task: SpeakerVerification, manifests: Manifests, encoder: FeatureEncoder, _: object = None, work: Path | None = None
) -> list[TrialFold]:
    """Read train and the trials, and measure recordings without silence, unless `work` has their lengths.

    Training utterances not longer than the task's `min_seconds` are left out and counted.

    Raises:
        CorpusError: a manifest is missing or damaged, or trials name unknown recordings (all listed).
        TaskError: test does not have trials of both kinds, or speakers are missing or recordings in trials are silent (all listed).
    """
    names = [name for name in SPLITS if name != "dev" or "dev" in split_names(manifests)]
    cuts = {name: tuple(load_split(manifests, name)) for name in names}
    path = trials_path(manifests)
    listed = read_trials(path)
    check_content(path, path.read_bytes())
    trials = _trials_of(cuts, listed, str(path))
    silence = Silence(task.gain, work)
    splits = {"train": _train_split(task, cuts["train"], encoder, silence)}
    for name in ("dev", "test"):
        splits[name] = _trial_split(name, cuts.get(name, ()), trials[name], encoder, silence)
    labels = task.label_set(splits["train"].cuts)
    targets = task.targets(splits["train"].cuts, labels, "The train split")
    return [TrialFold(None, labels, splits, targets, trials)]


def check(task: SpeakerVerification, cuts: Mapping[str, Sequence[Any]], trials: Sequence[Trial]) -> None:
    """Check that the corpus has train, test, trials of both kinds on test, and speakers of train; errors as for `load`."""
    need_splits(cuts, ("train", "test"))
    if not trials:
        raise CorpusError("The corpus has no list of trials, which task 'asv' needs. Give one as `trials` of the corpus.")
    _trials_of(cuts, trials, "trials")
    check_targets(task, {"train": cuts["train"]}, split_titles())


def _trials_of(cuts: Mapping[str, Sequence[Any]], listed: Sequence[Trial], source: str) -> dict[str, list[Trial]]:
    """Return the trials of dev and test; test must have some, dev need not."""
    trials = trials_by_split(listed, {cut.id: name for name, members in cuts.items() for cut in members}, source)
    for name, of_split in trials.items():
        same = sum(trial.same for trial in of_split)
        if (of_split or name == "test") and same in (0, len(of_split)):
            raise TaskError(
                f"{source}: {same} of {len(of_split)} trials of {name} have label 1; an equal error rate needs trials of both kinds."
            )
    return trials


def _train_split(task: SpeakerVerification, cuts: Sequence[Any], encoder: FeatureEncoder, silence: Silence) -> Split:
    shortest = max(round(task.min_seconds * SAMPLE_RATE) + 1, encoder.min_samples)
    sha256 = manifest_hash(cuts)
    voiced = silence.clips(cuts, sha256, "train")
    clips = tuple(clip for clip in voiced if clip.num_samples >= shortest)
    if not clips:
        raise TaskError(
            f"The train split: no utterance is longer than {task.min_seconds:g} s without silence. Lower `min_seconds` of the task."
        )
    left_out = len(voiced) - len(clips)
    dropped = {f"not longer than {task.min_seconds:g} s without silence": left_out} if left_out else {}
    return Split("train", tuple(clip.cut for clip in clips), (), clips, tuple(range(len(clips) + 1)), dropped, sha256)


def _trial_split(name: str, cuts: Sequence[Any], trials: Sequence[Trial], encoder: FeatureEncoder, silence: Silence) -> Split:
    named = {recording for trial in trials for recording in (trial.enrolment, trial.test)}
    used = tuple(cut for cut in cuts if cut.id in named)
    clips = silence.clips(used, manifest_hash(used), name)
    lengths = ((clip.cut.id, clip.num_samples) for clip in clips)
    refuse_short(lengths, encoder, f"The {name} split, without silence", "Leave their trials out")
    dropped = {UNUSED: len(cuts) - len(used)} if len(cuts) > len(used) else {}
    pairs = [[trial.same, trial.enrolment, trial.test] for trial in trials]
    sha256 = sha256_json([manifest_hash(cuts), pairs]) if cuts else ""
    return Split(name, used, (), clips, tuple(range(len(used) + 1)), dropped, sha256)


def run(task: SpeakerVerification, recipe: EvaluationRecipe, encoder: FrozenEncoder, folds: Sequence[TrialFold], folder: Path) -> Run:
    """Train the heads of all seeds and learning rates, choose one, and score test."""
    result = train_folds(task, recipe, encoder, folds, folder, lambda fold: VerificationTraining(task, recipe, encoder, fold))
    result.items = _trial_items(task, folds[0], [tested.trials for tested in result.tested])
    return result


def _trial_items(task: SpeakerVerification, fold: TrialFold, scores: Sequence[Sequence[float]]) -> TrialScores | None:
    """Return the test trials for the cell; None if a head returned NaN."""
    if not np.isfinite(scores).all():
        return None
    cuts, trials = fold.splits["test"].cuts, fold.trials["test"]
    place = {cut.id: number for number, cut in enumerate(cuts)}
    return TrialScores(
        recordings=[cut.id for cut in cuts],
        speakers=speakers_of(cuts),
        enrolments=[place[trial.enrolment] for trial in trials],
        tests=[place[trial.test] for trial in trials],
        same=[trial.same for trial in trials],
        scores={task.metrics[0].key: scores},
    )


class VerificationTraining(HeadTraining):
    """Head training on utterances, long ones cropped to 8 s at every visit, scored by the equal error rate of trials."""

    def __init__(self, task: SpeakerVerification, recipe: EvaluationRecipe, encoder: FrozenEncoder, fold: TrialFold) -> None:
        self.recipe, self.fold = recipe, fold
        self.metric = task.metrics[0]
        self.selected_on = "dev" if fold.trials["dev"] else "test"
        clips = fold.splits["train"].clips
        self.crops = CropTable(clips, [round(task.train_crop_seconds * SAMPLE_RATE)] * len(clips))
        self.features = FrameFeatures(encoder, self.crops)
        self.scored = {name: FrameFeatures(encoder, fold.splits[name].clips) for name in ("dev", "test")}
        budget = self.features.keep(recipe.cache_gb * 1e9, "train")
        self.scored[self.selected_on].keep(budget, self.selected_on)

    def batches(self, generator: Generator) -> Iterator[Batch]:
        """Yield batches of crops and speakers, each utterance once per epoch."""
        crops, speakers = crop_generator(generator), self.fold.speakers
        for utterances in shuffled(len(speakers), self.recipe.batch_size, generator):
            yield [self.crops.draw(utterance, crops) for utterance in utterances], [speakers[utterance] for utterance in utterances]

    def score(self, bank: SeparateProbes, probes: Sequence[int], _: int) -> list[dict[str, float]]:
        """Compute the equal error rate on the selecting split."""
        return [{self.metric.key: rate} for rate, _ in self._rates(bank, probes, self.selected_on)]

    def test(self, bank: SeparateProbes, chosen: int) -> Tested:
        """Compute the equal error rate on test."""
        ((rate, scores),) = self._rates(bank, [chosen], "test")
        return Tested({self.metric.key: rate}, trials=scores.tolist())

    @torch.no_grad()
    def _rates(self, bank: SeparateProbes, probes: Sequence[int], name: str) -> list[tuple[float, NDArray[Any]]]:
        """Compute the equal error rate and the trial scores of each probe."""
        features, clips = self.scored[name], self.fold.splits[name].clips
        of_probes: list[dict[str, Tensor]] = [{} for _ in probes]
        for rows in features.batches():
            hidden_states, lengths = features[rows]
            for embeddings, index in zip(of_probes, probes, strict=True):
                probe = bank.probes[index].eval()
                assert isinstance(probe.head, XVectorHead)
                vectors = probe.head.embed(probe.weighted_sum(hidden_states), lengths)
                embeddings.update((clips[row].cut.id, vector) for row, vector in zip(rows, vectors, strict=True))
        return [trial_error_rate(self.fold.trials[name], embeddings) for embeddings in of_probes]


def trial_scores(trials: Sequence[Trial], embeddings: dict[str, Tensor]) -> NDArray[Any]:
    """Compute the cosine of each trial, float32 (trials,), from unit embeddings (D,), by matrix products over distinct recordings."""
    enrolments, tests = (list(dict.fromkeys(names)) for names in ([trial.enrolment for trial in trials], [trial.test for trial in trials]))
    rows, columns = ({name: position for position, name in enumerate(names)} for names in (enrolments, tests))
    row_of = np.array([rows[trial.enrolment] for trial in trials])
    column_of = np.array([columns[trial.test] for trial in trials])
    scores = np.empty(len(trials), dtype=np.float32)
    against = torch.stack([embeddings[name] for name in tests]).T
    for start in range(0, len(enrolments), ENROLMENTS_AT_A_TIME):
        block = torch.stack([embeddings[name] for name in enrolments[start : start + ENROLMENTS_AT_A_TIME]])
        inside = (row_of >= start) & (row_of < start + len(block))
        scores[inside] = (block @ against).cpu().numpy()[row_of[inside] - start, column_of[inside]]
    return scores


def trial_error_rate(trials: Sequence[Trial], embeddings: dict[str, Tensor]) -> tuple[float, NDArray[Any]]:
    """Compute the equal error rate, a fraction (1, the worst, if there is NaN), and the scores (trials,)."""
    scores = trial_scores(trials, embeddings)
    if not np.isfinite(scores).all():
        return 1.0, scores
    return equal_error_rate(np.array([trial.same for trial in trials], dtype=int), scores), scores
