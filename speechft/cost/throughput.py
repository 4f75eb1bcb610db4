"""Measured speeds of devices: a small JSON file that `speechft calibrate` writes and `speechft plan` reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from speechft.cost.shapes import EncoderShape, base_shape, head_arithmetic
from speechft.errors import ConfigError, missing_file
from speechft.files.structured import read_json, write_json
from speechft.recipes.values import FeaturePrecision, Strict, validate

FILE = Path("config/throughput.json")
Speed = Annotated[float, Field(gt=0)]
HEAD_TASKS = ("pr", "asr", "sd", "asv")
"""Heads on frames that are measured; SF is counted like ASR and PC like PR, by arithmetic."""
_LIKE = {"sf": "asr", "pc": "pr", "asr_zh": "asr"}
POOLED_LIKE = {"ks": "ks", "er": "ks", "ic": "ks", "sid": "sid"}
SCORING_SHARE = 1 / 3
"""Of the time of training on the same audio: no backward pass, which takes twice as long as the forward pass."""


class EncoderSpeed(Strict):
    """Speeds of one encoder, in hours of audio an hour."""

    shape: EncoderShape
    forward: dict[FeaturePrecision, Speed] = Field(description="As evaluation runs it, by precision.")
    update: dict[FeaturePrecision, Speed] = Field(description="Forward and backward of a fine-tuning, by precision.")
    step_seconds: Speed = Field(description="A step of Adam on all weights.")

    @field_validator("forward", mode="before")
    @classmethod
    def _by_precision(cls, speeds: Any) -> Any:
        if isinstance(speeds, int | float):
            raise ValueError("is one speed, as earlier versions measured it. Remove the device and run `speechft calibrate` again")
        return speeds

    @field_validator("forward", "update")
    @classmethod
    def _has_fp32(cls, speeds: dict[FeaturePrecision, float]) -> dict[FeaturePrecision, float]:
        if "fp32" not in speeds:
            raise ValueError("lacks fp32; run `speechft calibrate` again")
        return speeds


def _in_precision(speeds: Mapping[FeaturePrecision, float], precision: str) -> float:
    """The speed in a precision: fp16 counts as bf16, and fp32 stands in for what was not measured."""
    return speeds.get("fp32" if precision == "fp32" else "bf16") or speeds["fp32"]


class DeviceSpeeds(Strict):
    """What was measured on one device."""

    kind: Literal["cpu", "cuda"]
    name: str = Field(description="Processor or GPU.")
    threads: int = Field(description="CPU threads of the process.")
    measured: str = Field(description="Date.")
    clock: str = Field(description="What was taken for time.")
    software: dict[str, str]
    encoders: dict[str, EncoderSpeed] = Field(min_length=1)
    heads: dict[str, Speed] = Field(description="Training of a head of base width at one learning rate, hours of audio an hour, by task.")
    pooled_steps: dict[str, Speed] = Field(description="Steps a second of heads on mean vectors, seven learning rates at once.")
    search_frames: Speed = Field(description="QbE: pairs of a frame of a query and a frame of a document, a second.")
    write_mb: Speed = Field(description="Megabytes a second that the results folder takes.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [task for task in HEAD_TASKS if task not in self.heads] + [
            task for task in ("ks", "sid") if task not in self.pooled_steps
        ]
        if missing:
            raise ValueError(f"heads of {', '.join(missing)} were not measured; run `speechft calibrate` again")
        return self

    @property
    def label(self) -> str:
        """Device and number of threads, which names an entry of the file."""
        return self.name if self.kind == "cuda" else f"{self.name}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    def nearest(self, shape: EncoderShape) -> tuple[str, EncoderSpeed]:
        """The measured encoder of the same shape, else the one of most similar arithmetic, its own kind first.

        HuBERT and wav2vec 2.0 are one kind: they have the same network.
        """

        def kind(family: str) -> str:
            return "hubert" if family == "wav2vec2" else family

        def distance(item: tuple[str, EncoderSpeed]) -> tuple[bool, bool, bool, float]:
            other = item[1].shape
            convolutional = bool(other.convolutions) != bool(shape.convolutions)
            ratio = other.arithmetic / max(1.0, shape.arithmetic)
            return other != shape, kind(other.family) != kind(shape.family), convolutional, max(ratio, 1 / ratio)

        return min(self.encoders.items(), key=distance)

    def forward_hours(self, shape: EncoderShape, hours: float, precision: str = "fp32") -> float:
        """Hours for a forward pass over `hours` of audio; filterbanks cost nothing here."""
        _, speed = self.nearest(shape)
        return hours * shape.arithmetic / speed.shape.arithmetic / _in_precision(speed.forward, precision)

    def update_hours(self, shape: EncoderShape, hours: float, precision: str, frozen_extractor: bool = True) -> float:
        """Hours for forward and backward. A backward pass is twice a forward one; that of the extractor comes on top where it learns."""
        _, speed = self.nearest(shape)
        known = _in_precision(speed.update, precision)

        def work(one: EncoderShape, frozen: bool) -> float:
            return 3 * one.transformer_arithmetic + one.extractor_arithmetic * (1 if frozen else 3)

        return hours * work(shape, frozen_extractor) / work(speed.shape, frozen=True) / known

    def step_hours(self, shape: EncoderShape, steps: float) -> float:
        """Hours for steps of the optimizer."""
        _, speed = self.nearest(shape)
        return steps * speed.step_seconds * shape.parameters / speed.shape.parameters / 3600

    def head_hours(self, task: str, options: Mapping[str, Any], shape: EncoderShape, hours: float) -> float:
        """Hours for training a head on `hours` of audio, those of all learning rates added up."""
        measured = _LIKE.get(task, task)
        return hours * head_arithmetic(task, options, shape) / head_arithmetic(measured, {}, _MEASURED_ON) / self.heads[measured]


_MEASURED_ON = base_shape("hubert")
"""Heads are measured on frames as a base model gives them."""


class Throughput(Strict):
    """All devices that were measured, by label."""

    devices: dict[str, DeviceSpeeds] = Field(min_length=1)

    def choose(self, name: str | None) -> DeviceSpeeds:
        """The device whose label holds `name`; "cpu" and "cuda" are the newest of the kind, None is a GPU where one was measured.

        Raises:
            ConfigError: there is none, or several.
        """
        entries = list(self.devices.values())
        if name in (None, "cpu", "cuda"):
            of_kind = [entry for kind in ([name] if name else ["cuda", "cpu"]) for entry in entries if entry.kind == kind]
            if of_kind:
                newest = [entry for entry in of_kind if entry.kind == of_kind[0].kind]
                return max(newest, key=lambda entry: entry.measured)
        found = [entry for entry in entries if name and name.lower() in entry.label.lower()]
        if len(found) != 1:
            several = f"{len(found)} devices of the name {name!r} have"
            kind = several if found else "no GPU has" if name == "cuda" else f"no device of the name {name!r} has"
            raise ConfigError(
                f"{kind} been measured; there are {'; '.join(self.devices)}. Measure this one: `speechft calibrate --device cuda` (or cpu)."
            )
        return found[0]


def load_throughput(path: str | Path | None = None) -> Throughput:
    """The measured speeds; default: config/throughput.json here, else the one beside the package's source.

    Raises:
        ConfigError: the file is missing or is not what `speechft calibrate` writes.
    """
    beside = Path(__file__).parents[2] / FILE
    chosen = Path(path) if path is not None else FILE if FILE.is_file() else beside
    if not chosen.is_file():
        raise ConfigError(missing_file(chosen, "for the speed of this machine", "`speechft calibrate` makes it in two minutes."))
    return validate(Throughput, read_json(chosen), str(chosen))


def save_device(path: Path, entry: DeviceSpeeds) -> None:
    """Put a device into the file, in place of what was measured on it before; others stay. The file is written whole or not at all."""
    devices = dict(load_throughput(path).devices) if path.is_file() and path.stat().st_size else {}
    devices[entry.label] = entry
    write_json(path, Throughput(devices=devices).model_dump(mode="json"))
