"""LoRA and DoRA on the linear layers of an encoder (peft), and the plain weights that they amount to."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from speechft.encoders.adapter_directory import WRAPPER
from speechft.encoders.weight_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from speechft.errors import ConfigError
from speechft.files.structured import write_json
from speechft.recipes.finetuning import Adapters

ADAPTER_FOLDER = "adapter"
"""Inside the encoder directory of a fine-tuning with adapters; what peft reads."""
_ADAPTER = re.compile(r"(.+)\.(lora_A|lora_B|lora_magnitude_vector)\.default(\.weight)?")


def add_adapters(backbone: nn.Module, options: Adapters) -> frozenset[str]:
    """Put adapters into `backbone`, in place; the names of their parameters. Its function is not changed by that.

    Raises:
        ConfigError: `targets` names no layer of this encoder.
    """
    from peft import inject_adapter_in_model

    before = {id(parameter) for parameter in backbone.parameters()}
    try:
        inject_adapter_in_model(_peft_config(options), backbone)
    except ValueError as error:
        raise ConfigError(f"adapters.targets: {', '.join(options.targets)} do not fit this encoder ({error}).") from None
    return frozenset(name for name, parameter in backbone.named_parameters() if id(parameter) not in before)


def _peft_config(options: Adapters) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(options.targets),
        use_dora=options.kind == "dora",
    )


def adapter_weights(backbone: nn.Module) -> dict[str, Tensor]:
    """Tensors of the adapters of `backbone` under the names in which peft stores them; empty without adapters."""
    state = backbone.state_dict().items()
    return {WRAPPER + _stored(found): tensor for name, tensor in state if (found := _ADAPTER.fullmatch(name))}


def _stored(found: re.Match[str]) -> str:
    layer, part, weight = found.groups()
    # DoRA's lengths of rows are a module in memory and a bare tensor in files.
    return f"{layer}.{part}" if part == "lora_magnitude_vector" else f"{layer}.{part}{weight or ''}"


def write_adapter(folder: Path, tensors: Mapping[str, Tensor], options: Adapters) -> None:
    """Write an adapter as peft does, so that `PeftModel.from_pretrained(base, folder)` reads it."""
    values = {**_peft_config(options).to_dict(), "peft_type": "LORA", "inference_mode": True, "target_modules": sorted(options.targets)}
    folder.mkdir()
    write_json(folder / ADAPTER_CONFIG, dict(sorted(values.items())))
    save_file(dict(tensors), folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def plain_weights(backbone: nn.Module) -> dict[str, Tensor]:
    """The state of `backbone` without adapters: those it has are merged into the weights of their layers. `backbone` stays as it is."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = {name: module for name, module in backbone.named_modules() if isinstance(module, BaseTunerLayer)}
    state = {name: tensor for name, tensor in backbone.state_dict().items() if not any(name.startswith(f"{layer}.") for layer in adapted)}
    for layer, module in adapted.items():
        merged = copy.deepcopy(module)
        merged.merge()
        state |= {f"{layer}.{name}": tensor for name, tensor in merged.get_base_layer().state_dict().items()}
    return state
