"""Query by example (QbE): find recordings with a spoken term, without training; maximum term-weighted value. SUPERB recipe."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NoReturn, get_args

from speechft.errors import TaskError
from speechft.tasks.base import MINUS_3_DB, LabelSet, Task, check_choice
from speechft.tasks.catalog import TASKS
from speechft.tasks.classification import supervision

Distance = Literal["cosine_exp", "cosine"]
QUERY, DOCUMENT = "query", "document"


class QueryByExample(Task):
    """Query by example. The label of a cut is query or document; a query's `relevant` names the documents that contain its term.

    There is no head, so QbE cannot be a stage 1 task.

    Options:
        distance: "cosine_exp" (default), exp(cosine distance) - 1, or "cosine".
    """

    name = "qbe"
    metrics = TASKS["qbe"].metrics
    item = "query"
    gain = MINUS_3_DB

    def __init__(self, distance: Distance = "cosine_exp") -> None:
        check_choice(self.name, "distance", distance, get_args(Distance))
        self.distance: Distance = distance

    def role(self, cut: Any) -> str:
        """Return `query` or `document`; raise TaskError for any other label."""
        label = (supervision(cut).custom or {}).get("label")
        if label not in (QUERY, DOCUMENT):
            raise TaskError(f"{cut.id}: label {label!r} must be {QUERY!r} or {DOCUMENT!r}. Correct the corpus's label column.")
        return str(label)

    def relevant(self, cut: Any) -> tuple[str, ...]:
        """Return the ids of the documents that contain a query's term; none if the column is empty."""
        return tuple(((supervision(cut).custom or {}).get("relevant") or "").split())

    def label_set(self, train_cuts: Iterable[Any]) -> LabelSet:  # noqa: ARG002
        """Return an empty label set."""
        return LabelSet(())

    def _untrained(self, *_: Any, **__: Any) -> NoReturn:
        raise TaskError(
            "Task 'qbe' has no head and cannot be trained; it compares the frames of an encoder. Evaluate it, or choose another task."
        )

    target = build_head = loss = statistics = scores = _untrained
