"""SUPERB's corpora in numbers: utterances and mean durations of the splits, with their sources, and how s3prl 0.4.18 uses them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A split: utterances and their mean duration."""

    utterances: float
    seconds: float

    @property
    def hours(self) -> float:
        return self.utterances * self.seconds / 3600


def part(utterances: float, hours: float) -> Part:
    return Part(utterances, 3600 * hours / utterances)


@dataclass(frozen=True)
class Task:
    """A task of SUPERB and its corpus."""

    corpus: str
    source: str
    train: Part
    dev: Part
    test: Part
    pooled: bool
    """The head sees the mean over frames: ours encodes every recording once, and crops that are drawn anew."""
    scored: tuple[str, ...]
    """Splits that s3prl scores at each evaluation. Where test is not among them, it is scored once, for the best learning rate."""
    batch: int | None = None
    """Where real batches are not of the recipe's size."""
    cropped: bool = False
    """Long training utterances are cropped to 8 s. How many are long is not published: all are counted as such."""
    folds: int = 1


IEMOCAP, IEMOCAP_SECONDS = 5531, 4.5
VOXCELEB_SECONDS = 3600 * (340.4 + 11.2) / (148_642 + 4_874)
CROP = 8.0
SNIPS_SECONDS = 3.0
LIBRISPEECH = {
    "corpus": "LibriSpeech train-clean-100, dev-clean, test-clean",
    "source": "hours: Panayotov et al., ICASSP 2015",
    "train": part(28_539, 100.6),
    "dev": part(2_703, 5.4),
    "test": part(2_620, 5.4),
    "pooled": False,
    "scored": ("dev",),
}
TASKS = {
    "pr": Task(**LIBRISPEECH),
    "asr": Task(**LIBRISPEECH, batch=16),
    "ks": Task(
        "Speech Commands v0.01",
        "clips of 1 s: Warden, arXiv 1804.03209; split of SUPERB",
        Part(51_094, 1.0),
        Part(6_798, 1.0),
        Part(3_081, 1.0),
        pooled=True,
        scored=("dev", "test"),
    ),
    "sid": Task(
        "VoxCeleb1, identification split",
        "352 h for 153 516 utterances: Nagrani et al., Interspeech 2017 (340.4 h of them dev, 11.2 h test: PaddleSpeech's recipe); "
        "every training utterance counted as a crop of 8 s",
        Part(138_361, min(CROP, VOXCELEB_SECONDS)),
        Part(6_904, VOXCELEB_SECONDS),
        Part(8_251, VOXCELEB_SECONDS),
        pooled=True,
        scored=("dev", "test"),
        cropped=True,
    ),
    "asv": Task(
        "VoxCeleb1, verification split",
        "as SID; 4715 files are in the trial list",
        Part(148_642, min(CROP, VOXCELEB_SECONDS)),
        Part(0, 0.0),
        Part(4_715, 3600 * 11.2 / 4_874),
        pooled=False,
        scored=("test",),
        cropped=True,
    ),
    "sd": Task(
        "Libri2Mix train-100, dev, test",
        "Cosentino et al., arXiv 2005.11262",
        part(13_900, 58.0),
        part(3_000, 11.0),
        part(3_000, 11.0),
        pooled=False,
        scored=("dev",),
    ),
    "er": Task(
        "IEMOCAP, 4 classes; a fold",
        "5531 turns of 4.5 s, the mean of all turns: Busso et al., Language Resources and Evaluation 2008",
        Part(0.8 * 0.8 * IEMOCAP, IEMOCAP_SECONDS),
        Part(0.8 * 0.2 * IEMOCAP, IEMOCAP_SECONDS),
        Part(0.2 * IEMOCAP, IEMOCAP_SECONDS),
        pooled=True,
        scored=("dev", "test"),
        folds=5,
    ),
    "ic": Task(
        "Fluent Speech Commands",
        "Lugosch et al., Interspeech 2019",
        part(23_132, 14.7),
        part(3_118, 1.9),
        part(3_793, 2.4),
        pooled=True,
        scored=("dev", "test"),
    ),
    "sf": Task(
        "Audio SNIPS",
        "utterances: SUPERB; no duration is published, 3 s are ASSUMED (both sides scale with it)",
        Part(104_672, SNIPS_SECONDS),
        Part(2_800, SNIPS_SECONDS),
        Part(2_800, SNIPS_SECONDS),
        pooled=False,
        scored=("dev",),
    ),
}
QBE_DOCUMENTS = Part(2_438, 3600 * 23 / 12_492)
QBE_CORPUS = (
    "QUESST 2014, English",
    "23 h for the 12 492 documents of all languages: MediaEval 2014; the 276 short queries are not counted",
)
