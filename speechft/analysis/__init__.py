"""What fine-tuning did to an encoder: how far its weights moved, and how much of its features is left. The paper's analysis.

Importing this package is cheap; torch is loaded when `analyse` is first asked for. Tables and figures of results need none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechft.analysis.engine import analyse
    from speechft.analysis.report import build_analysis

__all__ = ["analyse", "build_analysis"]


def __getattr__(name: str) -> Any:
    if name == "analyse":
        from speechft.analysis.engine import analyse

        return analyse
    if name == "build_analysis":
        from speechft.analysis.report import build_analysis

        return build_analysis
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
