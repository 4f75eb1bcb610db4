"""Corpora: checked recordings with supervisions in lhotse manifests, and their audio at 16 kHz."""

from typing import TYPE_CHECKING

from speechft.lazy import lazy_names

if TYPE_CHECKING:
    from speechft.corpora.audio import load_audio, num_samples_16k
    from speechft.corpora.manifests import load_split, split_names
    from speechft.corpora.prepare import prepare_corpus
    from speechft.corpora.union import unite_corpora

__all__ = ["load_audio", "load_split", "num_samples_16k", "prepare_corpus", "split_names", "unite_corpora"]

__getattr__ = lazy_names(
    __name__,
    {
        "load_audio": "audio",
        "load_split": "manifests",
        "num_samples_16k": "audio",
        "prepare_corpus": "prepare",
        "split_names": "manifests",
        "unite_corpora": "union",
    },
)
