"""Measured speeds of devices, in a JSON file written by `speechft calibrate` and read by `speechft plan`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from speechft.errors import ConfigError, missing_file
from speechft.files.structured import read_json, write_json
from speechft.planning.shapes import EncoderShape, base_shape, head_arithmetic
from speechft.recipes.values import FeaturePrecision, Strict, validate
from speechft.shipped import shipped
from speechft.tasks.catalog import HEAD_TASKS, known_entry

FILE = Path("config/throughput.json")
Speed = Annotated[float, Field(gt=0)]
MEASURED_ON = base_shape("hubert")
"""Encoder whose features heads are measured on: a base model."""


class EncoderSpeed(Strict):
    """Speeds of one encoder, in hours of audio per hour."""

    shape: EncoderShape
    forward: dict[FeaturePrecision, Speed] = Field(description="Precision -> speed of the forward pass in evaluation.")
    update: dict[FeaturePrecision, Speed] = Field(description="Precision -> speed of forward and backward passes in fine-tuning.")
    step_seconds: Speed = Field(description="Seconds per Adam step on all weights.")

    @model_validator(mode="after")
    def _has_fp32(self) -> Self:
        if "fp32" not in self.forward or "fp32" not in self.update:
            raise ValueError("has no fp32 speed; run `speechft calibrate` again")
        return self


class DeviceSpeeds(Strict):
    """Speeds measured on one device."""

    kind: Literal["cpu", "cuda"]
    name: str = Field(description="Name of the processor or GPU.")
    threads: int = Field(description="CPU threads of the process.")
    measured: str = Field(description="Date of the measurement.")
    clock: str = Field(description="Clock used: CPU time or wall time.")
    software: dict[str, str]
    encoders: dict[str, EncoderSpeed] = Field(min_length=1)
    heads: dict[str, Speed] = Field(
        description="Task -> hours of audio per hour of training a head on base-size features with one learning rate."
    )
    pooled_steps: dict[str, Speed] = Field(
        description="Task -> steps per second of a head on mean vectors with seven learning rates at once."
    )
    search_frames: Speed = Field(description="QbE search: pairs of a query frame and a document frame per second.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = {*HEAD_TASKS, "ks", "sid"} - {*self.heads, *self.pooled_steps}
        if missing:
            raise ValueError(f"heads of {', '.join(sorted(missing))} were not measured; run `speechft calibrate` again")
        return self

    @property
    def label(self) -> str:
        """Device and number of threads: the key of the entry in the file."""
        return self.name if self.kind == "cuda" else f"{self.name}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    def nearest(self, shape: EncoderShape) -> tuple[str, EncoderSpeed]:
        """Find the measured encoder of the same shape, otherwise the one with the most similar arithmetic, same kind first."""

        def kind(family: str) -> str:
            return "hubert" if family == "wav2vec2" else family  # the same network

        def distance(item: tuple[str, EncoderSpeed]) -> tuple[bool, bool, bool, float]:
            other = item[1].shape
            ratio = other.arithmetic / max(1.0, shape.arithmetic)
            convolutional = bool(other.convolutions) != bool(shape.convolutions)
            return other != shape, kind(other.family) != kind(shape.family), convolutional, max(ratio, 1 / ratio)

        return min(self.encoders.items(), key=distance)

    def forward_hours(self, shape: EncoderShape, hours: float, precision: str = "fp32") -> float:
        """Hours for a forward pass over `hours` of audio; 0 for filterbanks."""
        _, speed = self.nearest(shape)
        return hours * shape.arithmetic / speed.shape.arithmetic / _in_precision(speed.forward, precision)

    def update_hours(self, shape: EncoderShape, hours: float, precision: str, frozen_extractor: bool = True) -> float:
        """Hours for forward and backward passes. A backward pass counts as two forward passes; a frozen extractor has none."""
        _, speed = self.nearest(shape)
        work = 3 * shape.transformer_arithmetic + shape.extractor_arithmetic * (1 if frozen_extractor else 3)
        measured = 3 * speed.shape.transformer_arithmetic + speed.shape.extractor_arithmetic
        return hours * work / measured / _in_precision(speed.update, precision)

    def step_hours(self, shape: EncoderShape, steps: float) -> float:
        """Hours for optimizer steps."""
        _, speed = self.nearest(shape)
        return steps * speed.step_seconds * shape.parameters / speed.shape.parameters / 3600

    def head_hours(self, task: str, options: Mapping[str, Any], shape: EncoderShape, hours: float) -> float:
        """Hours for training a head on `hours` of audio, summed over learning rates; `task` may be a kind."""
        measured = known_entry(task).head_measured_as
        return hours * head_arithmetic(task, options, shape) / head_arithmetic(measured, {}, MEASURED_ON) / self.heads[measured]


def _in_precision(speeds: Mapping[FeaturePrecision, float], precision: str) -> float:
    """Speed in a precision: fp16 counts as bf16; fp32 is the fallback."""
    return speeds.get("fp32" if precision == "fp32" else "bf16") or speeds["fp32"]


class Throughput(Strict):
    """All measured devices, by label."""

    devices: dict[str, DeviceSpeeds] = Field(min_length=1)

    def choose(self, name: str | None) -> DeviceSpeeds:
        """Find the device whose label contains `name`; "cpu" and "cuda" mean the newest of that kind, None prefers a GPU.

        Raises:
            ConfigError: no device matches, or several do.
        """
        newest_first = sorted(self.devices.values(), key=lambda entry: entry.measured, reverse=True)
        for kind in {None: ("cuda", "cpu"), "cuda": ("cuda",), "cpu": ("cpu",)}.get(name, ()):
            if of_kind := [entry for entry in newest_first if entry.kind == kind]:
                return of_kind[0]
        matching = [entry for entry in newest_first if name and name.lower() in entry.label.lower()]
        if len(matching) != 1:
            which = f"{len(matching)} devices match {name!r}" if matching else f"No measured device matches {name!r}"
            raise ConfigError(
                f"{which}. Measured: {'; '.join(self.devices)}. To measure this machine: `speechft calibrate --device cuda` (or cpu)."
            )
        return matching[0]


def load_throughput(path: str | Path | None = None) -> Throughput:
    """Read measured speeds; default: config/throughput.json, see `shipped`.

    Raises:
        ConfigError: the file is missing or was not written by `speechft calibrate`.
    """
    chosen = shipped(path or FILE)
    if not chosen.is_file():
        raise ConfigError(missing_file(chosen, "for the speed of this machine", "`speechft calibrate` writes it in two minutes."))
    return validate(Throughput, read_json(chosen), str(chosen))


def save_device(path: Path, entry: DeviceSpeeds) -> None:
    """Add a device to the file, or replace its entry; other entries are kept. The file is written atomically."""
    devices = dict(load_throughput(path).devices) if path.is_file() and path.stat().st_size else {}
    devices[entry.label] = entry
    write_json(path, Throughput(devices=devices).model_dump(mode="json"))
