"""Checks before a merge; each reports all its findings in one MergeError."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from speechft.errors import MergeError, listing
from speechft.merge.tensors import TensorInfo, TensorReader

_HALF = ("F16", "BF16")
STRUCTURE = (
    "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "conv_dim", "conv_kernel", "conv_stride", "conv_bias", "feat_extract_norm", "feat_extract_activation", "feat_proj_layer_norm",
    "num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "conv_pos_batch_norm", "do_stable_layer_norm", "layer_norm_eps",
    "num_buckets", "max_bucket_distance", "speechft_normalize",
    "position_embeddings_type", "rotary_embedding_base", "left_max_position_embeddings", "right_max_position_embeddings",
    "conv_depthwise_kernel_size", "conv_pos_kernel_size", "feature_projection_input_dim",
    "d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "activation_function", "num_mel_bins",
    "add_adapter", "adapter_kernel_size", "adapter_stride", "num_adapter_layers",
)  # fmt: skip
"""Keys of config.json that change the tensors or their function (heads, strides, order of normalization). Training settings, such as

dropout and masking rates, may differ."""


def check_alpha(alpha: float, extrapolate: bool) -> float:
    """Return `alpha` as a float; raise MergeError if it is not a finite number, or outside [0, 1] without `extrapolate`."""
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise MergeError(f"alpha={alpha!r} is not a number. It is the weight of the fine-tuned model, from 0 to 1; the paper uses 0.25.")
    if not 0.0 <= alpha <= 1.0 and not extrapolate:
        raise MergeError(
            f"alpha={alpha:g} is outside [0, 1] and extrapolates beyond the two models. To allow it, pass extrapolate=True (--extrapolate)."
        )
    return float(alpha)


def check_paths(base: Path, finetuned: Sequence[Path]) -> None:
    """Refuse a merge without fine-tuned models, or of the base with itself."""
    if not finetuned:
        raise MergeError("No fine-tuned model given. A merge needs the pre-trained model and at least one fine-tuned model.")
    if base.resolve() in {path.resolve() for path in finetuned}:
        raise MergeError(f"{base} is given both as the pre-trained and as a fine-tuned model. Name each model once.")


def kept(name: str, patterns: Sequence[str]) -> bool:
    """Whether a tensor keeps the pre-trained value: its name matches one of the shell-style patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def widened(base: TensorInfo, finetuned: TensorInfo) -> bool:
    """Whether a tensor is float32 and its counterpart in the base half precision, as after fine-tuning such a base."""
    return base.dtype in _HALF and finetuned.dtype == "F32" and base.shape == finetuned.shape


def check_tensors(base: TensorReader, finetuned: Sequence[TensorReader], keep: Sequence[str] = ()) -> None:
    """Refuse models whose tensors differ in name, shape or dtype, and list the first differences; tensors of `keep` are not compared.

    Single and half precision may be mixed, since merges are computed in float32.
    """
    problems: list[str] = []
    expected = {name: info for name, info in base.tensors.items() if not kept(name, keep)}
    for model in finetuned:
        found = {name: info for name, info in model.tensors.items() if not kept(name, keep)}
        problems += [f"{model.label}: {name} {expected[name]} is missing" for name in sorted(expected.keys() - found.keys())]
        problems += [f"{model.label}: {name} {found[name]} is unexpected" for name in sorted(found.keys() - expected.keys())]
        problems += [
            f"{model.label}: {name} is {found[name]}, but {expected[name]} in the pre-trained model"
            for name in sorted(expected.keys() & found.keys())
            if expected[name].shape != found[name].shape
            or (expected[name].dtype != found[name].dtype and not {expected[name].dtype, found[name].dtype} <= {"F32", *_HALF})
        ]
    if problems:
        heading = f"The models do not have the same tensors as {base.label}; only fine-tuned copies of it can be merged with it:"
        raise MergeError(listing(heading, problems))


def check_configs(base: Mapping[str, Any], finetuned: Mapping[str, Mapping[str, Any]], base_name: str) -> None:
    """Refuse models whose config.json has another family or size, and list all differences. `finetuned`: name in messages -> values.

    Keys that only one side has are not compared, since versions of transformers write different sets of keys.
    """
    problems = [
        f"{name}: {key} is {config[key]!r}, but {base[key]!r} in the pre-trained model"
        for name, config in finetuned.items()
        for key in STRUCTURE
        if key in base and key in config and config[key] != base[key]
    ]
    if problems:
        raise MergeError(f"The models differ in family or size from {base_name} and cannot be merged with it:\n  " + "\n  ".join(problems))
