"""Checks and preparation of the waveforms that encoders take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from speechft.conventions import SAMPLE_RATE
from speechft.errors import AudioError


def check_waveforms(waveforms: Any, min_samples: int) -> None:
    """Refuse whatever is not a list of 1-D floating point waveforms of at least `min_samples` finite samples.

    Raises:
        AudioError: names the index of the first waveform that is not usable, and why.
    """
    if not isinstance(waveforms, list | tuple):
        raise AudioError(f"Waveforms come as a list of 1-D tensors, found {type(waveforms).__name__}. Put a single waveform into a list.")
    if not waveforms:
        raise AudioError("The list of waveforms is empty. Give at least one.")
    for index, waveform in enumerate(waveforms):
        problem = _problem(waveform, min_samples)
        if problem:
            raise AudioError(f"waveforms[{index}]: {problem}")


def _problem(waveform: Any, min_samples: int) -> str | None:
    if not isinstance(waveform, Tensor):
        return f"is a {type(waveform).__name__}. Convert it with torch.as_tensor(x, dtype=torch.float32)."
    if waveform.dim() != 1:
        return f"has shape {tuple(waveform.shape)}, need one dimension (samples). Choose one channel of a stereo recording."
    if not waveform.is_floating_point():
        return f"has dtype {waveform.dtype}, need float32 in [-1, 1]. Divide 16-bit samples by 32768."
    if len(waveform) < min_samples:
        seconds = min_samples / SAMPLE_RATE
        return f"has {len(waveform)} samples, too few for a frame ({min_samples} samples, {seconds:g} s). Leave such recordings out."
    if not torch.isfinite(waveform).all():
        return "holds NaN or Inf. The recording is damaged; decode it again or leave it out."
    return None


def prepare_waveforms(waveforms: Sequence[Tensor], *, normalize: bool, device: torch.device) -> list[Tensor]:
    """Checked waveforms as float32 on `device`.

    With `normalize`, each gets zero mean and unit (biased) variance with eps 1e-5, as models with `normalize: true` were trained (s3prl
    0.4.18).
    """
    moved = [waveform.to(device=device, dtype=torch.float32) for waveform in waveforms]
    return [F.layer_norm(waveform, waveform.shape) for waveform in moved] if normalize else moved
