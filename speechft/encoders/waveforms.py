"""Input waveforms of encoders: checks, preparation, and batches of similar length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from speechft.conventions import SAMPLE_RATE
from speechft.errors import AudioError

MIN_RATIO = 0.8
"""Smallest ratio of the shortest to the longest utterance in a group."""


def check_waveforms(waveforms: Any, min_samples: int) -> None:
    """Raise AudioError unless `waveforms` is a list of 1-D floating-point tensors with at least `min_samples` finite samples each."""
    if not isinstance(waveforms, list | tuple):
        raise AudioError(f"Waveforms must be a list of 1-D tensors, found {type(waveforms).__name__}. Put a single waveform into a list.")
    if not waveforms:
        raise AudioError("The list of waveforms is empty. Give at least one.")
    for index, waveform in enumerate(waveforms):
        problem = _problem(waveform, min_samples)
        if problem:
            raise AudioError(f"waveforms[{index}]: {problem}")
    # Stacked, to synchronize with a GPU only once.
    finite = torch.stack([torch.isfinite(waveform).all().to(waveforms[0].device) for waveform in waveforms]).tolist()
    if not all(finite):
        raise AudioError(
            f"waveforms[{finite.index(False)}]: contains NaN or Inf. The recording is damaged; decode it again or leave it out."
        )


def _problem(waveform: Any, min_samples: int) -> str | None:
    if not isinstance(waveform, Tensor):
        return f"is a {type(waveform).__name__}. Convert it with torch.as_tensor(x, dtype=torch.float32)."
    if waveform.dim() != 1:
        return f"has shape {tuple(waveform.shape)}, expected one dimension (samples). Choose one channel of a stereo recording."
    if not waveform.is_floating_point():
        return f"has dtype {waveform.dtype}, expected float32 in [-1, 1]. Divide 16-bit samples by 32768."
    if len(waveform) < min_samples:
        seconds = min_samples / SAMPLE_RATE
        return f"has {len(waveform)} samples, too few for a frame ({min_samples} samples, {seconds:g} s). Leave such recordings out."
    return None


def prepare_waveforms(waveforms: Sequence[Tensor], *, normalize: bool, device: torch.device) -> list[Tensor]:
    """Convert checked waveforms to float32 on `device`.

    With `normalize`, each has zero mean and unit (biased) variance with eps 1e-5, as in the training of such models (s3prl 0.4.18).
    """
    moved = [waveform.to(device=device, dtype=torch.float32) for waveform in waveforms]
    return [F.layer_norm(waveform, waveform.shape) for waveform in moved] if normalize else moved


def length_groups(samples: Sequence[int]) -> list[list[int]]:
    """Group utterances of similar length and return their indices, longest first; padding is less than 1 - `MIN_RATIO` of a group."""
    groups: list[list[int]] = []
    for index in sorted(range(len(samples)), key=lambda index: -samples[index]):
        if groups and samples[index] >= MIN_RATIO * samples[groups[-1][0]]:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def join_groups(groups: Sequence[Sequence[int]], states: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Join the hidden states of groups into (B, T, D) in the order of the utterances, zero-padded to the longest."""
    frames = max(group[0].shape[1] for group in states)
    order = torch.tensor([index for group in groups for index in group], device=states[0][0].device).argsort()
    joined = []
    for layer in zip(*states, strict=True):
        padded = [F.pad(group, (0, 0, 0, frames - group.shape[1])) for group in layer]
        joined.append(torch.cat(padded)[order])
    return tuple(joined)
