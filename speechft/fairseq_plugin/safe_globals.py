"""Classes in fairseq's own checkpoints, for torch.load(weights_only=True)."""

from __future__ import annotations

import argparse
import collections
import typing

import numpy as np
import torch


def allow_fairseq_checkpoints() -> None:
    """Add the plain containers pickled by fairseq's trainer to torch's allowlist; none of them can run code."""
    from fairseq.data.dictionary import Dictionary
    from fairseq.distributed.utils import _TensorPlaceholder
    from omegaconf import DictConfig, ListConfig, base, nodes

    plain = [argparse.Namespace, collections.OrderedDict, collections.defaultdict, dict, list, int, float, typing.Any]
    fairseq = [Dictionary, _TensorPlaceholder]
    values = [nodes.AnyNode, nodes.BooleanNode, nodes.EnumNode, nodes.FloatNode, nodes.IntegerNode, nodes.StringNode]
    omegaconf = [DictConfig, ListConfig, base.ContainerMetadata, base.Metadata, *values]
    numpy = [np.dtype, np.ndarray, np.dtypes.Float32DType, np.dtypes.Float64DType, np.dtypes.Int64DType]
    multiarray = np._core.multiarray  # type: ignore[attr-defined]
    torch.serialization.add_safe_globals([*plain, *fairseq, *omegaconf, *numpy, multiarray.scalar, multiarray._reconstruct])
