"""The tasks of the SUPERB recipe that train a recurrent head by CTC: ASR and SF."""

from __future__ import annotations

from speechft.errors import TaskError
from speechft.tasks.base import Head, LabelSet, positive_integer
from speechft.tasks.ctc import CTCTask
from speechft.tasks.heads import RecurrentHead


class RecurrentCTCTask(CTCTask):
    """CTC with a `RecurrentHead`.

    Options:
        projected, hidden, layers, dropout: sizes of the head. Defaults 1024, 1024 units in each direction, 2 and 0.2 are SUPERB's.
        spec_augment: augment features in training (default true).
    """

    def __init__(self, projected: int = 1024, hidden: int = 1024, layers: int = 2, dropout: float = 0.2, spec_augment: bool = True) -> None:
        for name, size in (("projected", projected), ("hidden", hidden), ("layers", layers)):
            positive_integer(self.name, name, size)
        if not isinstance(dropout, int | float) or not 0.0 <= dropout < 1.0:
            raise TaskError(f"{self.name}: dropout={dropout!r} must be at least 0 and less than 1.")
        if not isinstance(spec_augment, bool):
            raise TaskError(f"{self.name}: spec_augment={spec_augment!r} must be true or false.")
        self.projected, self.hidden, self.layers, self.dropout, self.spec_augment = projected, hidden, layers, float(dropout), spec_augment

    def build_head(self, feature_dim: int, labels: LabelSet) -> Head:
        """Linear(D, 1024), two bidirectional LSTMs of 1024 units in each direction with dropout, Linear(2048, symbols)."""
        hidden = (self.hidden,) * self.layers
        return RecurrentHead(feature_dim, len(labels), self.projected, hidden, self.dropout, self.spec_augment)
