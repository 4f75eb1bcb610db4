"""Stage 3: train a task's head on a frozen encoder, choose the learning rate on dev, score test, write a cell.

Importing this package is cheap; torch and transformers are loaded when `evaluate` is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechft.evaluate.engine import evaluate
    from speechft.evaluate.planning import plan_evaluation

__all__ = ["evaluate", "plan_evaluation"]


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        from speechft.evaluate.engine import evaluate

        return evaluate
    if name == "plan_evaluation":
        from speechft.evaluate.planning import plan_evaluation

        return plan_evaluation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
