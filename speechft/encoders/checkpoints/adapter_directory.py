"""Import of peft adapters (LoRA, DoRA), merged into the encoder that they were trained on."""

from __future__ import annotations

import logging
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from speechft.encoders.checkpoints.names import as_float32
from speechft.encoders.checkpoints.transformers_directory import split_head, tell_head
from speechft.encoders.checkpoints.weight_files import ADAPTER_CONFIG, read_adapter_weights
from speechft.encoders.directory.layout import load_backbone, write_encoder
from speechft.encoders.directory.provenance import make_provenance
from speechft.errors import CheckpointError, SpeechFTError
from speechft.files.structured import read_json

logger = logging.getLogger(__name__)
WRAPPER = "base_model.model."
"""Prefix that peft adds to the tensor names of the adapted model."""
_PART = re.compile(r"(?P<layer>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)(\.weight)?")
_REMEDY = "Merge it with peft (merge_and_unload), save the model (save_pretrained) and import that directory."
# Settings that the computation below covers, or that do not affect the merged weights.
_KNOWN = {
    "r", "lora_alpha", "lora_dropout", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "bias", "peft_type", "fan_in_fan_out",
    "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern", "inference_mode", "task_type",
    "auto_mapping", "base_model_name_or_path", "revision", "peft_version", "megatron_core", "qalora_group_size", "eva_config",
    "runtime_config", "ensure_weight_tying",
}  # fmt: skip
_INITIAL = (True, False, "gaussian", "eva", "orthogonal")
"""Initializations of an adapter that do not change the weights of the model."""


def import_adapter(path: Path, out_dir: str | Path, base: Path | None, family: str | None) -> None:
    """Import an adapter: merge the one in the folder `path` into `base` and write the encoder, without a head."""
    if base is None:
        raise CheckpointError(f"{path}: a LoRA adapter (peft) without its model. Name the model with --base.")
    settings = _settings(path / ADAPTER_CONFIG)
    backbone = load_backbone(base)
    own = backbone.config.model_type
    if family is not None and family != own:
        raise CheckpointError(f"{base}: contains a {own} model, not {family}. Name the model that {path} adapts.")
    files, tensors = read_adapter_weights(path)
    encoder, head = split_head({name.removeprefix(WRAPPER): tensor for name, tensor in tensors.items()}, own)
    tell_head(head, str(path))
    weights = dict(backbone.state_dict())
    layers = _layers(encoder, weights, str(path))
    for layer, parts in layers.items():
        weights[f"{layer}.weight"] = _merged(weights[f"{layer}.weight"], layer, parts, settings, str(path))
    logger.info("%s: %s adapter of %d layers, merged into %s", path.name, "DoRA" if settings["use_dora"] else "LoRA", len(layers), base)
    inputs = {"base": base, "adapter": files[0]}
    provenance = make_provenance("import", inputs, {"family": own, "format": "peft"})
    write_encoder(out_dir, tensors=weights, like=base, provenance=provenance, where=str(path))


def _settings(path: Path) -> dict[str, Any]:
    """Read the adapter's settings, with peft's defaults for missing ones."""
    from peft import LoraConfig

    try:
        content = dict(read_json(path))
    except (SpeechFTError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not an adapter configuration ({error}). Save the adapter again.") from None
    if content.get("peft_type") != "LORA":
        raise CheckpointError(
            f"{path}: peft_type {content.get('peft_type')!r} is not supported, only LORA (with or without DoRA). {_REMEDY}"
        )
    defaults = LoraConfig().to_dict()
    for key, value in content.items():
        harmless = value == defaults.get(key) or (key in defaults and not value)
        if key == "init_lora_weights":
            harmless = value in _INITIAL
        if key not in _KNOWN and not harmless:
            raise CheckpointError(f"{path}: {key}={str(value)[:80]!r} is not supported. {_REMEDY}")
    settings = {**defaults, **content}
    patterns = settings["alpha_pattern"] or {}
    if not isinstance(patterns, dict) or not all(re.fullmatch(r"[\w.]+", pattern) for pattern in patterns):
        raise CheckpointError(f"{path}: alpha_pattern has keys that are not layer names. {_REMEDY}")
    for value in (settings["lora_alpha"], *patterns.values()):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise CheckpointError(
                f"{path}: lora_alpha or alpha_pattern contains {str(value)[:80]!r}, which is not a number. Save the adapter again."
            )
    return {**settings, "alpha_pattern": patterns}


def _layers(encoder: Mapping[str, Tensor], weights: dict[str, Tensor], where: str) -> dict[str, dict[str, Tensor]]:
    """Return adapted layers with the parts of their adapters; fully trained tensors go into `weights`."""
    layers: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in encoder.items():
        match = _PART.fullmatch(name)
        adapted = weights.get(f"{match['layer']}.weight") if match else None
        if match and adapted is not None and adapted.dim() == 2:
            layers[match["layer"]][match["part"]] = as_float32(tensor, name, where)
            continue
        whole = name.replace(".base_layer.", ".")
        if whole not in weights or weights[whole].shape != tensor.shape:
            raise CheckpointError(
                f"{where}: {name} {list(tensor.shape)} matches no linear layer of the base. Name the model that it adapts. {_REMEDY}"
            )
        weights[whole] = as_float32(tensor, name, where)
    if not layers:
        raise CheckpointError(f"{where}: the adapter changes no layer of the encoder. Use the base itself.")
    return layers


def _merged(weight: Tensor, layer: str, parts: Mapping[str, Tensor], settings: Mapping[str, Any], where: str) -> Tensor:
    """Merge a layer's weight with its adapter: W + s B A (LoRA), then for DoRA scale each row to its learned norm."""
    wanted = {"lora_A", "lora_B", *(["lora_magnitude_vector"] if settings["use_dora"] else [])}
    if parts.keys() != wanted:
        raise CheckpointError(
            f"{where}: the adapter of {layer} has {', '.join(sorted(parts))}, but needs {', '.join(sorted(wanted))}. {_REMEDY}"
        )
    down, up = parts["lora_A"], parts["lora_B"]
    fits = down.dim() == up.dim() == 2 and len(down) == up.shape[1] > 0 and (len(up), down.shape[1]) == tuple(weight.shape)
    if not fits:
        raise CheckpointError(
            f"{where}: the adapter of {layer} does not fit its weight {list(weight.shape)}. Name the model that it adapts."
        )
    rank = len(down)
    alpha = _alpha(layer, settings)
    merged: Tensor = weight + (up @ down) * (alpha / math.sqrt(rank) if settings["use_rslora"] else alpha / rank)
    if settings["use_dora"]:
        magnitude = parts["lora_magnitude_vector"]
        if magnitude.shape != merged.shape[:1]:
            raise CheckpointError(f"{where}: lora_magnitude_vector of {layer} has shape {list(magnitude.shape)}. {_REMEDY}")
        merged = merged * (magnitude / merged.norm(dim=1))[:, None]
    return merged


def _alpha(layer: str, settings: Mapping[str, Any]) -> float:
    """Return the layer's entry in `alpha_pattern`, else `lora_alpha`. Keys are names or suffixes of names in the model with its head."""
    for pattern, alpha in settings["alpha_pattern"].items():
        if layer == pattern or layer.endswith(f".{pattern}") or pattern.endswith(f".{layer}"):
            return float(alpha)
    return float(settings["lora_alpha"])
