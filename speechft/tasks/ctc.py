"""Tasks that predict symbol sequences by CTC, some with a recurrent head (ASR, SF); decoding and edit distance."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from speechft.errors import TaskError
from speechft.tasks.base import Head, LabelSet, Task, check_positive
from speechft.tasks.heads import RecurrentHead
from speechft.tasks.vocabularies import BLANK_INDEX


class CTCTask(Task):
    """Base of CTC tasks with best-path decoding. The first symbol of every vocabulary is the blank."""

    def without_gradient(self, target: Tensor, num_frames: int) -> str | None:
        """Say that an utterance is too short: CTC needs a frame per symbol, plus one per repeated symbol."""
        needed = len(target) + int((target[1:] == target[:-1]).sum())
        return "target longer than its frames (loss 0)" if needed > num_frames else None

    def loss(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """Compute the mean over utterances of the CTC loss per symbol; impossible alignments count 0."""
        log_probs = F.log_softmax(logits.float(), dim=-1).transpose(0, 1)
        target_lengths = torch.tensor([len(target) for target in targets])
        padded = pad_sequence(list(targets), batch_first=True).to(logits.device)
        return F.ctc_loss(log_probs, padded, logit_lengths, target_lengths.to(logits.device), blank=BLANK_INDEX, zero_infinity=True)

    def statistics(self, logits: Tensor, logit_lengths: Tensor, targets: Sequence[Tensor], labels: LabelSet) -> dict[str, float]:
        """Sum `utterance_statistics` over the best paths of a batch."""
        best_paths = logits.argmax(dim=-1).cpu()
        counts: defaultdict[str, float] = defaultdict(float)
        for path, length, target in zip(best_paths, logit_lengths.tolist(), targets, strict=True):
            for key, value in self.utterance_statistics(path[:length].tolist(), target.tolist(), labels).items():
                counts[key] += value
        return dict(counts)

    @abstractmethod
    def utterance_statistics(self, frame_labels: Sequence[int], target: Sequence[int], labels: LabelSet) -> dict[str, float]:
        """Count statistics of an utterance from the best symbol of each frame and the target symbols."""


class RecurrentCTCTask(CTCTask):
    """Base of CTC tasks with a `RecurrentHead`.

    Options:
        projected, hidden, layers, dropout: sizes of the head. Defaults 1024, 1024 units per direction, 2 and 0.2 are SUPERB's.
        spec_augment: augment features in training (default true).
    """

    def __init__(self, projected: int = 1024, hidden: int = 1024, layers: int = 2, dropout: float = 0.2, spec_augment: bool = True) -> None:
        check_positive(self.name, projected=projected, hidden=hidden, layers=layers)
        if not isinstance(dropout, int | float) or not 0.0 <= dropout < 1.0:
            raise TaskError(f"{self.name}: dropout={dropout!r} must be at least 0 and less than 1.")
        if not isinstance(spec_augment, bool):
            raise TaskError(f"{self.name}: spec_augment={spec_augment!r} must be true or false.")
        self.projected, self.hidden, self.layers, self.dropout, self.spec_augment = projected, hidden, layers, float(dropout), spec_augment

    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:
        """Build Linear(D, 1024), two bidirectional LSTMs of 1024 units per direction with dropout, Linear(2048, symbols), by default."""
        hidden = (self.hidden,) * self.layers
        return RecurrentHead(feature_dim, len(labels), self.projected, hidden, self.dropout, self.spec_augment)


def ctc_collapse(frame_labels: Iterable[int], drop: Iterable[int]) -> list[int]:
    """Decode the best path: merge repeated labels, then remove those in `drop` (the blank and the end mark)."""
    dropped = frozenset(drop)
    return [label for label, _ in groupby(frame_labels) if label not in dropped]


def edit_distance(hypothesis: Sequence[Hashable], reference: Sequence[Hashable]) -> int:
    """Count insertions, deletions and substitutions between two token sequences."""
    from rapidfuzz.distance import Levenshtein

    return int(Levenshtein.distance(hypothesis, reference))


def token_errors(hypothesis: Sequence[str], reference: Sequence[str]) -> tuple[int, int]:
    """Count edits and reference tokens of an utterance.

    An empty sequence counts as one empty token, as when s3prl 0.4.18 splits the empty string: an empty hypothesis for a reference of n >= 1
    tokens still has n edits, and an empty reference counts one token.
    """
    tokens = list(reference) or [""]
    return edit_distance(list(hypothesis) or [""], tokens), len(tokens)
