"""Encoder directories: what they hold, how they are written, checked and copied."""
