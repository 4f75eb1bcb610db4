"""Data of an evaluation: clips, splits, order of batches, and features of the frozen encoder."""
