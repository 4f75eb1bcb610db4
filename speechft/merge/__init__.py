"""Stage 2: merge a pre-trained encoder with fine-tuned copies of it in weight space."""

from speechft.merge.directories import merge, merge_family
from speechft.merge.engine import merge_files
from speechft.merge.methods import METHODS, get_method

__all__ = ["METHODS", "get_method", "merge", "merge_family", "merge_files"]
