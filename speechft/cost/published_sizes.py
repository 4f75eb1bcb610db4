"""Sizes of the paper's corpora as they were published, for plans that are made before the corpora are there.

Utterances are those that `speechft prepare` expects (a test compares them); hours are published, or utterances times a published mean, or,
where neither is known, utterances times an assumed mean, which `source` then says in capitals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class PublishedSize(NamedTuple):
    """Splits as (utterances, hours); `folds` where the corpus is one split that is cross-validated."""

    name: str
    splits: Mapping[str, tuple[float, float]]
    source: str
    folds: int = 0


VOXCELEB_SECONDS = 3600 * (340.4 + 11.2) / (148_642 + 4_874)
SNIPS_SECONDS = 3.0
IEMOCAP_SECONDS = 4.5
QUERY_SECONDS = 1.0
CREMA_SECONDS = 2.5
TED_SECONDS = 3600 * 452 / 268_263
AISHELL1_SECONDS = 3600 * 178 / 141_600
TIMIT_SECONDS = 3600 * 3.14 / 3_696
QUESST_SECONDS = 3600 * 23 / 12_492


def _each(seconds: float, **utterances: int) -> dict[str, tuple[float, float]]:
    """Splits of utterances that last `seconds` in the mean."""
    return {split: (count, count * seconds / 3600) for split, count in utterances.items()}


PUBLISHED: dict[str, PublishedSize] = {
    "librispeech": PublishedSize(
        "LibriSpeech train-clean-100, dev-clean, test-clean",
        {"train": (28_539, 100.6), "dev": (2_703, 5.4), "test": (2_620, 5.4)},
        "hours: Panayotov et al., ICASSP 2015",
    ),
    "speech_commands": PublishedSize(
        "Speech Commands v0.01",
        _each(1.0, train=51_094, dev=6_798, test=3_081),
        "clips of 1 s: Warden, arXiv 1804.03209; split of SUPERB",
    ),
    "voxceleb1/sid": PublishedSize(
        "VoxCeleb1, identification split",
        _each(VOXCELEB_SECONDS, train=138_361, dev=6_904, test=8_251),
        "352 h for 153 516 utterances: Nagrani et al., Interspeech 2017 (340.4 h of them dev, 11.2 h test: PaddleSpeech's recipe)",
    ),
    "voxceleb1/asv": PublishedSize(
        "VoxCeleb1, verification split",
        {**_each(VOXCELEB_SECONDS, train=148_642), **_each(3600 * 11.2 / 4_874, test=4_715)},
        "as for SID; 4715 files are in the trial list",
    ),
    "libri2mix": PublishedSize(
        "Libri2Mix train-100, dev, test",
        {"train": (13_900, 58.0), "dev": (3_000, 11.0), "test": (3_000, 11.0)},
        "Cosentino et al., arXiv 2005.11262",
    ),
    "iemocap": PublishedSize(
        "IEMOCAP, 4 classes",
        _each(IEMOCAP_SECONDS, train=5_531),
        "turns of 4.5 s, the mean of all turns: Busso et al., Language Resources and Evaluation 2008",
        folds=5,
    ),
    "fluent_speech_commands": PublishedSize(
        "Fluent Speech Commands",
        {"train": (23_132, 14.7), "dev": (3_118, 1.9), "test": (3_793, 2.4)},
        "Lugosch et al., Interspeech 2019",
    ),
    "audio_snips": PublishedSize(
        "Audio SNIPS",
        _each(SNIPS_SECONDS, train=104_672, dev=2_800, test=2_800),
        "utterances: SUPERB; no duration is published, 3 s are ASSUMED",
    ),
    "quesst14": PublishedSize(
        "QUESST 2014, English",
        {
            "dev": (138, 138 * QUERY_SECONDS / 3600),
            "test": (138 + 2_438, (138 * QUERY_SECONDS + 2_438 * QUESST_SECONDS) / 3600),
        },
        "23 h for the 12 492 documents of all languages: MediaEval 2014; 1 s for a query is ASSUMED",
    ),
    "timit": PublishedSize(
        "TIMIT without SA, core test",
        _each(TIMIT_SECONDS, train=3_696, dev=400, test=192),
        "3.14 h of training sentences; the same mean is ASSUMED for dev and test",
    ),
    "tedlium3": PublishedSize(
        "TED-LIUM 3, ten hours of train",
        {"train": (round(36_000 / TED_SECONDS), 10.0), **_each(TED_SECONDS, dev=507, test=1_155)},
        "452 h in 268 263 segments: Hernandez et al., SPECOM 2018; the same mean is ASSUMED for the ten hours, dev and test",
    ),
    "tedlium3/all": PublishedSize(
        "TED-LIUM 3",
        {"train": (268_263, 452.0), **_each(TED_SECONDS, dev=507, test=1_155)},
        "452 h in 268 263 segments: Hernandez et al., SPECOM 2018; the same mean is ASSUMED for dev and test",
    ),
    "crema_d": PublishedSize(
        "CREMA-D",
        # Of 91 actors 8 are dev and 8 are test.
        _each(CREMA_SECONDS, train=7_441 - 2 * 654, dev=654, test=654),
        "7441 recordings; 2.5 s each and as many of each actor are ASSUMED",
    ),
    "aishell3": PublishedSize("AISHELL-3", {"train": (88_035, 85.0)}, "Shi et al., Interspeech 2021"),
    "aishell1": PublishedSize(
        "AISHELL-1",
        _each(AISHELL1_SECONDS, train=120_098, dev=14_326, test=7_176),
        "178 h in all: openslr.org/33; the same mean is ASSUMED for all splits",
    ),
}
"""By `kind` of the corpus, for VoxCeleb1 with its `use`."""
