"""Substitutes for modules that s3prl 0.4.18's downstream runner imports and its environment does not have; for benchmarks/.venv-s3prl.

torchaudio reads and resamples audio: here soundfile reads WAV files of 16 kHz, the rate of the benchmark's corpora. The Hugging Face hub is
never used, TensorBoard's writer only keeps the numbers that it is given, and the list of upstreams holds HuBERT alone. The PyPI package
has no data set of phoneme recognition (its folder is not a Python package), so there is one of ours with the order of the recipe.
"""

import json
import sys
from pathlib import Path
from types import ModuleType

SAMPLE_RATE = 16_000
scalars = []
"""(name, step, value) of all logged scalars."""


def install():
    """Install all substitutes; call this before importing anything of s3prl's downstream."""
    import torchaudio  # the module that make_s3prl_env.sh wrote

    torchaudio.load = load_wav
    _module("torchaudio.transforms", Resample=SameRate)
    _module("tensorboardX", SummaryWriter=Writer)
    _module("huggingface_hub", HfApi=None, HfFolder=None, Repository=None)
    from s3prl.upstream.hubert.hubconf import hubert_local

    _module("s3prl.hub", hubert_local=hubert_local)
    _module("s3prl.downstream.ctc.corpus")
    _module("s3prl.downstream.ctc.corpus.libriphone", LibriPhoneDataset=Transcripts)


def load_in_one_process():
    """Make data loaders read in the training process; on small corpora, starting workers per epoch costs more than reading."""
    import importlib

    from torch.utils.data import DataLoader

    def loader(*args, **options):
        return DataLoader(*args, **{**options, "num_workers": 0})

    for module in ("emotion.expert", "ctc.data"):
        importlib.import_module(f"s3prl.downstream.{module}").DataLoader = loader


def _module(name, **members):
    module = ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module


def load_wav(path):
    """Read a waveform (1, N) and its rate."""
    import soundfile
    import torch

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return torch.from_numpy(samples.T), rate


class SameRate:
    """Resampler for equal rates."""

    def __init__(self, from_rate, to_rate):
        if from_rate != to_rate:
            raise RuntimeError(f"the benchmark's corpora have {to_rate} Hz, found {from_rate}")

    def __call__(self, waveform):
        return waveform


class Writer:
    """TensorBoard writer that only keeps scalars."""

    def __init__(self, folder):
        pass

    def add_scalar(self, name, value, global_step=0):
        scalars.append((name, global_step, float(value)))

    def close(self):
        pass


class Transcripts:
    """Recordings with their phones, sorted by decreasing number of phones; with buckets, an item is a run of consecutive ones.

    `splits` are JSON files: a list of {"path", "phones"}.
    """

    def __init__(self, splits, tokenizer, bucket_size, **_):
        self.size = bucket_size
        rows = []
        for path in splits:
            entries = json.loads(Path(path).read_text(encoding="utf-8"))
            rows += [(entry["path"], tokenizer.encode(entry["phones"])) for entry in entries]
        self.rows = sorted(rows, key=lambda row: -len(row[1]))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if self.size == 1:
            return self.rows[index]
        start = max(0, min(index, len(self.rows) - self.size))
        return self.rows[start : start + self.size]
