"""Stable fine-tuning, weight-space merging and SUPERB evaluation of speech encoders.

Importing this package is cheap: torch and transformers are imported by the modules that compute, never here, because
Snakemake imports `speechft.experiment` each time it reads the workflow.
"""

from typing import TYPE_CHECKING, Any

from speechft.errors import SpeechFTError

if TYPE_CHECKING:
    from speechft.plugins import register

__version__ = "0.2.0"
__all__ = ["SpeechFTError", "__version__", "register"]


def __getattr__(name: str) -> Any:
    if name != "register":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from speechft.plugins import register

    return register
