"""Stage 1 of Speech-FT, and the fine-tuning methods that the paper compares it with.

Stable fine-tuning: the convolutional extractor is frozen throughout, only the head is trained for the first tenth of the updates, and the
learning rate warms up, holds and decays linearly to 0. Other methods: an L2 penalty on the distance from theta0, adapters (LoRA, DoRA)
instead of the encoder's own weights, and early checkpoints. Stage 2, the merge, is in `speechft.merge`.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from speechft.errors import ConfigError
from speechft.recipes.finetuning import Adapters, FinetuneRecipe


def multiplier(completed_updates: int, total_updates: int, warmup: float = 0.1, hold: float = 0.4) -> float:
    """Return the factor of the peak learning rate for the next update.

    As in the paper's released code: with W = int(warmup * N) and H = W + int(hold * N), the factor is k / W below W, 1 below H and
    (N - k) / (N - H) afterwards. The first update therefore has factor 0.

    Args:
        completed_updates: k, optimizer steps done so far; update i (counted from 1) uses `multiplier(i - 1)`.
        total_updates: N, updates of the whole run.
        warmup: share of N with a linearly increasing rate.
        hold: share of N at the peak.
    """
    warm = int(warmup * total_updates)
    decay_from = warm + int(hold * total_updates)
    if completed_updates < warm:
        return completed_updates / warm
    if completed_updates < decay_from:
        return 1.0
    if completed_updates >= total_updates:
        return 0.0
    return (total_updates - completed_updates) / (total_updates - decay_from)


def head_only_updates(total_updates: int, share: float) -> int:
    """Return the number of updates at the start that train only the head."""
    return int(share * total_updates)


def frozen_parameters(
    names: Iterable[str], extractor: Collection[str], completed_updates: int, head_only: int, freeze_extractor: bool = True
) -> set[str]:
    """Return the encoder parameters that are frozen in the next update (Speech-FT, stable fine-tuning).

    Args:
        names: all parameters of the encoder.
        extractor: parameters of its convolutional extractor; empty if there is none.
        completed_updates: updates done so far.
        head_only: number of updates that train only the head; 0 trains the encoder from the start.
        freeze_extractor: keep the extractor frozen afterwards.
    """
    if completed_updates < head_only:
        return set(names)
    return set(names) & set(extractor) if freeze_extractor else set()


def freeze(module: nn.Module, frozen: Collection[str]) -> None:
    """Enable gradients of exactly the parameters of `module` that are not in `frozen`."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)


class DistancePenalty:
    """Penalty `weight` x the squared L2 distance between parameters and their values at construction.

    The paper adds the L2 distance to theta0 to the loss and does not give its weight. Squaring it, for a smooth gradient at the start, is
    our choice. The initial values are kept in memory, not in checkpoints: a resumed run reads theta0 again.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], weight: float) -> None:
        self.weight = weight
        self._pairs = [(parameter, parameter.detach().clone()) for parameter in parameters]

    def __call__(self) -> Tensor:
        """Compute the penalty, a float32 scalar on the parameters' device."""
        self._pairs = [(parameter, start.to(parameter.device)) for parameter, start in self._pairs]
        return self.weight * torch.stack([(parameter - start).square().sum() for parameter, start in self._pairs]).sum()


def early_updates(recipe: FinetuneRecipe) -> dict[float, int]:
    """Map each share to the number of updates after which the encoder is saved: rounded down, but at least 1.

    The last update is excluded, so a run of one update saves none.
    """
    updates = {share: max(1, int(share * recipe.updates)) for share in recipe.early}
    return {share: update for share, update in updates.items() if update < recipe.updates}


def add_adapters(backbone: nn.Module, options: Adapters) -> frozenset[str]:
    """Insert adapters into `backbone` in place, without changing its outputs, and return the names of their parameters.

    Raises:
        ConfigError: `targets` matches no layer of this encoder.
    """
    from peft import inject_adapter_in_model

    before = {id(parameter) for parameter in backbone.parameters()}
    try:
        inject_adapter_in_model(peft_config(options), backbone)
    except ValueError as error:
        raise ConfigError(f"adapters.targets: {', '.join(options.targets)} do not fit this encoder ({error}).") from None
    return frozenset(name for name, parameter in backbone.named_parameters() if id(parameter) not in before)


# Names of the same layers in conformers and Whisper.
_COUNTERPARTS = {
    **{f"{name}_proj": f"linear_{name}" for name in ("q", "k", "v", "out")},
    "intermediate_dense": "fc1",
    "output_dense": "fc2",
}


def adapter_targets(options: Adapters) -> list[str]:
    """Return the targets of adapters with their names in other families."""
    return list(dict.fromkeys([*options.targets, *(_COUNTERPARTS[name] for name in options.targets if name in _COUNTERPARTS)]))


def peft_config(options: Adapters) -> Any:
    """Build peft's configuration for these adapters."""
    from peft import LoraConfig

    return LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=adapter_targets(options),
        use_dora=options.kind == "dora",
    )


def plain_weights(backbone: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of `backbone` with adapters merged into the weights; `backbone` is not changed."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = {name: module for name, module in backbone.named_modules() if isinstance(module, BaseTunerLayer)}
    state = {name: tensor for name, tensor in backbone.state_dict().items() if not any(name.startswith(f"{layer}.") for layer in adapted)}
    for layer, module in adapted.items():
        merged = copy.deepcopy(module)
        merged.merge()
        state |= {f"{layer}.{name}": tensor for name, tensor in merged.get_base_layer().state_dict().items()}
    return state
