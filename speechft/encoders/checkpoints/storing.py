"""Store encoder directories in half precision, for example to ship them with a repository."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from speechft.encoders.checkpoints.names import HALF_PRECISION
from speechft.encoders.checkpoints.on_the_fly import encoder_directory
from speechft.encoders.directory.layout import (
    PRETRAINING_ONLY,
    TRAINING_LOG,
    WEIGHTS,
    copy_configuration,
    load_backbone,
    read_config,
    read_pretraining_only,
    read_tensors,
    seal_encoder,
)
from speechft.encoders.directory.provenance import input_name, make_provenance, read_provenance
from speechft.encoders.families import check_learned
from speechft.errors import CheckpointError
from speechft.files.atomic import atomic_directory
from speechft.files.hashes import sha256_file
from speechft.files.outputs import check_folder
from speechft.recipes.modules import refuse_class

DTYPES = {**HALF_PRECISION, "fp32": torch.float32}


def store_encoder(model_dir: str | Path, out_dir: str | Path, dtype: str = "fp16") -> None:
    """Write a copy of an encoder directory with its tensors in another precision.

    Everything that reads encoder directories computes in float32, so the copy behaves as an encoder with rounded weights. Its provenance is
    that of the original, plus the original's hash.

    Args:
        model_dir: encoder directory, or transformers directory.
        out_dir: encoder directory; an older one of `store_encoder` is replaced.
        dtype: "fp16", "bf16" or "fp32".

    Raises:
        CheckpointError: unknown dtype, damaged directory, an encoder without weights, or a weight that is too large for the dtype.
    """
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype={dtype!r} is unknown. Allowed: {', '.join(DTYPES)}.")
    refuse_class(model_dir)
    check_folder(out_dir, "store", [model_dir])
    out = Path(out_dir)
    with encoder_directory(model_dir) as source:
        check_learned(read_config(source).model_type, source, "store")
        load_backbone(source)  # for its checks
        known = read_provenance(source) or make_provenance("import", {"checkpoint": source}, {})
        original = {"name": input_name(source), "sha256": sha256_file(source / WEIGHTS)}
        known["inputs"] = {**known.get("inputs", {}), "stored_copy_of": original}
        known["recipe"] = {**known.get("recipe", {}), "stored_as": dtype}
        with atomic_directory(out, "store") as temporary:
            copy_configuration(source, temporary)
            if (source / TRAINING_LOG).is_file():
                shutil.copyfile(source / TRAINING_LOG, temporary / TRAINING_LOG)
            for file, tensors in ((WEIGHTS, read_tensors(source / WEIGHTS)), (PRETRAINING_ONLY, read_pretraining_only(source))):
                stored = {name: _cast(tensor, name, dtype, source) for name, tensor in tensors.items()}
                save_file(stored, temporary / file, {"format": "pt"})
            seal_encoder(temporary, known, name=out.name)


def _cast(tensor: Tensor, name: str, dtype: str, where: Path) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    stored = tensor.to(DTYPES[dtype])
    if not torch.isfinite(stored).all():
        raise CheckpointError(f"{where}: tensor {name} has values up to {float(tensor.abs().max()):g}, too large for {dtype}. Use bf16.")
    return stored.contiguous()
