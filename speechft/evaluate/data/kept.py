"""Tensors that an evaluation keeps on disk, so that it need not compute them again after it was killed."""

from __future__ import annotations

import logging
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from speechft.files.atomic import atomic_file

logger = logging.getLogger(__name__)


def read_tensor(path: Path, name: str) -> Tensor | None:
    """The tensor `name` of a file; None if there is no such file or, with a warning, if it is damaged."""
    if not path.is_file():
        return None
    try:
        return load_file(path)[name]
    except (SafetensorError, KeyError, OSError) as error:
        logger.warning("%s: damaged %s (%s), computed again", path, name, error)
        return None


def write_tensor(path: Path, name: str, value: Tensor) -> None:
    """Write what `read_tensor` reads."""
    with atomic_file(path) as temporary:
        save_file({name: value.contiguous()}, temporary)
