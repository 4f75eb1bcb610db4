"""Import transformers directories: bare encoders, models for pre-training or with a head, and our own encoder directories."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from speechft.downloads.hub import repository_of
from speechft.encoders.checkpoints.names import HALF_PRECISION, as_float32
from speechft.encoders.checkpoints.weight_files import read_model_weights
from speechft.encoders.directory.layout import (
    CONFIG,
    PREPROCESSOR,
    check_recorded_hashes,
    preprocessor,
    read_config,
    read_pretraining_only,
    read_source_config,
    write_encoder,
)
from speechft.encoders.directory.provenance import make_provenance
from speechft.encoders.families import DEFAULT_MASK_PROB, FILE_FAMILIES, check_learned, check_supported, get_family
from speechft.errors import CheckpointError, SpeechFTError, first_of
from speechft.files.structured import read_json

logger = logging.getLogger(__name__)
# Older files use other names for the two parts of a weight-normalized convolution.
OLD_NAMES = {".conv.weight_g": ".conv.parametrizations.weight.original0", ".conv.weight_v": ".conv.parametrizations.weight.original1"}
COUNTER = ".num_batches_tracked"
"""Suffix of batch normalization's counters, integers that do not affect the output."""
# Pre-training-only tensors: transformers' prefix -> fairseq's, under which they are stored.
_PRETRAINING = {"project_hid.": "final_proj.", "project_q.": "project_q.", "quantizer.weight_proj.": "quantizer.weight_proj."}


def import_directory(
    path: Path,
    out_dir: str | Path,
    family: str | None,
    format: str | None,
    config: Mapping[str, Any] | None,
    like: Mapping[str, Any] | None = None,
) -> None:
    """Import a transformers directory; see `import_checkpoint`.

    The head of a model (ForCTC, ForSequenceClassification, ...) is left out.
    Whether waveforms are normalized comes from the first of: `speechft_normalize`; `config={"normalize": ...}`; `do_normalize: false` of an
    extractor with LayerNorm; `like`; the architecture, which means yes if and only if the extractor has LayerNorm, as the encoders were
    trained. `do_normalize: true` is ignored: it is the default of transformers' feature extractor, present even in published base models
    that were trained without normalization. Waveforms for log-mel encoders are never normalized; a feature extractor whose energies differ
    from ours is refused.
    """
    if format not in (None, "transformers"):
        raise CheckpointError(f"{path}: a directory has the format transformers, not {format}. Leave `format` out.")
    backbone_config = read_config(path)
    check_learned(backbone_config.model_type, path, "import")
    if family is not None and family != backbone_config.model_type:
        raise CheckpointError(f"{path}: contains a {backbone_config.model_type} model, not {family}. Leave `family` out or correct it.")
    family = str(backbone_config.model_type)
    check_supported(backbone_config.to_dict(), path / CONFIG)
    check_recorded_hashes(path)
    options = dict(config or {})
    if get_family(family).mel:
        _check_energies(path, backbone_config)
        normalize = False
    else:
        normalize = _normalize(path, backbone_config, options.pop("normalize", None), (like or {}).get("normalize"))
    if options:
        raise CheckpointError(f"{path}: config has keys that are already in a transformers directory: {', '.join(options)}. Remove them.")
    files, tensors = read_model_weights(path)
    backbone, pretraining_only = _split(tensors, family, str(path))
    layerdrop = {"layerdrop": 0.0} if hasattr(backbone_config, "layerdrop") else {}
    backbone_config.update({"speechft_normalize": normalize, **layerdrop, **_masking(backbone_config, "masked_spec_embed" in backbone)})
    pretraining_only = {**pretraining_only, **read_pretraining_only(path)}
    counts = (len(backbone), len(pretraining_only))
    logger.info("%s: transformers directory of a %s model: %d tensors of the encoder, %d for pre-training only", path.name, family, *counts)
    recipe = {
        "family": family,
        "format": "transformers",
        **({"config": dict(config)} if config else {}),
        **stored_in_half(tensors),
        **({"repository": repository} if (repository := repository_of(path)) else {}),
    }
    write_encoder(
        out_dir,
        tensors=backbone,
        config=backbone_config,
        pretraining_only=pretraining_only,
        source_config=read_source_config(path),
        provenance=make_provenance("import", {file.name: file for file in files}, recipe),
        where=str(path),
    )


def stored_in_half(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the source's dtype for the import's recipe if all tensors have the same half precision; import widens them to float32."""
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    half = next((name for name, dtype in HALF_PRECISION.items() if dtypes == {dtype}), None)
    return {"dtype": half} if half else {}


def _masking(config: Any, has_embedding: bool) -> dict[str, Any]:
    """Return settings without masking, but with probabilities that make transformers create the mask embedding if the checkpoint has it."""
    if not hasattr(config, "mask_time_prob"):
        return {}
    if not has_embedding:
        return {"apply_spec_augment": False, "mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    created = max(config.mask_time_prob, config.mask_feature_prob) > 0
    return {"apply_spec_augment": False, "mask_time_prob": config.mask_time_prob if created else DEFAULT_MASK_PROB}


def _normalize(path: Path, config: Any, given: bool | None, like: bool | None) -> bool:
    recorded = getattr(config, "speechft_normalize", None)
    if recorded is not None and given is not None and bool(recorded) != bool(given):
        raise CheckpointError(f"config says normalize={given}, but the directory says {recorded}. Remove it from config.")
    if recorded is not None or given is not None:
        return bool(recorded if recorded is not None else given)
    # data2vec has no such key: its extractor always has LayerNorm.
    by_architecture = getattr(config, "feat_extract_norm", "layer" if hasattr(config, "conv_dim") else None) == "layer"
    if by_architecture and _extractor(path).get("do_normalize") is False:
        logger.info("%s: waveforms are not normalized, according to %s", path.name, PREPROCESSOR)
        return False
    return by_architecture if like is None else bool(like)


def _extractor(path: Path) -> dict[str, Any]:
    """Read the configuration of the model's feature extractor; empty if there is none."""
    if not (path / PREPROCESSOR).is_file():
        return {}
    try:
        return dict(read_json(path / PREPROCESSOR))
    except (SpeechFTError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path / PREPROCESSOR}: not a feature extractor configuration ({error}). Download it again.") from None


def _check_energies(path: Path, config: Any) -> None:
    """Refuse log-mel encoders whose feature extractor has settings that ours does not reproduce."""
    if config.model_type == "wav2vec2-bert" and config.feature_projection_input_dim % 2:
        raise CheckpointError(f"{path / CONFIG}: feature_projection_input_dim is odd; it must be two frames of log-mel energies.")
    theirs, ours = _extractor(path), preprocessor(config)
    for key in ("sampling_rate", "hop_length", "n_fft", "num_mel_bins", "feature_size", "stride"):
        if key in ours and theirs.get(key, ours[key]) != ours[key]:
            raise CheckpointError(
                f"{path / PREPROCESSOR}: {key}={theirs[key]!r} is not supported; {config.model_type} encoders need {ours[key]}."
            )
    if theirs.get("do_normalize") and config.model_type == "whisper":
        raise CheckpointError(
            f"{path / PREPROCESSOR}: do_normalize is not supported; Whisper encoders need waveforms without normalization."
        )


def _split(tensors: Mapping[str, Tensor], family: str, where: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the backbone's tensors (with unknown ones, refused later) and pre-training-only tensors under fairseq's names."""
    encoder, rest = split_head(tensors, family)
    backbone = {name: tensor if name.endswith(COUNTER) else as_float32(tensor, name, where) for name, tensor in encoder.items()}
    pretraining_only: dict[str, Tensor] = {}
    head = []
    for name, tensor in rest.items():
        kept = "quantizer.vars" if name == "quantizer.codevectors" else None
        for theirs, ours in _PRETRAINING.items():
            if name.startswith(theirs):
                kept = ours + name.removeprefix(theirs)
        if kept is None:
            head.append(name)
        else:
            pretraining_only[kept] = tensor
    tell_head(head, where)
    return backbone, pretraining_only


def split_head(tensors: Mapping[str, Tensor], family: str | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Divide tensors into those of the encoder, under the names of the bare model, and the others of a model with a head.

    Models with a head prefix the encoder's tensors with the name of its family.
    """
    prefixes = [known.prefix for known in map(get_family, [family] if family else FILE_FAMILIES)]
    prefix = next((prefix for prefix in prefixes if any(name.startswith(prefix) for name in tensors)), "")
    inside = prefix + (get_family(family).inside if family else "")
    encoder, rest = {}, {}
    for name, tensor in tensors.items():
        if not name.startswith(inside):
            rest[name] = tensor
            continue
        target = name.removeprefix(prefix)
        for old, new in OLD_NAMES.items():
            target = target.removesuffix(old) + new if target.endswith(old) else target
        encoder[target] = tensor
    return encoder, rest


def tell_head(names: Iterable[str], where: str) -> None:
    """Warn that a head is left out, if there is one."""
    if head := sorted(names):
        logger.warning("%s: the head is left out; only the encoder is imported (%s)", where, first_of(head, 4))
