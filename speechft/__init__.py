"""Stable fine-tuning, weight-space merging and SUPERB evaluation of speech encoders.

Importing this package is cheap: torch and transformers are imported by the modules that compute, never here, because
Snakemake imports `speechft.experiment` each time it reads the workflow.
"""

from speechft.errors import SpeechFTError

__version__ = "0.2.0"
__all__ = ["SpeechFTError", "__version__"]
