"""Alpha by part of the model: factors for modules, tensors and depths. This module does not import torch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from fnmatch import translate

from speechft.errors import MergeError

# data2vec's positional convolutions are also named layers.
_LAYER = re.compile(r"(?:^|\.)(?<!pos_conv_embed\.)layers\.(\d+)\.")
_IN_LAYER = r"(?:.*\.)?(?<!pos_conv_embed\.)layers\.\d+\."
# Tensor names of transformers and of fairseq.
_PARTS = {
    "extractor": r"(?:.*\.)?(?:feature_extractor|encoder\.conv[12])\..*",
    "projection": r"(?:.*\.)?(?:feature_projection|post_extract_proj)\..*",
    "positions": r"(?:.*\.)?(?:pos_conv_embed|pos_conv|embed_positions)\..*",
    "transformer": rf"{_IN_LAYER}.*",
    "attention": rf"{_IN_LAYER}(?:attention|self_attn)\..*",
    "feed_forward": rf"{_IN_LAYER}(?:feed_forward|fc1|fc2|ffn[12])\..*",
    "norms": r".*layer_norm\.(?:weight|bias)",
    "rest": r".*",
    "lines": r".*",
}
PARTS = tuple(_PARTS)
"""Named parts of an encoder; anything else is a shell-style pattern of tensor names."""

_BEFORE_LAYERS = ("extractor", "projection", "positions")

Scale = Mapping[str, float | str]
"""Part or pattern -> factor of alpha, or `first:last`: a linear ramp over the depth of the transformer layers.

`lines: first:last` is LiNeS (Wang et al., layer scaling, ICLR 2025, arXiv 2410.17146): the ramp, and `first` for everything else.
"""


def part_of(name: str) -> str:
    """Return the part of an encoder that a tensor belongs to: extractor, projection, positions, layer_1 ..., rest."""
    if layer := _LAYER.search(name):
        return f"layer_{int(layer[1]) + 1}"
    return next((part for part in _BEFORE_LAYERS if re.fullmatch(_PARTS[part], name)), "rest")


def alpha_factors(scale: Scale, names: Iterable[str]) -> dict[str, float]:
    """Return the factor of alpha of each tensor: that of the first matching entry, or 1.

    A ramp matches only tensors of transformer layers; other tensors fall through to the next entry, except that `lines` gives them its
    first factor.

    Raises:
        MergeError: a factor is not a finite number or ramp, or an entry matches no tensor.
    """
    names = list(names)
    layers = {name: int(layer[1]) for name in names if (layer := _LAYER.search(name))}
    depth = max([1, *layers.values()])
    factors: dict[str, float] = {}
    unused = []
    for part, factor in scale.items():
        first, last = _ends(part, factor)
        pattern = re.compile(_PARTS.get(part) or translate(part))
        matching = [name for name in names if pattern.fullmatch(name)]
        if not matching:
            unused.append(part)
        for name in matching:
            if first == last:
                factors.setdefault(name, first)
            elif name in layers:
                share = layers[name] / depth
                factors.setdefault(name, first * (1 - share) + last * share)
            elif part == "lines":
                factors.setdefault(name, first)
    if unused:
        raise MergeError(
            f"scale: {', '.join(map(repr, unused))} matches no tensor. Parts: {', '.join(PARTS)}; or patterns like 'encoder.layers.1?.*'."
        )
    return {name: factors.get(name, 1.0) for name in names}


def _ends(part: str, factor: float | str) -> tuple[float, float]:
    """Parse the factors of the first and the last transformer layer."""
    first, _, last = str(factor).partition(":")
    try:
        ends = float(first), float(last or first)
    except ValueError:
        ends = math.nan, math.nan
    if isinstance(factor, bool) or not all(map(math.isfinite, ends)):
        raise MergeError(f"scale: {part}={factor!r} is not a factor of alpha. Give a number, or first:last for a ramp over depth.")
    return ends
