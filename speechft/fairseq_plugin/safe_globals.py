"""Classes that fairseq's own checkpoints may contain, for torch.load(weights_only=True)."""

from __future__ import annotations

import argparse
import collections
import typing

import numpy as np
import torch


def allow_fairseq_checkpoints() -> None:
    """Extend torch's allow-list by the plain containers that fairseq's trainer pickles; nothing that could run code."""
    from fairseq.data.dictionary import Dictionary
    from fairseq.distributed.utils import _TensorPlaceholder
    from omegaconf import DictConfig, ListConfig, base, nodes

    allowed: list[typing.Any] = [
        Dictionary,
        argparse.Namespace,
        collections.OrderedDict,
        collections.defaultdict,
        dict,
        list,
        int,
        float,
        _TensorPlaceholder,
        DictConfig,
        ListConfig,
        base.ContainerMetadata,
        base.Metadata,
        nodes.AnyNode,
        nodes.BooleanNode,
        nodes.EnumNode,
        nodes.FloatNode,
        nodes.IntegerNode,
        nodes.StringNode,
        typing.Any,
        np.dtype,
        np.ndarray,
        np.dtypes.Float32DType,
        np.dtypes.Float64DType,
        np.dtypes.Int64DType,
        np._core.multiarray.scalar,  # type: ignore[attr-defined]
        np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ]
    torch.serialization.add_safe_globals(allowed)
