"""Corpus readers, one module per layout: from lists on disk to utterances."""
