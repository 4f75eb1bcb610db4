"""Heads on a frozen encoder, all learning rates at once: their training, checkpoints and choice."""
