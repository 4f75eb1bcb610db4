"""Protocol of QbE: search the documents for the queries with every hidden state, choose the state on dev, score test with it.

SUPERB recipe, as in s3prl 0.4.18. All hidden states come from the same pass of the encoder.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from speechft.conventions import Manifests
from speechft.corpora import load_split, num_samples_16k
from speechft.encoders import FeatureEncoder
from speechft.errors import TaskError, listing
from speechft.evaluate.data.clips import Clip
from speechft.evaluate.data.features import FrameFeatures, FrozenEncoder, read_tensor, write_tensor
from speechft.evaluate.data.folds import Fold
from speechft.evaluate.data.splits import Split, manifest_hash, need_splits, refuse_short
from speechft.evaluate.probes.outcome import Run, speakers_of
from speechft.evaluate.protocols.dtw import MIN_QUERY_FRAMES, FrameStatistics, raw_scores, z_scores
from speechft.files.hashes import sha256_json
from speechft.recipes.cell import Selected, Trial
from speechft.recipes.evaluation import EvaluationRecipe
from speechft.recipes.items import ItemShares
from speechft.tasks.detection import maximum_term_weighted_value, term_weighted_value
from speechft.tasks.qbe import DOCUMENT, QUERY, QueryByExample

SCORES_VERSION = 1
"""Increment when the computed scores change; part of the name of cached scores."""
YES = 2.0
"""Fixed threshold: a hit is more than this many standard deviations above the mean score of its query."""
SHORT_QUERY = f"query of less than {MIN_QUERY_FRAMES} frames (score 0)"
NO_OCCURRENCE = "query without a relevant document (not in the value)"


@dataclass(frozen=True)
class Search:
    """Queries and documents of a split, as rows of the features; `relevant` is bool (queries, documents)."""

    queries: list[int]
    documents: list[int]
    relevant: NDArray[np.bool_]


@dataclass(frozen=True)
class SearchFold(Fold):
    """Searches of dev and test among `clips`, each of which is encoded once."""

    clips: tuple[Clip, ...]
    searches: Mapping[str, Search]


def load(task: QueryByExample, manifests: Manifests, encoder: FeatureEncoder, *_: object) -> list[SearchFold]:
    """Read dev and test. A split without documents searches those of the other split.

    Raises:
        CorpusError: a manifest is missing or damaged.
        TaskError: a cut is neither query nor document, there are no queries or documents, relevant documents are not searched, no query has
            an occurrence, or recordings are shorter than one frame; all are listed.
    """
    cuts = {name: tuple(load_split(manifests, name)) for name in ("dev", "test")}
    lengths = [(f"{name}: {cut.id}", num_samples_16k(cut)) for name, members in cuts.items() for cut in members]
    refuse_short(lengths, encoder, "The dev and test splits", "Leave them out of the corpus")
    sides = _sides(task, cuts)
    # A recording in two splits is encoded once.
    rows: dict[tuple[str, str, float, int], int] = {}
    clips: list[Clip] = []

    def row_of(cut: Any) -> int:
        key = (cut.id, str(cut.recording.sources[0].source), float(cut.start), int(cut.num_samples))
        if key not in rows:
            rows[key] = len(clips)
            clips.append(Clip(cut, 0, num_samples_16k(cut)))
        return rows[key]

    searches: dict[str, Search] = {}
    splits = {"train": Split("train", (), (), (), (0,), {}, "")}
    for name, (queries, documents, relevant) in sides.items():
        searches[name] = Search([row_of(query) for query in queries], [row_of(document) for document in documents], relevant)
        short = sum(encoder.frame_count(num_samples_16k(query)) < MIN_QUERY_FRAMES for query in queries)
        absent = int((~searches[name].relevant.any(axis=1)).sum())
        dropped = {reason: count for reason, count in ((SHORT_QUERY, short), (NO_OCCURRENCE, absent)) if count}
        members = cuts[name]
        own = tuple(clips[row_of(cut)] for cut in members)
        splits[name] = Split(name, members, (), own, tuple(range(len(own) + 1)), dropped, manifest_hash(members))
    return [SearchFold(None, task.label_set(()), splits, tuple(clips), searches)]


def check(task: QueryByExample, cuts: Mapping[str, Sequence[Any]], *_: object) -> None:
    """Check that the corpus has dev, test, queries, documents and relevant documents; errors as for `load`."""
    need_splits(cuts, ("dev", "test"))
    _sides(task, {name: cuts[name] for name in ("dev", "test")})


def _sides(task: QueryByExample, cuts: Mapping[str, Sequence[Any]]) -> dict[str, tuple[list[Any], list[Any], NDArray[np.bool_]]]:
    """Return queries, documents and relevance, bool (queries, documents), of dev and of test."""
    problems: list[str] = []
    roles: dict[str, dict[str, list[Any]]] = {name: {QUERY: [], DOCUMENT: []} for name in cuts}
    for name, members in cuts.items():
        for cut in members:
            try:
                roles[name][task.role(cut)].append(cut)
            except TaskError as error:
                problems.append(f"{name}: {error}")
    if problems:
        raise TaskError(listing(f"{len(problems)} recording(s) cannot be used for task 'qbe'.", problems))
    sides = {}
    for name, other in (("dev", "test"), ("test", "dev")):
        queries, documents = roles[name][QUERY], roles[name][DOCUMENT] or roles[other][DOCUMENT]
        sides[name] = queries, documents, _relevance(task, name, queries, documents)
    return sides


def _relevance(task: QueryByExample, name: str, queries: Sequence[Any], documents: Sequence[Any]) -> NDArray[np.bool_]:
    """Return bool (queries, documents): whether the document contains the query."""
    if not queries or not documents:
        lacking = "query" if not queries else "document (nor has the other split)"
        raise TaskError(f"The {name} split has no {lacking}. Set the corpus's label column to {QUERY!r} or {DOCUMENT!r}.")
    column_of = {document.id: column for column, document in enumerate(documents)}
    relevant = np.zeros((len(queries), len(documents)), dtype=np.bool_)
    problems = []
    for row, query in enumerate(queries):
        unknown = [identity for identity in task.relevant(query) if identity not in column_of]
        if unknown:
            problems.append(f"{query.id}: {', '.join(unknown)}")
        relevant[row, [column_of[identity] for identity in task.relevant(query) if identity in column_of]] = True
    if problems:
        heading = f"The {name} split: {len(problems)} quer(ies) have relevant documents that are not among its {len(documents)} documents."
        raise TaskError(listing(heading, problems))
    if not relevant.any():
        raise TaskError(f"The {name} split: no query has a relevant document. Fill the corpus's relevant column.")
    return relevant


def run(task: QueryByExample, recipe: EvaluationRecipe, encoder: FrozenEncoder, folds: Sequence[SearchFold], folder: Path) -> Run:
    """Search with every hidden state on dev and with the best one on test.

    Features are kept in memory up to `recipe.cache_gb`; other recordings are encoded once each for the frame statistics, dev and test.
    Scores are saved to `folder` as documents are finished, and an interrupted search resumes after them.
    """
    (fold,) = folds
    started = time.monotonic()
    features = FrameFeatures(encoder, fold.clips)
    features.keep(recipe.cache_gb * 1e9, "queries and documents")
    statistics = _frame_statistics(features, fold.searches)
    result = Run(feature_seconds=time.monotonic() - started)
    searching = Searching(task, features, statistics, folder)
    layers = list(range(encoder.encoder.num_states))
    values = [_values(scores, fold.searches["dev"])["QbE"] for scores in searching.z_scores(fold.searches, "dev", layers)]
    best = int(np.argmax(values))
    (scores,) = searching.z_scores(fold.searches, "test", [best])
    test = _values(scores, fold.searches["test"])
    for layer, value in enumerate(values):
        result.trials.append(Trial(seed=None, layer=layer, dev={"QbE": value}, selected=layer == best))
    at_fixed = {f"z score above {YES:g}": {"QbE": test["at fixed threshold"]}}
    result.selected.append(Selected(seed=None, layer=best, test={"QbE": test["QbE"]}, alternatives=at_fixed))
    result.average(task, [None])
    result.items = _query_items(fold, scores)
    result.training_seconds = time.monotonic() - started - result.feature_seconds
    return result


def _frame_statistics(features: FrameFeatures, searches: Mapping[str, Search]) -> dict[str, FrameStatistics]:
    """Compute mean and deviation over the frames of the queries and documents of each split."""
    statistics = {name: FrameStatistics() for name in searches}
    members = {name: {*search.queries, *search.documents} for name, search in searches.items()}
    for rows in features.batches():
        for row, frames in _by_row(features, rows):
            for name, of_split in statistics.items():
                if row in members[name]:
                    of_split.add(frames)
    return statistics


def _by_row(features: FrameFeatures, rows: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield hidden states (num_states, T, D) of each row, without padding."""
    hidden_states, lengths = features[rows]
    for position, (row, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
        yield row, hidden_states[:, position, :length]


@dataclass(frozen=True)
class Searching:
    """Scoring of all pairs from cached or recomputed features."""

    task: QueryByExample
    features: FrameFeatures
    statistics: Mapping[str, FrameStatistics]
    folder: Path

    @torch.no_grad()
    def z_scores(self, searches: Mapping[str, Search], name: str, layers: Sequence[int]) -> list[NDArray[np.float64]]:
        """Compute scores (queries, documents) of a split, standardized per query, for each hidden state."""
        search = searches[name]
        column_of = {row: column for column, row in enumerate(search.documents)}
        shape = (len(layers), len(search.queries))
        scores = torch.zeros(*shape, len(search.documents), dtype=torch.float64)
        spoken: list[Tensor] = []
        with tqdm(total=len(search.documents), desc=f"search in {name}", unit="document", disable=None) as progress:
            for rows in _subset(self.features.batches(), set(search.documents)):
                path = self._block(name, layers, search.queries, rows)
                block = read_tensor(path, "scores")
                if block is None or tuple(block.shape) != (*shape, len(rows)):
                    spoken = spoken or self._queries(search, name)
                    block = self._raw_scores(spoken, rows, name, layers)
                    write_tensor(path, "scores", block)
                else:
                    self.features.count(rows)
                scores[..., [column_of[row] for row in rows]] = block
                progress.update(len(rows))
        if not spoken:
            self.features.count(search.queries)
        return [z_scores(of_layer).numpy() for of_layer in scores]

    def _block(self, name: str, layers: Sequence[int], queries: Sequence[int], rows: Sequence[int]) -> Path:
        """Return the file for the scores of a block of documents, in the folder of the encoder's features."""
        parts = [SCORES_VERSION, torch.__version__, [name, self.task.distance, list(layers), list(queries)], list(rows)]
        return self.folder / f"scores-{sha256_json(parts)[:24]}.safetensors"

    def _queries(self, search: Search, name: str) -> list[Tensor]:
        """Return normalized hidden states (num_states, N, D) of each query."""
        by_row: dict[int, Tensor] = {}
        for rows in _subset(self.features.batches(), set(search.queries)):
            by_row.update((row, self.statistics[name].normalized(frames)) for row, frames in _by_row(self.features, rows))
        return [by_row[row] for row in search.queries]

    def _raw_scores(self, spoken: Sequence[Tensor], rows: Sequence[int], name: str, layers: Sequence[int]) -> Tensor:
        """Compute scores (layers, queries, documents) of a block of documents, float64 on the CPU."""
        documents = [self.statistics[name].normalized(frames) for _, frames in _by_row(self.features, rows)]
        of_layers = [
            raw_scores([query[layer] for query in spoken], [frames[layer] for frames in documents], self.task.distance) for layer in layers
        ]
        return torch.stack(of_layers).double().cpu()


def _subset(batches: Iterator[list[int]], wanted: set[int]) -> Iterator[list[int]]:
    for batch in batches:
        rows = [row for row in batch if row in wanted]
        if rows:
            yield rows


def _query_items(fold: SearchFold, scores: NDArray[np.float64]) -> ItemShares:
    """Return the term-weighted value of each test query with a relevant document, at the threshold of the maximum."""
    search = fold.searches["test"]
    _, threshold = maximum_term_weighted_value(list(scores), list(search.relevant))
    terms = np.flatnonzero(search.relevant.any(axis=1))
    values = [term_weighted_value(scores[[row]] >= threshold, search.relevant[[row]]) for row in terms]
    cuts = [fold.clips[search.queries[row]].cut for row in terms]
    ids, totals = [cut.id for cut in cuts], [1.0] * len(cuts)
    return ItemShares(unit="query", ids=ids, speakers=speakers_of(cuts), totals={"QbE": totals}, parts={"QbE": [values]})


def _values(scores: NDArray[np.float64], search: Search) -> dict[str, float]:
    """Compute the maximum term-weighted value and the value at the fixed threshold."""
    best, _ = maximum_term_weighted_value(list(scores), list(search.relevant))
    return {"QbE": best, "at fixed threshold": term_weighted_value(scores > YES, search.relevant)}
