"""Bounds of configurations, which are checked before a model is built from them. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from speechft.errors import CheckpointError

MOST_LAYERS = 100
LARGEST_SIZE = 1_000_000
"""Of a width, a kernel, a table: far above every published encoder, and small enough to describe a model without memory."""
LONGEST_LIST = 100
"""Of the convolutions of an extractor."""
_SIZES = (
    "hidden_size", "intermediate_size", "num_attention_heads", "conv_dim", "conv_kernel", "conv_stride", "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups", "num_buckets", "max_bucket_distance", "num_mel_bins", "delta_order",
)  # fmt: skip
# Parts that transformers' models can have and that no encoder here has: key of config.json -> its name.
_UNSUPPORTED = {
    "add_adapter": "adapter layers after the transformer",
    "adapter_attn_dim": "adapter layers in the transformer",
    "conv_pos_batch_norm": "batch-normalized positional convolutions",
}


def check_sizes(values: Mapping[str, Any]) -> None:
    """Refuse (CheckpointError) sizes beyond every encoder, with which building the model would not end or fill the memory."""
    for key, most in (("num_hidden_layers", MOST_LAYERS), *((key, LARGEST_SIZE) for key in _SIZES)):
        value = values.get(key)
        numbers = value if isinstance(value, list | tuple) else [value]
        if len(numbers) > LONGEST_LIST:
            raise CheckpointError(
                f"{key} has {len(numbers)} entries; at most {LONGEST_LIST} are possible. Use the model's own configuration."
            )
        for number in numbers:
            if isinstance(number, int | float) and not 0 <= number <= most:
                raise CheckpointError(f"{key}={number!r} is not from 0 to {most}. Use the model's own configuration.")


def check_supported(values: Mapping[str, Any], where: object) -> None:
    """Refuse (CheckpointError) a transformers configuration with parts that the encoders here do not have."""
    for key, part in _UNSUPPORTED.items():
        if values.get(key):
            raise CheckpointError(f"{where}: {part} ({key}) are not supported. Use a model without them.")


def without_remote_code(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the keys that make transformers load code of a repository."""
    return {key: value for key, value in values.items() if key not in ("auto_map", "trust_remote_code", "custom_pipelines")}
