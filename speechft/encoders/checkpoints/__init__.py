"""Checkpoints that others made: formats, names of tensors, unpickling through an allow-list, import and export."""
