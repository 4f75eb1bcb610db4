"""Sizes of encoders and heads, and the resulting numbers of parameters and of multiplications per second of audio.

The speed of an unmeasured encoder is that of a measured one times the ratio of their multiplications.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechft.conventions import SAMPLE_RATE
from speechft.encoders.families import get_family
from speechft.errors import CheckpointError
from speechft.experiment.encoders import EncoderEntry, Filterbanks, FrozenModule, PretrainedHere, PublicEncoder
from speechft.files.text import read_text
from speechft.recipes.values import Strict, validate
from speechft.tasks.catalog import known_entry

ATTENDED_SECONDS = 10.0
"""Utterance length for which attention is counted."""
BASE_CONVOLUTIONS = ((512, 10, 5), *((512, 3, 2),) * 4, *((512, 2, 2),) * 2)


class EncoderShape(Strict):
    """Sizes of an encoder; `convolutions` are (channels, kernel, stride) over waveforms, empty if the input is filterbanks.

    Conformers differ only in the count of their layers; Whisper's padding with silence is not counted.
    """

    family: str
    layers: int
    width: int
    ffn: int
    convolutions: tuple[tuple[int, int, int], ...]
    conv_pos: int = 128
    conv_pos_groups: int = 16

    @property
    def states(self) -> int:
        """Number of hidden states: the input of every layer and the output of the last."""
        return self.layers + 1

    @property
    def frames_per_second(self) -> float:
        """Frame rate: 50 for all published models, 100 for filterbanks."""
        if not self.convolutions:
            return 100.0 if self.family == "fbank" else 50.0
        return SAMPLE_RATE / math.prod(stride for _, _, stride in self.convolutions)

    @property
    def vector_bytes(self) -> int:
        """Bytes of one frame, or one mean vector, of all hidden states in float32."""
        return 4 * self.states * self.width

    @property
    def _layer_weights(self) -> float:
        conformer = self.family in ("wav2vec2-conformer", "wav2vec2-bert")  # two feed-forward parts, and a convolution
        return (4 + 3 * conformer) * self.width**2 + (2 + 2 * conformer) * self.width * self.ffn

    @property
    def _channels(self) -> int:
        """Channels of a frame that enters the transformer."""
        return self.convolutions[-1][0] if self.convolutions else 80

    @property
    def features_hour_gb(self) -> float:
        """Size in GB of an hour of frozen-extractor output in float32, as cached by stage 1; 0 for Whisper, which is not cached."""
        return 0.0 if self.family == "whisper" else 3600 * self.frames_per_second * 4 * self._channels / 1e9

    @property
    def _input_weights(self) -> float:
        """Weights of the projection into the transformer and its positional convolution."""
        return self._channels * self.width + self.conv_pos * self.width**2 / self.conv_pos_groups

    @property
    def parameters(self) -> int:
        """Approximate number of weights of the backbone, without norms, biases and relative positions."""
        if self.family == "fbank":
            return 0
        channels = (1, *(size for size, _, _ in self.convolutions))
        extractor = sum(inputs * size * kernel for inputs, (size, kernel, _) in zip(channels, self.convolutions, strict=False))
        return round(extractor + self._input_weights + self.layers * self._layer_weights)

    @property
    def extractor_arithmetic(self) -> float:
        """Multiplications of the convolutions per second of audio."""
        rate, channels, total = float(SAMPLE_RATE), 1, 0.0
        for size, kernel, stride in self.convolutions:
            rate /= stride
            total += rate * channels * size * kernel
            channels = size
        return total

    @property
    def transformer_arithmetic(self) -> float:
        """Multiplications of everything after the convolutions per second of audio."""
        attention = 2 * self.frames_per_second * ATTENDED_SECONDS * self.width
        layers = self.layers * (self._layer_weights + attention)
        return 0.0 if self.family == "fbank" else self.frames_per_second * (self._input_weights + layers)

    @property
    def arithmetic(self) -> float:
        """Multiplications of a forward pass per second of audio."""
        return self.extractor_arithmetic + self.transformer_arithmetic


_LARGE = {"layers": 24, "width": 1024, "ffn": 4096}
_XLARGE = {"layers": 48, "width": 1280, "ffn": 5120}
_LARGER = {
    **dict.fromkeys(("hubert_large", "wav2vec2_large", "wav2vec2_large_ll60k", "wavlm_large", "xls_r_300m", "mms_300m"), _LARGE),
    **dict.fromkeys(("hubert_xlarge", "xls_r_1b", "mms_1b"), _XLARGE),
}
"""Sizes of public checkpoints (config/encoders.tsv) other than base models."""


def base_shape(family: str) -> EncoderShape:
    """Return the shape of a family's published base model."""
    return EncoderShape(family=family, layers=12, width=768, ffn=3072, convolutions=_convolutions(family, BASE_CONVOLUTIONS))


def _convolutions(family: str, convolutions: tuple[Any, ...]) -> tuple[Any, ...]:
    return () if family == "decoar2" or get_family(family).mel else convolutions


FILTERBANKS = EncoderShape(family="fbank", layers=0, width=240, ffn=0, convolutions=())


def shape_of(entry: EncoderEntry) -> tuple[EncoderShape, str]:
    """Return the shape of an experiment's encoder, and the assumption made, if any.

    Raises:
        CheckpointError: the config.json of an encoder directory cannot be read.
    """
    if isinstance(entry, Filterbanks):
        return FILTERBANKS.model_copy(update={"width": entry.recipe.mel_bins * (1 + entry.recipe.deltas)}), ""
    if isinstance(entry, PublicEncoder):
        return base_shape(entry.checkpoint.family).model_copy(update=_LARGER.get(entry.name, {})), ""
    if isinstance(entry, PretrainedHere):
        sizes = entry.recipe.architecture
        convolutions = tuple((one.channels, one.kernel, one.stride) for one in sizes.extractor)
        shape = EncoderShape(
            family=entry.recipe.family, layers=sizes.layers, width=sizes.hidden_size, ffn=sizes.ffn_size, convolutions=convolutions,
            conv_pos=sizes.conv_pos, conv_pos_groups=sizes.conv_pos_groups,
        )  # fmt: skip
        return shape, ""
    if isinstance(entry, FrozenModule):
        return base_shape("hubert"), "is a module of your own, so its speed is unknown; its features are counted as those of a base model"
    if (entry.path / "config.json").is_file():
        return shape_of_directory(entry.path), ""
    family = entry.family or "hubert"
    return base_shape(family), f"{entry.path} is not an encoder directory, so it is counted as {family} base"


def shape_of_directory(folder: Path) -> EncoderShape:
    """Read the shape of an encoder directory from its config.json.

    Raises:
        CheckpointError: the file is missing, damaged, or for another kind of model.
    """
    path = folder / "config.json"
    try:
        values: Mapping[str, Any] = json.loads(read_text(path))
        family = values["model_type"]
        if family == "fbank":
            return FILTERBANKS.model_copy(update={"width": values.get("hidden_size", FILTERBANKS.width)})
        # Missing keys are as in the published base models: transformers omits its defaults.
        defaults = zip(*BASE_CONVOLUTIONS, strict=True)
        columns = [values.get(f"conv_{key}", default) for key, default in zip(("dim", "kernel", "stride"), defaults, strict=True)]
        sizes = {
            "family": family,
            "layers": values.get("num_hidden_layers", values.get("encoder_layers", 12)),
            "width": values.get("hidden_size", values.get("d_model", 768)),
            "ffn": values.get("intermediate_size", values.get("encoder_ffn_dim", 3072)),
            "conv_pos": values.get("num_conv_pos_embeddings", 128),
            "conv_pos_groups": values.get("num_conv_pos_embedding_groups", 16),
            "convolutions": _convolutions(family, tuple(zip(*columns, strict=True))),
        }
        return validate(EncoderShape, sizes, str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: is not the configuration of an encoder ({error}). Import the encoder again.") from None


HEAD_SIZES: dict[str, dict[str, Any]] = {
    "pr": {"projected": 256, "outputs": 74},
    "pc": {"projected": 256, "outputs": 39},
    "asr": {"projected": 1024, "hidden": 1024, "layers": 2, "outputs": 32},
    "sf": {"projected": 1024, "hidden": 1024, "layers": 2, "outputs": 109},
    "sd": {"hidden": 512, "outputs": 2},
    "asv": {"width": 512, "pooled_width": 1500, "outputs": 1211},
    "ctc": {"projected": 256, "hidden": 256, "layers": 2, "outputs": 32},
}
"""Sizes of heads on frames: SUPERB's, and those of kinds of tasks that differ; `task_options` override them."""


def head_parameters(task: str, options: Mapping[str, Any], width: int) -> int:
    """Approximate weights of a head on frames, which are also its multiplications per frame (for ASV, without the last layers)."""
    known = HEAD_SIZES.get(task) or HEAD_SIZES[known_entry(task).head_measured_as]
    sizes = {**known, **{key: value for key, value in options.items() if isinstance(value, int)}}
    if known.keys() == {"projected", "outputs"}:
        return int(width * sizes["projected"] + sizes["projected"] * sizes["outputs"])
    if known.keys() == {"hidden", "outputs"}:
        return int(4 * sizes["hidden"] * (width + sizes["hidden"]) + sizes["hidden"] * sizes["outputs"])
    if "pooled_width" in known:
        inner, pooled = sizes["width"], sizes["pooled_width"]
        return int(width * inner + inner * inner * (5 + 3 + 3 + 1) + inner * pooled)
    total, inputs = width * sizes["projected"], sizes["projected"]
    for _ in range(sizes["layers"]):
        total += 2 * 4 * sizes["hidden"] * (inputs + sizes["hidden"])
        inputs = 2 * sizes["hidden"]
    return int(total + inputs * sizes["outputs"])


def head_arithmetic(task: str, options: Mapping[str, Any], shape: EncoderShape) -> float:
    """Multiplications of a head, and of the weighted sum before it, per second of audio."""
    return shape.frames_per_second * (shape.states * shape.width + head_parameters(task, options, shape.width))
