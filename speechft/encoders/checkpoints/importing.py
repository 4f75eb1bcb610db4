"""Import published and fine-tuned checkpoints into encoder directories."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor

from speechft.downloads.hub import local_path
from speechft.encoders.checkpoints.adapter_directory import import_adapter
from speechft.encoders.checkpoints.names import NameMap, as_float32
from speechft.encoders.checkpoints.on_the_fly import encoder_directory
from speechft.encoders.checkpoints.sources import FORMATS, Source, read_source
from speechft.encoders.checkpoints.transformers_directory import import_directory, stored_in_half
from speechft.encoders.checkpoints.weight_files import described_directory, is_adapter
from speechft.encoders.directory.layout import read_config, write_encoder
from speechft.encoders.directory.provenance import make_provenance
from speechft.encoders.families import check_learned, fairseq_config, get_family, transformers_config
from speechft.errors import CheckpointError, first_of, unknown_name
from speechft.files.outputs import check_folder

logger = logging.getLogger(__name__)


def import_checkpoint(
    source: str | Path,
    out_dir: str | Path,
    family: str | None = None,
    format: str | None = None,
    config: Mapping[str, Any] | None = None,
    like: str | Path | None = None,
) -> None:
    """Import a checkpoint as an encoder directory, completely or not at all, without running code from the file.

    Args:
        source: fairseq `.pt` (`args` or `cfg` style), s3prl's converted layout, an s3prl run checkpoint, WavLM's or DeCoAR 2.0's `.pt`, a
            bare state dict with their names (`.pt` or `.safetensors`), a transformers directory or a weight file in it, a LoRA or DoRA
            adapter (peft), or `org/name[@revision]` on the Hugging Face Hub (configuration and weights are downloaded, never code).
            Heads are left out.
        out_dir: the encoder directory; an older one of `import_checkpoint` is replaced.
        family: one of speechft.encoders.families.LEARNED_FAMILIES; default: detected. Checked against the content.
        format: one of speechft.encoders.checkpoints.sources.FORMATS; default: detected. Checked against the content.
        config: keys of the layout's own model configuration, and `normalize`, that the file does not contain.
        like: the model that `source` was fine-tuned from, as an encoder directory or transformers directory. Layouts without a
            configuration use its configuration, and adapters are merged into it.

    Raises:
        CheckpointError: unreadable, unsafe or damaged file, a family or format other than the given one, or tensors that are missing,
            unknown, not finite or of a wrong shape.
        DownloadError: the repository does not exist or cannot be reached.
    """
    path = local_path(source)
    if format is not None and format not in FORMATS:
        raise CheckpointError(unknown_name("format", format, FORMATS))
    path = described_directory(path)
    check_folder(out_dir, "import", [path, like])
    with encoder_directory(like) if like else nullcontext() as base:
        if is_adapter(path):
            if format is not None or config:
                raise CheckpointError(f"{path}: a peft adapter. Leave `format` and `config` out.")
            import_adapter(path, out_dir, base, family)
            return
        settings = _settings(base) if base else None
        family = family or (str(read_config(base).model_type) if base else None)
    if path.is_dir():
        import_directory(path, out_dir, family, format, config, settings)
        return
    checkpoint = read_source(path, family, format, config, settings)
    backbone, pretraining_only = split_tensors(checkpoint, str(path))
    backbone_config = transformers_config(
        checkpoint.family, checkpoint.model_cfg, normalize=checkpoint.normalize, mask_embedding="masked_spec_embed" in backbone
    )
    counts = (len(backbone), len(pretraining_only))
    told = "%s: %s checkpoint of a %s model, %d tensors: %d of the encoder, %d for pre-training only"
    logger.info(told, path.name, checkpoint.format, checkpoint.family, sum(counts), *counts)
    given = {"config": dict(config)} if config else {}
    recipe = {"family": checkpoint.family, "format": checkpoint.format, **given, **stored_in_half(checkpoint.tensors)}
    write_encoder(
        out_dir,
        tensors=backbone,
        config=backbone_config,
        pretraining_only=pretraining_only,
        source_config=checkpoint.to_json(),
        provenance=make_provenance("import", {"checkpoint": path}, recipe),
        where=str(path),
    )


def _settings(model_dir: Path) -> dict[str, Any]:
    """Return the configuration of an encoder directory under fairseq's keys, including `normalize`."""
    config = read_config(model_dir)
    check_learned(config.model_type, model_dir, "start from")
    sizes = {} if get_family(config.model_type).directory_only else fairseq_config(config)
    return {**sizes, "normalize": bool(getattr(config, "speechft_normalize", False))}


def split_tensors(checkpoint: Source, where: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the backbone's tensors under transformers' names (float32) and pre-training-only tensors under their own names."""
    family = get_family(checkpoint.family)
    mode = checkpoint.model_cfg.get("extractor_mode")
    names = NameMap(family.name, None if family.name == "decoar2" else "layer" if mode == "layer_norm" else "group")
    backbone: dict[str, Tensor] = {}
    pretraining_only: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in checkpoint.tensors.items():
        target = names.to_transformers(name)
        if target is not None:
            backbone[target] = as_float32(tensor, name, where)
        elif name.startswith(family.pretraining_only):
            pretraining_only[name] = tensor
        else:
            unknown.append(name)
    if unknown:
        what = f"tensors that no {family.name} encoder has: {first_of(unknown, 5)}"
        raise CheckpointError(f"{where}: {what}. Is it a different kind of model, or fine-tuned?")
    return backbone, pretraining_only
