"""`speechft check-encoder`: test whether and how a user's model can be evaluated."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from speechft.conventions import SAMPLE_RATE
from speechft.encoders.own_module import BATCH_TOLERANCE, ModuleEncoder, load_module
from speechft.errors import SpeechFTError
from speechft.runtime.devices import resolve_device

SECONDS = (2.0, 1.37, 0.8, 0.511)
"""Lengths of the noise waveforms."""
TIMED_SECONDS = 10
BATCH, NOT_BATCH = "features do not depend on the batch", "features depend on the batch; evaluations encode one utterance at a time"


@dataclass(frozen=True)
class Check:
    """Result for one property: name, value as JSON, text, and whether it makes evaluation impossible."""

    name: str
    value: Any
    text: str
    problem: bool = False


def check_encoder(model: str | Path | nn.Module, options: Mapping[str, Any] | None = None, *, device: str | None = None) -> Iterator[Check]:
    """Run a user's model on noise and yield one result per property; stop after the first problem.

    Args:
        model: `my_module:MyEncoder`, `path/to/file.py:MyEncoder`, or an object.
        options: keyword arguments of the class.
        device: "cpu" or "cuda"; by default a GPU if available.
    """
    place = resolve_device(device)
    try:
        with torch.random.fork_rng(devices=[]):
            encoder = load_module(model, options)
            encoder = encoder.to(place).eval().requires_grad_(False)
            with torch.inference_mode():
                yield from _checks(encoder)
    except SpeechFTError as error:
        yield Check("problem", str(error), str(error), problem=True)


def _checks(encoder: ModuleEncoder) -> Iterator[Check]:
    record = encoder.record
    for name, digest in record.sources.items():
        yield Check(f"source {name}", digest, f"SHA-256 {digest}")
    yield Check("class", record.class_name, f"{record.class_name}, state dict {record.state_sha256[:12]}..., on {encoder.device}")
    shift = encoder.frame_shift
    yield Check("rate", shift, f"one frame per {shift:g} samples, {SAMPLE_RATE / shift:g} per second")
    states, width = encoder.num_states, encoder.hidden_size
    yield Check("hidden states", {"number": states, "width": width}, f"{states} of width {width}")
    shortest = encoder.min_samples
    yield Check("shortest", shortest, f"waveforms need at least {shortest} samples")
    waveforms = _noise([max(shortest, round(seconds * SAMPLE_RATE)) for seconds in SECONDS])
    outputs = [encoder.encode([waveform]) for waveform in waveforms]
    pairs = [[len(waveform), int(output.lengths[0])] for waveform, output in zip(waveforms, outputs, strict=True)]
    yield Check("lengths", pairs, ", ".join(f"{samples} samples: {frames} frames" for samples, frames in pairs))
    if not all(bool(torch.isfinite(state).all()) for output in outputs for state in output.hidden_states):
        yield Check("finite", False, "features are NaN or Inf for noise", problem=True)
        return
    yield Check("finite", True, "no NaN or Inf for noise")
    difference = encoder.batch_difference(waveforms)
    yield Check("frozen", True, f"features of the same waveform are reproducible to {BATCH_TOLERANCE:g}")
    alone = difference <= BATCH_TOLERANCE
    said = f"largest difference {difference:.2g}" if difference < float("inf") else "the number of frames differs"
    yield Check("batch", None if difference == float("inf") else difference, f"{BATCH if alone else NOT_BATCH} ({said})")
    (waveform,) = _noise([TIMED_SECONDS * SAMPLE_RATE])
    encoder.encode([waveform])
    started = time.perf_counter()
    encoder.encode([waveform]).hidden_states[-1].sum().item()  # waits for the device
    seconds = time.perf_counter() - started
    yield Check("time", seconds, f"{seconds:.3g} s for {TIMED_SECONDS} s of audio on {encoder.device}, {torch.get_num_threads()} thread(s)")


def _noise(samples: Sequence[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(count, generator=generator) for count in samples]
