"""Data of an evaluation: clips, splits, batch order, and features of the frozen encoder."""
