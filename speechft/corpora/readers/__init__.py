"""Readers of corpora: one module for each layout, from lists on disk to utterances."""
