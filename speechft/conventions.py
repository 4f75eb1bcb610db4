"""Constants and types used by the whole package. Importing them loads nothing else."""

from collections.abc import Mapping
from pathlib import Path

SAMPLE_RATE = 16_000
"""Hz. Every encoder takes waveforms at this rate."""
SPLITS = ("train", "dev", "test")
Manifests = str | Path | Mapping[str, str | Path]
"""Folder of a prepared corpus, or split -> manifest file."""
MANIFEST_SUFFIX = ".jsonl.gz"
"""Suffix of the manifest of a split."""
