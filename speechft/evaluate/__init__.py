"""Stage 3: train a task's head on a frozen encoder, choose the learning rate on dev, score test, write a cell."""

from typing import TYPE_CHECKING

from speechft.lazy import lazy_names

if TYPE_CHECKING:
    from speechft.evaluate.engine import evaluate
    from speechft.evaluate.estimate import plan_evaluation

__all__ = ["evaluate", "plan_evaluation"]

__getattr__ = lazy_names(__name__, {"evaluate": "engine", "plan_evaluation": "estimate"})
