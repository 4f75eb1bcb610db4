"""Checkpoints of other programs: formats, tensor names, unpickling with an allowlist, import and export."""
