"""A user's frozen model as an encoder: any torch module with the interface of s3prl's upstreams.

The interface: `model(waveforms)` takes a list of 1-D tensors at 16 kHz and returns `{"hidden_states": [tensor (B, T, D), ...]}`, and
optionally the valid frames as `lengths` (B,); `model.get_downsample_rates("hidden_states")` returns the samples between frames. Lengths and
tolerance are those of s3prl 0.4.18.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from speechft.conventions import SAMPLE_RATE
from speechft.encoders.interface import EncoderOutput, FeatureEncoder
from speechft.encoders.waveforms import check_waveforms, join_groups
from speechft.errors import CheckpointError, ConfigError
from speechft.files.hashes import sha256_bytes, sha256_file, sha256_json
from speechft.files.tensor_hash import tensors_sha256
from speechft.own_code import attribute_of, run_code, said
from speechft.recipes.modules import ModuleRecord, source_file, split_name
from speechft.recipes.values import validate

logger = logging.getLogger(__name__)

STATES = "hidden_states"
TOLERATED_FRAMES = 4
"""Largest difference between the frames of a batch and those implied by the rate."""
BATCH_TOLERANCE = 1e-4
"""Absolute difference between an utterance alone and in a batch above which features count as dependent on the batch."""
PROBE_SAMPLES = SAMPLE_RATE
"""Length of the noise from which a model's sizes are determined, one second."""


class ModuleEncoder(FeatureEncoder):
    """A user's model with the checks and lengths that stage 3 needs.

    Valid frames are the model's `lengths`, else round(samples / rate), limited to the available frames; these may differ by
    `TOLERATED_FRAMES`, as in s3prl. With `one_by_one`, every utterance is encoded alone, so that features do not depend on the batch.

    Raises:
        CheckpointError: from everything that runs the model, if it fails or its outputs do not have the required form.
    """

    def __init__(self, model: nn.Module, record: ModuleRecord) -> None:
        super().__init__()
        self.model, self.record = model, record
        self.one_by_one = False
        self.register_buffer("_place", torch.empty(0), persistent=False)  # shows the device even if the model has no tensors

    @property
    def title(self) -> str:
        """Name of the model in errors."""
        return self.record.name or self.record.class_name

    @property
    def sha256(self) -> str:
        """Hash of code, options and tensors, independent of the path of the file and of how it was named."""
        parts = {"class": self.record.class_name, "options": self.record.options, "state": self.record.state_sha256}
        return sha256_json({**parts, "sources": sorted(self.record.sources.values())})

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return torch.as_tensor(self._place).device

    @cached_property
    def frame_shift(self) -> float:
        """Samples between frames, from `get_downsample_rates`."""
        try:
            rate: Any = self.model.get_downsample_rates(STATES)  # type: ignore[operator]
            shift = float(rate)
        except Exception as error:
            raise CheckpointError(
                f"{self.title}: get_downsample_rates({STATES!r}) fails ({said(error)}). Return the samples between frames, such as 320."
            ) from error
        if not (math.isfinite(shift) and shift > 0):
            raise CheckpointError(f"{self.title}: get_downsample_rates returns {rate!r}. Return the samples between frames, such as 320.")
        return shift

    @cached_property
    def _sizes(self) -> tuple[int, int]:
        """Number and width of the hidden states, determined from noise."""
        states, _ = self._batch([self._noise(PROBE_SAMPLES)])
        return len(states), states[0].shape[2]

    @property
    def num_states(self) -> int:
        """Number of hidden states."""
        return self._sizes[0]

    @property
    def hidden_size(self) -> int:
        """Width D of the hidden states."""
        return self._sizes[1]

    @cached_property
    def min_samples(self) -> int:
        """Length of the shortest waveform that gives finite frames, in samples; found by bisection up to one second."""
        if not self._finite(PROBE_SAMPLES):  # failing for a whole second is an error
            raise CheckpointError(f"{self.title}: returns NaN or Inf features for one second of noise.")
        too_short, enough = 0, PROBE_SAMPLES
        while enough - too_short > 1:
            middle = (too_short + enough) // 2
            try:
                long_enough = self._finite(middle)
            except CheckpointError:
                long_enough = False
            too_short, enough = (too_short, middle) if long_enough else (middle, enough)
        return enough

    def _finite(self, samples: int) -> bool:
        states, _ = self._batch([self._noise(samples)])
        return all(bool(torch.isfinite(state).all()) for state in states)

    def frame_count(self, num_samples: int) -> int:
        """Estimate the frames of a waveform of `num_samples` from the rate; the model may return a few less."""
        return round(num_samples / self.frame_shift)

    def encode(self, waveforms: Sequence[Tensor]) -> EncoderOutput:
        """Compute hidden states of a list of 1-D waveforms, zero past the valid frames, without gradients.

        Raises:
            AudioError: a waveform is not 1-D, not floating point, not finite, empty, or shorter than `min_samples`.
            CheckpointError: the model fails, or its outputs do not have the required form.
        """
        check_waveforms(waveforms, self.min_samples)
        moved = [waveform.to(device=self.device, dtype=torch.float32) for waveform in waveforms]
        if not self.one_by_one:
            return EncoderOutput(*self._batch(moved))
        parts = [self._batch([waveform]) for waveform in moved]
        joined = join_groups([[index] for index in range(len(parts))], [states for states, _ in parts])
        return EncoderOutput(joined, torch.cat([lengths for _, lengths in parts]))

    def batch_difference(self, waveforms: Sequence[Tensor]) -> float:
        """Return the largest absolute difference of features alone and in one batch; infinite if the number of valid frames differs.

        Raises:
            CheckpointError: the model fails, returns outputs of a wrong form, or is not deterministic.
        """
        before, self.one_by_one = self.one_by_one, True
        try:
            alone, again = self.encode(waveforms), self.encode(waveforms)
            self.one_by_one = False
            together = self.encode(waveforms)
        finally:
            self.one_by_one = before
        if (moved := _difference(alone, again)) > BATCH_TOLERANCE:
            raise CheckpointError(
                f"{self.title}: features of the same waveform differ by {moved:.2g}, so the model is not frozen. "
                "Switch off whatever is random in it."
            )
        return _difference(alone, together)

    def _noise(self, samples: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return (0.1 * torch.randn(PROBE_SAMPLES, generator=generator))[:samples].to(self.device)

    def _batch(self, waveforms: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Tensor]:
        """Encode waveforms in one batch; return hidden states (B, T, D), zero past the valid frames, and valid frames (B,)."""
        samples = [len(waveform) for waveform in waveforms]
        try:
            with torch.no_grad():
                output = self.model([waveform.clone() for waveform in waveforms])
        except (MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:
            if "allocate memory" in str(error):
                raise
            raise CheckpointError(f"{self.title}: fails for waveforms of {_listed(samples)} samples ({said(error)}).") from error
        states = self._checked_states(output, len(waveforms))
        frames = states[0].shape[1]
        lengths = self._lengths(output, samples, frames)
        if min(lengths) < 1:
            raise CheckpointError(f"{self.title}: returns no frame for a waveform of {min(samples)} samples.")
        valid = torch.tensor(lengths, device=self.device)
        padding = torch.arange(max(lengths), device=self.device)[None, :] >= valid[:, None]
        return tuple(state[:, : max(lengths)].float().masked_fill(padding[..., None], 0.0) for state in states), valid

    def _checked_states(self, output: Any, batch: int) -> list[Tensor]:
        if not isinstance(output, Mapping) or STATES not in output:
            returned = f"the keys {', '.join(map(str, output))}" if isinstance(output, Mapping) else type(output).__name__
            raise CheckpointError(f'{self.title}: returns {returned}. Return {{"{STATES}": [tensor (B, T, D), ...]}}.')
        states = output[STATES]
        if not isinstance(states, list | tuple) or not states or not all(isinstance(state, Tensor) for state in states):
            raise CheckpointError(f"{self.title}: {STATES} must be a list of tensors, found {type(states).__name__}.")
        shapes = sorted({tuple(state.shape) for state in states})
        if len(shapes) > 1 or len(shapes[0]) != 3 or shapes[0][0] != batch:
            raise CheckpointError(
                f"{self.title}: {STATES} have the shapes {_listed(shapes)}. All need the same (B, T, D), with B = {batch} waveforms."
            )
        known = self.__dict__.get("_sizes")
        if known and known != (len(states), shapes[0][2]):
            raise CheckpointError(
                f"{self.title}: {len(states)} hidden states of width {shapes[0][2]} for one input and {known[0]} of width {known[1]} for "
                "another."
            )
        return [state.to(self.device) for state in states]

    def _lengths(self, output: Mapping[str, Any], samples: Sequence[int], frames: int) -> list[int]:
        """Return the valid frames of each utterance."""
        if output.get("lengths") is not None:
            try:
                given = [int(length) for length in output["lengths"]]
            except (TypeError, ValueError) as error:
                raise CheckpointError(f"{self.title}: its `lengths` are not a list of integers ({said(error)}).") from error
            if len(given) != len(samples) or not all(0 <= length <= frames for length in given):
                raise CheckpointError(
                    f"{self.title}: its `lengths` {_listed(given)} do not fit {len(samples)} waveforms of {frames} frames."
                )
            return given
        expected = [self.frame_count(count) for count in samples]
        if abs(frames - max(expected)) > TOLERATED_FRAMES:
            raise CheckpointError(
                f"{self.title}: {frames} frames for {max(samples)} samples, but {self.frame_shift:g} samples per frame imply "
                f"{max(expected)}. Correct get_downsample_rates, or return `lengths`."
            )
        return [min(count, frames) for count in expected]


def load_module(model: str | Path | nn.Module, options: Mapping[str, Any] | None = None) -> ModuleEncoder:
    """Load a user's frozen model in eval mode, on the CPU or on the device of a given object.

    A class, or a function that returns an object, is looked up on PYTHONPATH or in a file and called with `options` as keyword arguments.
    Its file is run and named in the log.

    Args:
        model: `my_package.my_module:MyEncoder`, `path/to/file.py:MyEncoder`, or an object.
        options: keyword arguments of the class; none for an object.

    Raises:
        ConfigError: no such file, module or class.
        CheckpointError: the file or the class fails, or the object is not a torch module with `get_downsample_rates`.
    """
    if not isinstance(model, str | Path):
        if options:
            raise ConfigError("encoder_options are for the name of a class. Leave them out for an object.")
        return _wrapped(model, None, {}, {})
    name, given = str(model), dict(options or {})
    place, attribute = split_name(name)
    path = source_file(name)
    source = path.read_bytes()
    logger.info("%s: running %s, SHA-256 %s", name, path, sha256_bytes(source))
    try:
        module = run_code(place, path, source)
    except Exception as error:
        hint = " Put what it imports on PYTHONPATH." if isinstance(error, ImportError) else ""
        raise CheckpointError(f"{name}: {path} cannot be run ({said(error)}).{hint}") from error
    factory = attribute_of(module, attribute, name, path)
    try:
        made = factory(**given)
    except Exception as error:
        shown = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise CheckpointError(f"{name}: {attribute}({shown}) fails ({said(error)}).") from error
    return _wrapped(made, name, given, {place: sha256_bytes(source)})


def _wrapped(model: Any, name: str | None, options: dict[str, Any], sources: dict[str, str]) -> ModuleEncoder:
    kind = type(model)
    if not isinstance(model, nn.Module) or not callable(getattr(model, "get_downsample_rates", None)):
        raise CheckpointError(
            f"{name or kind.__name__}: a {kind.__name__}, expected a torch.nn.Module whose forward(waveforms) returns hidden_states and "
            "that has get_downsample_rates(key)."
        )
    for defined in (kind, inspect.unwrap(kind.forward)):
        try:
            file = Path(inspect.getfile(defined))
        except (TypeError, OSError):  # defined in an interactive session
            continue
        if file.is_file() and (digest := sha256_file(file)) not in sources.values():
            sources[kind.__module__ if defined is kind else defined.__module__] = digest
    state = {key: value.detach().cpu() for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    values = {"name": name, "class_name": kind.__qualname__, "options": options, "sources": sources}
    record = validate(ModuleRecord, {**values, "state_sha256": tensors_sha256(state)}, name or kind.__name__)
    return ModuleEncoder(model.eval(), record)


def _difference(one: EncoderOutput, other: EncoderOutput) -> float:
    """Return the largest absolute difference; infinite for NaN or different numbers of valid frames."""
    if not torch.equal(one.lengths, other.lengths):
        return math.inf
    largest = max(float((left - right).abs().max()) for left, right in zip(one.hidden_states, other.hidden_states, strict=True))
    return math.inf if math.isnan(largest) else largest


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
