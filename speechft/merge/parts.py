"""Alpha by part of the model: factors for modules, tensors and depths. No torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from speechft.errors import MergeError

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_IN_LAYER = r"(?:.*\.)?layers\.\d+\."
# Names of tensors in transformers' models and in fairseq's.
_PARTS = {
    "extractor": r"(?:.*\.)?feature_extractor\..*",
    "projection": r"(?:.*\.)?(?:feature_projection|post_extract_proj)\..*",
    "positions": r"(?:.*\.)?(?:pos_conv_embed|pos_conv)\..*",
    "transformer": rf"{_IN_LAYER}.*",
    "attention": rf"{_IN_LAYER}(?:attention|self_attn)\..*",
    "feed_forward": rf"{_IN_LAYER}(?:feed_forward|fc1|fc2)\..*",
    "norms": r".*layer_norm\.(?:weight|bias)",
    "rest": r".*",
}
PARTS = tuple(_PARTS)
"""Parts of an encoder that have a name; anything else is a shell-style pattern of tensor names."""

Scale = Mapping[str, float | str]
"""Part or pattern -> factor of alpha, or `first:last`: a linear ramp over the depth of the transformer layers."""


def alpha_factors(scale: Scale, names: Iterable[str]) -> dict[str, float]:
    """The factor of alpha of each tensor: that of the first entry that matches, or 1.

    A ramp is for tensors of transformer layers only; for others the search goes on with the next entry.

    Raises:
        MergeError: a factor is no finite number or ramp, or an entry matches no tensor.
    """
    names = list(names)
    parsed = {part: _ends(part, factor) for part, factor in scale.items()}
    depth = max((_layer(name) or 0 for name in names), default=0)
    unused = [part for part in parsed if not any(_matches(part, name) for name in names)]
    if unused:
        raise MergeError(
            f"scale: {', '.join(map(repr, unused))} matches no tensor. Parts: {', '.join(PARTS)}; or patterns like 'encoder.layers.1?.*'."
        )
    return {name: _factor(name, parsed, depth) for name in names}


def _factor(name: str, scale: Mapping[str, tuple[float, float]], depth: int) -> float:
    layer = _layer(name)
    for part, (first, last) in scale.items():
        if not _matches(part, name):
            continue
        if first == last:
            return first
        if layer is not None:
            share = layer / max(depth, 1)
            return first * (1 - share) + last * share
    return 1.0


def _ends(part: str, factor: float | str) -> tuple[float, float]:
    first, _, last = str(factor).partition(":")
    try:
        ends = float(first), float(last or first)
    except ValueError:
        ends = math.nan, math.nan
    if isinstance(factor, bool) or not all(map(math.isfinite, ends)):
        raise MergeError(f"scale: {part}={factor!r} is no factor of alpha. Give a number, or first:last for a ramp over depth, e.g. 0:1.")
    return ends


def _matches(part: str, name: str) -> bool:
    if part in _PARTS:
        return re.fullmatch(_PARTS[part], name) is not None
    return fnmatchcase(name, part)


def _layer(name: str) -> int | None:
    found = _LAYER.search(name)
    return int(found[1]) if found else None
