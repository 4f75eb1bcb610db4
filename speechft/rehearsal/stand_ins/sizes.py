"""How large the stand-ins are: the one table of their sizes."""

from __future__ import annotations

from collections.abc import Mapping

SIZES: Mapping[str, Mapping[str, int]] = {
    "librispeech": {"train": 24, "dev": 8, "test": 8},
    "voxceleb1": {"dev speakers": 5, "test speakers": 3, "train per speaker": 3, "dev per speaker": 1, "test per speaker": 1, "trials": 24},
    "speech_commands": {"train per class": 2, "dev per class": 1, "test per class": 2, "noise seconds": 4},
    "fluent_speech_commands": {"train": 31, "dev": 12, "test": 12},
    "iemocap": {"per class, speaker and session": 1, "left out per speaker and session": 1},
    "audio_snips": {"train": 24, "dev": 8, "test": 8},
    "quesst14": {"dev terms": 4, "test terms": 4, "documents per term": 2, "documents without a term": 2},
    "libri2mix": {"train": 12, "dev": 6, "test": 6},
    "timit": {"train": 16, "dev": 8, "test": 8},
    "tedlium3": {"train": 16, "dev": 8, "test": 8, "per talk": 8},
    "crema_d": {"train speakers": 4, "dev speakers": 2, "test speakers": 2, "per class and speaker": 1},
    "aishell3": {"train": 12, "test": 4},
    "aishell1": {"train": 16, "dev": 8, "test": 8},
}
"""Kind of corpus -> what is counted -> number. Utterances, unless it says what else."""
