"""HuBERT targets from an encoder: clusters of a hidden layer (later iterations), or the predictions of its own cluster head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear, normalize

from speechft.conventions import SAMPLE_RATE
from speechft.encoders import Encoder, load_encoder
from speechft.encoders.directory.layout import read_pretraining_only, read_source_config
from speechft.encoders.families import SPECIAL_SYMBOLS
from speechft.errors import CheckpointError, ConfigError
from speechft.pretrain.kmeans_labels import Features
from speechft.runtime.devices import resolve_device

HEAD = ("final_proj.weight", "final_proj.bias", "label_embs_concat")


class FrozenLayer:
    """Hidden state `layer` (default: the output) of an encoder, independent of the batch; runs on a CUDA device if available."""

    def __init__(self, encoder_dir: Path, layer: int | None = None) -> None:
        encoder: Encoder = load_encoder(encoder_dir)
        layer = encoder.num_states - 1 if layer is None else layer
        if layer >= encoder.num_states:
            raise ConfigError(
                f"targets.layer: {layer} does not exist; {encoder_dir} has hidden states 0 (input of the first transformer layer) to "
                f"{encoder.num_states - 1} (output)."
            )
        self.encoder = encoder.to(resolve_device())
        self.layer = layer

    @property
    def rate(self) -> float:
        """Frames a second."""
        return SAMPLE_RATE / self.encoder.frame_shift

    def states(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Compute the hidden state (T, D) of each waveform."""
        with torch.inference_mode():
            output = self.encoder.encode(waveforms)
            return [state[:length] for state, length in zip(output.hidden_states[self.layer], output.lengths.tolist(), strict=True)]

    def __call__(self, waveforms: Sequence[Tensor]) -> list[Features]:
        """Compute the hidden states as NumPy arrays, for k-means."""
        return [state.float().cpu().numpy() for state in self.states(waveforms)]


class ClusterHead:
    """Most likely classes of a HuBERT's own pre-training head, by the cosine of projected output and class embeddings.

    Raises:
        CheckpointError: the encoder directory has no such head, or one with several label sets.
    """

    def __init__(self, encoder_dir: Path) -> None:
        tensors = read_pretraining_only(encoder_dir)
        missing = [name for name in HEAD if name not in tensors]
        if missing:
            raise CheckpointError(
                f"{encoder_dir}: has no cluster head ({', '.join(missing)} missing). "
                "Use targets: {layer: ...}, or start from a checkpoint that has the head."
            )
        self.symbols = label_symbols(encoder_dir, len(tensors["label_embs_concat"]))
        if len(tensors["final_proj.weight"]) != tensors["label_embs_concat"].shape[1] or any("target_glu" in name for name in tensors):
            raise CheckpointError(f"{encoder_dir}: its cluster head does not have a single set of labels. Use targets: {{layer: ...}}.")
        self.output = FrozenLayer(encoder_dir)
        device = self.output.encoder.device
        self.weight, self.bias = (tensors[name].float().to(device) for name in HEAD[:2])
        # The leading special symbols are never frame labels.
        self.classes = normalize(tensors["label_embs_concat"].float(), dim=-1)[len(SPECIAL_SYMBOLS) :].to(device)

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.output.rate

    def __call__(self, waveforms: Sequence[Tensor]) -> list[NDArray[np.int64]]:
        """Return the index of the most likely class of each frame (T,), not counting the special symbols."""
        with torch.inference_mode():
            projected = [linear(state.float(), self.weight, self.bias) for state in self.output.states(waveforms)]
            return [(frames @ self.classes.T).argmax(dim=-1).cpu().numpy() for frames in projected]


def label_symbols(encoder_dir: Path, size: int) -> list[str]:
    """Return the class names of a cluster head with `size` embeddings, without fairseq's leading special symbols.

    Raises:
        CheckpointError: the dictionary does not begin with the special symbols or has another size.
    """
    dictionaries = read_source_config(encoder_dir).get("dictionaries") or []
    if len(dictionaries) > 1:
        raise CheckpointError(
            f"{encoder_dir}: was trained on {len(dictionaries)} sets of labels; only one is supported. Use targets: {{layer: ...}}."
        )
    if not dictionaries or not dictionaries[0]["symbols"]:
        return [str(index) for index in range(size - len(SPECIAL_SYMBOLS))]
    symbols = [str(symbol) for symbol in dictionaries[0]["symbols"]]
    if tuple(symbols[: len(SPECIAL_SYMBOLS)]) != SPECIAL_SYMBOLS or len(symbols) != size:
        raise CheckpointError(
            f"{encoder_dir}: its {len(symbols)} label symbols do not match a cluster head of {size} classes that begins with "
            f"{' '.join(SPECIAL_SYMBOLS)}. Use targets: {{layer: ...}}."
        )
    return symbols[len(SPECIAL_SYMBOLS) :]
