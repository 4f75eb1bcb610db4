"""LoRA and DoRA adapters as files for peft."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from speechft.encoders.checkpoints.adapter_directory import WRAPPER
from speechft.encoders.checkpoints.weight_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from speechft.files.structured import write_json
from speechft.finetune.method import adapter_targets, peft_config
from speechft.recipes.finetuning import Adapters

ADAPTER_FOLDER = "adapter"
"""Folder for peft in the encoder directory of a fine-tuning with adapters."""
_ADAPTER = re.compile(r"(.+)\.(lora_A|lora_B|lora_magnitude_vector)\.default(?:\.weight)?")


def adapter_weights(backbone: nn.Module) -> dict[str, Tensor]:
    """Return the adapter tensors of `backbone` under peft's names; empty without adapters."""
    matches = ((_ADAPTER.fullmatch(name), tensor) for name, tensor in backbone.state_dict().items())
    # DoRA's magnitudes are a module in memory and a bare tensor in files.
    suffix = {"lora_A": ".weight", "lora_B": ".weight", "lora_magnitude_vector": ""}
    return {f"{WRAPPER}{match[1]}.{match[2]}{suffix[match[2]]}": tensor for match, tensor in matches if match}


def write_adapter(folder: Path, tensors: Mapping[str, Tensor], options: Adapters) -> None:
    """Write an adapter that `PeftModel.from_pretrained(base, folder)` can read."""
    targets = [name for name in sorted(adapter_targets(options)) if any(f".{name}.lora_A" in key for key in tensors)]
    values = {**peft_config(options).to_dict(), "peft_type": "LORA", "inference_mode": True, "target_modules": targets}
    folder.mkdir()
    write_json(folder / ADAPTER_CONFIG, dict(sorted(values.items())))
    save_file(dict(tensors), folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
