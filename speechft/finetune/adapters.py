"""LoRA and DoRA on the linear layers of an encoder (peft), and the plain weights that they amount to."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from speechft.errors import ConfigError
from speechft.finetune_options import Adapters


def add_adapters(backbone: nn.Module, options: Adapters) -> frozenset[str]:
    """Put adapters into `backbone`, in place; the names of their parameters. Its function is not changed by that.

    Raises:
        ConfigError: `targets` names no layer of this encoder.
    """
    from peft import LoraConfig, inject_adapter_in_model

    before = {id(parameter) for parameter in backbone.parameters()}
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(options.targets),
        use_dora=options.kind == "dora",
    )
    try:
        inject_adapter_in_model(config, backbone)
    except ValueError as error:
        raise ConfigError(f"adapters.targets: {', '.join(options.targets)} do not fit this encoder ({error}).") from None
    return frozenset(name for name, parameter in backbone.named_parameters() if id(parameter) not in before)


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
