"""Corpora: checked recordings with supervisions, kept as lhotse manifests; and their audio at 16 kHz."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechft.corpora.audio import load_audio, num_samples_16k
    from speechft.corpora.manifests import load_split, split_names
    from speechft.corpora.prepare import prepare_corpus
    from speechft.corpora.union import unite_corpora

__all__ = ["load_audio", "load_split", "num_samples_16k", "prepare_corpus", "split_names", "unite_corpora"]

# lhotse and torch take seconds to import, so each name is imported when it is first used.
_MODULES = {
    "load_audio": "speechft.corpora.audio",
    "load_split": "speechft.corpora.manifests",
    "num_samples_16k": "speechft.corpora.audio",
    "prepare_corpus": "speechft.corpora.prepare",
    "split_names": "speechft.corpora.manifests",
    "unite_corpora": "speechft.corpora.union",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
