"""Import of transformers directories: bare encoders, models for pre-training, and our own encoder directories."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from speechft.encoders.directory import (
    CONFIG,
    WEIGHTS,
    read_config,
    read_pretraining_only,
    read_source_config,
    read_tensors,
    write_encoder,
)
from speechft.encoders.families import DEFAULT_MASK_PROB, nothing_learnt
from speechft.encoders.names import as_float32
from speechft.encoders.provenance import make_provenance
from speechft.encoders.unpickling import is_state_dict, load_pickle
from speechft.errors import CheckpointError, SpeechFTError, missing_file
from speechft.files import read_json

logger = logging.getLogger(__name__)
_INDEX = "model.safetensors.index.json"
_PICKLE = "pytorch_model.bin"
# Older files name the halves of the normalised convolution weight differently.
_OLD_NAMES = {".conv.weight_g": ".conv.parametrizations.weight.original0", ".conv.weight_v": ".conv.parametrizations.weight.original1"}
# Tensors of transformers' models for pre-training under fairseq's names, under which pre-training-only tensors are kept.
_PRETRAINING = {"project_hid.": "final_proj.", "project_q.": "project_q.", "quantizer.weight_proj.": "quantizer.weight_proj."}


def import_directory(path: Path, out_dir: str | Path, family: str | None, format: str | None, config: Mapping[str, Any] | None) -> None:
    """The part of `import_checkpoint` for directories.

    Whether waveforms are normalised is taken from `speechft_normalize`, else from `config={"normalize": ...}`, else it follows the
    architecture: yes exactly for extractors with LayerNorm, as the encoders were trained. The `do_normalize` that published base models
    carry says otherwise and is not used.
    """
    if format not in (None, "transformers"):
        raise CheckpointError(f"{path}: is a directory, so its format is transformers, not {format}. Leave `format` out.")
    backbone_config = read_config(path)
    if (refusal := nothing_learnt(backbone_config.model_type, path, "import")) is not None:
        raise CheckpointError(refusal)
    if family is not None and family != backbone_config.model_type:
        raise CheckpointError(f"{path}: holds a {backbone_config.model_type} model, not {family}. Drop `family` or name the right one.")
    family = str(backbone_config.model_type)
    if getattr(backbone_config, "add_adapter", False) or getattr(backbone_config, "conv_pos_batch_norm", False):
        raise CheckpointError(f"{path}: adapter layers and batch-normalised positional convolutions are not supported. Use another model.")
    options = dict(config or {})
    normalize = _normalize(backbone_config, options.pop("normalize", None))
    if options:
        raise CheckpointError(f"{path}: config has keys that a transformers directory carries itself: {', '.join(options)}. Drop them.")
    files, tensors = _read_weights(path)
    backbone, pretraining_only = _split(tensors, family, str(path))
    backbone_config.update(
        {"speechft_normalize": normalize, "layerdrop": 0.0, **_masking(backbone_config, "masked_spec_embed" in backbone)}
    )
    pretraining_only = {**pretraining_only, **read_pretraining_only(path)}
    counts = (len(backbone), len(pretraining_only))
    logger.info("%s: transformers directory of a %s model: %d tensors of the encoder, %d only for pre-training", path.name, family, *counts)
    recipe = {"family": family, "format": "transformers", **({"config": dict(config)} if config else {})}
    write_encoder(
        out_dir,
        tensors=backbone,
        config=backbone_config,
        pretraining_only=pretraining_only,
        source_config=read_source_config(path),
        provenance=make_provenance("import", {file.name: file for file in files}, recipe),
        where=str(path),
    )


def _masking(config: Any, has_embedding: bool) -> dict[str, Any]:
    """Masking off, with probabilities that make transformers create the mask embedding exactly if the checkpoint has one."""
    if not hasattr(config, "mask_time_prob"):
        return {}
    if not has_embedding:
        return {"apply_spec_augment": False, "mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    created = max(config.mask_time_prob, config.mask_feature_prob) > 0
    return {"apply_spec_augment": False, "mask_time_prob": config.mask_time_prob if created else DEFAULT_MASK_PROB}


def _normalize(config: Any, given: bool | None) -> bool:
    recorded = getattr(config, "speechft_normalize", None)
    if recorded is not None and given is not None and bool(recorded) != bool(given):
        raise CheckpointError(f"config says normalize={given}, the directory itself says {recorded}. Drop it from config.")
    if recorded is not None or given is not None:
        return bool(recorded if recorded is not None else given)
    return getattr(config, "feat_extract_norm", None) == "layer"


def _read_weights(path: Path) -> tuple[list[Path], dict[str, Tensor]]:
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS], read_tensors(path / WEIGHTS)
    if (path / _INDEX).is_file():
        try:
            files = [path / Path(name).name for name in sorted(set(read_json(path / _INDEX)["weight_map"].values()))]
        except (SpeechFTError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path / _INDEX}: is no index of safetensors files ({error}). Download it again.") from error
        return files, {name: tensor for file in files for name, tensor in read_tensors(file).items()}
    if (path / _PICKLE).is_file():
        content = load_pickle(path / _PICKLE)
        if not is_state_dict(content):
            raise CheckpointError(f"{path / _PICKLE}: is no state dict. Download it again.")
        return [path / _PICKLE], dict(content)
    raise CheckpointError(missing_file(path / WEIGHTS, f"beside {CONFIG}", "Name a complete transformers directory."))


def _split(tensors: Mapping[str, Tensor], family: str, where: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors of the backbone (where unknown ones stay, to be refused), and those only for pre-training under fairseq's names."""
    prefix = f"{family}."
    has_head = any(name.startswith(prefix) for name in tensors)
    backbone: dict[str, Tensor] = {}
    pretraining_only: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        kept = "quantizer.vars" if name == "quantizer.codevectors" else None
        for theirs, ours in _PRETRAINING.items():
            if name.startswith(theirs):
                kept = ours + name.removeprefix(theirs)
        if kept is not None and has_head:
            pretraining_only[kept] = tensor
            continue
        target = name.removeprefix(prefix)
        for old, new in _OLD_NAMES.items():
            target = target.removesuffix(old) + new if target.endswith(old) else target
        backbone[target] = as_float32(tensor, name, where)
    return backbone, pretraining_only
