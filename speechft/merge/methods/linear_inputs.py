"""Second moments of the inputs to an encoder's linear layers on recordings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile
import torch
from lhotse import AudioSource, MonoCut, Recording
from torch import Tensor, nn

from speechft.corpora.audio import load_audio
from speechft.corpora.audio_files import open_audio
from speechft.corpora.manifests import evenly, load_split, split_names
from speechft.encoders.model import load_encoder
from speechft.errors import AudioError, MergeError
from speechft.merge.tensors import TensorReader

logger = logging.getLogger(__name__)
_FRAMES = 512
"""Frames multiplied at a time; with fewer there would be more passes over the large sums."""
_AUDIO = (".wav", ".flac", ".ogg", ".mp3")


def cuts_of(folder: Path, split: str, count: int) -> list[Any]:
    """Choose at most `count` recordings, evenly spaced, from a split of a folder of manifests or from all audio files below a folder.

    Raises:
        MergeError: the folder contains neither.
        CorpusError, AudioError: a manifest or a recording is damaged.
    """
    if split_names(folder):
        cuts = list(load_split(folder, split))
    else:
        cuts = [_cut(path) for path in sorted(folder.rglob("*")) if path.suffix.lower() in _AUDIO]
    if not cuts:
        raise MergeError(f"{folder}: contains no manifests and no audio files ({', '.join(_AUDIO)}). Name a folder of recordings.")
    return evenly(cuts, count)


def second_moments(model: TensorReader, cuts: Sequence[Any]) -> dict[str, Tensor]:
    """Compute mean(x x^T) of the input x of each linear layer over all frames: name of its weight -> float64 (inputs, inputs).

    Raises:
        MergeError: the weights are not in an encoder directory.
        AudioError: a recording is damaged or too short for the encoder.
    """
    if model.path.name != "model.safetensors" or not (model.path.parent / "config.json").is_file():
        raise MergeError(f"{model.label}: regmean runs the models, so it needs encoder directories. Merge those with `speechft merge`.")
    with torch.random.fork_rng(devices=[]):  # building a model draws initial weights
        encoder = load_encoder(model.path.parent).float().eval()
    sums: dict[str, Tensor] = {}
    frames: dict[str, int] = {}
    waiting: dict[str, list[Tensor]] = {}

    def add(name: str, values: Tensor) -> None:
        waiting.setdefault(name, []).append(values.reshape(-1, values.shape[-1]))
        if sum(map(len, waiting[name])) >= _FRAMES:
            flush(name)

    def flush(name: str) -> None:
        rows = torch.cat(waiting.pop(name)).double()  # in float32, rounding would make singular moments indefinite
        sums.setdefault(name, rows.new_zeros(rows.shape[1], rows.shape[1])).addmm_(rows.T, rows)
        frames[name] = frames.get(name, 0) + len(rows)

    for name, module in encoder.backbone.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(lambda _, inputs, name=f"{name}.weight": add(name, inputs[0]))
    logger.info("%s: computing inputs of linear layers on %d recordings", model.label, len(cuts))
    with torch.no_grad():
        for cut in cuts:
            waveform = load_audio(cut)
            if len(waveform) < encoder.min_samples:
                path = cut.recording.sources[0].source
                raise AudioError(
                    f"{path}: has {len(waveform)} samples at 16 kHz (cut {cut.id}), but the encoder needs {encoder.min_samples}. "
                    "Remove it from the recordings."
                )
            encoder.encode([waveform])
    for name in list(waiting):
        flush(name)
    return {name: total.div_(frames[name]) for name, total in sums.items()}


def _cut(path: Path) -> Any:
    """Return a cut of the first channel of an audio file."""
    try:
        with open_audio(path) as file:
            samples, rate, channels = len(file), int(file.samplerate), int(file.channels)
    except (soundfile.SoundFileError, OSError) as error:
        raise MergeError(f"{path}: cannot be decoded ({error}). Remove it from the folder of recordings.") from None
    source = AudioSource(type="file", channels=list(range(channels)), source=str(path))
    recording = Recording(path.stem, [source], sampling_rate=rate, num_samples=samples, duration=samples / rate)
    return MonoCut(path.stem, start=0.0, duration=samples / rate, channel=0, recording=recording)
