"""Which encoder parameters are frozen when: the head learns alone first, the convolutional extractor never learns."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from torch import nn


def head_only_updates(total_updates: int, share: float) -> int:
    """Number of updates, from the start, that train the head alone."""
    return int(share * total_updates)


def frozen_parameters(
    names: Iterable[str], extractor: Collection[str], completed_updates: int, head_only: int, freeze_extractor: bool = True
) -> set[str]:
    """Encoder parameters that the next update must not change (Speech-FT, stable fine-tuning).

    Args:
        names: all parameters of the encoder.
        extractor: those of its convolutional feature extractor; empty for an encoder that has none.
        completed_updates: updates done so far.
        head_only: updates that train the head alone; 0 trains the encoder from the start.
        freeze_extractor: keep the extractor frozen after them too.
    """
    if completed_updates < head_only:
        return set(names)
    return set(names) & set(extractor) if freeze_extractor else set()


def freeze(module: nn.Module, frozen: Collection[str]) -> None:
    """Let exactly the parameters of `module` that are not in `frozen` receive gradients."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)
