"""What fine-tuning did to an encoder: weight deviation against feature similarity (the paper's analysis)."""

from typing import TYPE_CHECKING

from speechft.lazy import lazy_names

if TYPE_CHECKING:
    from speechft.analysis.engine import analyse
    from speechft.analysis.report import build_analysis

__all__ = ["analyse", "build_analysis"]

__getattr__ = lazy_names(__name__, {"analyse": "engine", "build_analysis": "report"})
