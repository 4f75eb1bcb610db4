"""Constants of the whole package. Importing them loads nothing else."""

SAMPLE_RATE = 16_000
"""Hz. Every encoder takes waveforms at this rate."""
SPLITS = ("train", "dev", "test")
