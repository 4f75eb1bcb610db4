"""Heads on a frozen encoder, for all learning rates at once: training, checkpoints and choice."""
