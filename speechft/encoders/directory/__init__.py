"""Encoder directories: content, writing, checks and copies."""
