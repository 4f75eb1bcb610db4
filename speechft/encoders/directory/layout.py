"""The encoder directory: Hugging Face's layout, plus the files that lossless export needs.

`transformers.AutoModel.from_pretrained` reads `config.json` and `model.safetensors`. `pretraining_only.safetensors` contains tensors used
only in pre-training, under fairseq's names; `source_config.json` the configuration sections of the source. `speechft_normalize` in
`config.json` says whether waveforms are normalized; `preprocessor_config.json` repeats it for users of transformers.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from speechft.conventions import SAMPLE_RATE
from speechft.encoders.directory.model_card import write_model_card
from speechft.encoders.directory.provenance import PROVENANCE, read_provenance, read_side_file
from speechft.encoders.families import FAMILIES, build_config, check_supported, get_family, without_remote_code
from speechft.encoders.filterbank import SHIFT, WINDOW
from speechft.encoders.grouped_convolutions import keep_grouped_convolutions_exact
from speechft.errors import CheckpointError, first_of, missing_file
from speechft.files.atomic import atomic_directory
from speechft.files.hashes import sha256_file
from speechft.files.outputs import check_folder
from speechft.files.structured import write_json

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PRETRAINING_ONLY = "pretraining_only.safetensors"
SOURCE_CONFIG = "source_config.json"
PREPROCESSOR = "preprocessor_config.json"
HEAD = "head.safetensors"
"""File with the head at the same update as the encoder (joint tasks: `head_TASK`). Evaluations train a new head."""
_SEALED = (WEIGHTS, PRETRAINING_ONLY, HEAD)
"""Files whose hashes `provenance.json` records."""
TRAINING_LOG = "training.csv"
FILES = (CONFIG, WEIGHTS, PRETRAINING_ONLY, SOURCE_CONFIG, PROVENANCE, PREPROCESSOR, "README.md")
_REMEDY = "Import or build the encoder again."


def write_encoder(
    out_dir: str | Path,
    *,
    provenance: Mapping[str, Any],
    backbone: Any = None,
    tensors: Mapping[str, Tensor] | None = None,
    config: Any = None,
    like: str | Path | None = None,
    pretraining_only: Mapping[str, Tensor] | None = None,
    source_config: Mapping[str, Any] | None = None,
    where: str | None = None,
) -> None:
    """Write an encoder directory, completely or not at all.

    The weights (and their configuration) are `backbone`, or `tensors` under transformers' names with `config`. With `like`, an encoder
    directory of the same architecture, its configuration, pre-training-only tensors and source configuration are copied, and the names and
    shapes of the weights must match. `provenance` comes from `make_provenance`; an older directory of the same kind is replaced. `where`
    names the weights in errors; default: `out_dir`.

    Raises:
        CheckpointError: weights are missing, not finite, or do not have the names and shapes of the configuration.
    """
    if backbone is not None:
        tensors, config = backbone.state_dict(), backbone.config
    made_by = str(provenance.get("kind", "encoder"))
    check_folder(out_dir, made_by)
    where = where or str(out_dir)
    weights = {name: _single(_own_memory(tensor)) for name, tensor in (tensors or {}).items()}
    if like is not None:
        config, pretraining_only, source_config = read_config(Path(like)), read_pretraining_only(like), read_source_config(like)
    _check_fit(config, weights, where)
    extras = {name: _own_memory(tensor) for name, tensor in (pretraining_only or {}).items()}
    _check_finite({**weights, **extras}, where)
    with atomic_directory(out_dir, made_by) as temporary:
        save_file(weights, temporary / WEIGHTS, metadata={"format": "pt"})
        save_file(extras, temporary / PRETRAINING_ONLY, metadata={"format": "pt"})
        write_json(temporary / CONFIG, _plain_config(config))
        write_json(temporary / PREPROCESSOR, preprocessor(config))
        write_json(temporary / SOURCE_CONFIG, dict(source_config or {}))
        seal_encoder(temporary, provenance, name=Path(out_dir).name)


def _own_memory(tensor: Tensor) -> Tensor:
    """Copy `tensor` to CPU memory that it shares with no other tensor, as safetensors requires."""
    tensor = tensor.detach().cpu().contiguous()
    is_view = tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()
    return tensor.clone() if is_view else tensor


def _single(tensor: Tensor) -> Tensor:
    """Convert to float32; the counters of batch normalization stay integers."""
    return tensor.float() if tensor.is_floating_point() else tensor


def seal_encoder(model_dir: str | Path, provenance: Mapping[str, Any], name: str | None = None) -> None:
    """Write `provenance.json` (with the hashes of the weight files) and the model card."""
    model_dir = Path(model_dir)
    outputs = {file: sha256_file(model_dir / file) for file in _SEALED if (model_dir / file).exists()}
    complete = {**provenance, "outputs": outputs}
    write_json(model_dir / PROVENANCE, complete)
    write_model_card(model_dir, complete, name=name)


def copy_configuration(source_dir: str | Path, out_dir: str | Path) -> None:
    """Copy the JSON files of an encoder directory, without keys that make transformers load code."""
    for file in (CONFIG, PREPROCESSOR, SOURCE_CONFIG):
        if (Path(source_dir) / file).exists():
            write_json(Path(out_dir) / file, without_remote_code(read_side_file(Path(source_dir) / file)))


def load_backbone(model_dir: str | Path) -> Any:
    """Load the transformers model of an encoder directory, float32, on the CPU.

    Raises:
        CheckpointError: a file is missing or differs from `provenance.json`, or weights are not finite or do not fit the configuration.
    """
    model_dir = Path(model_dir)
    config = read_config(model_dir)
    check_supported(config.to_dict(), model_dir / CONFIG)
    tensors = read_tensors(model_dir / WEIGHTS)
    check_recorded_hashes(model_dir)
    _check_fit(config, tensors, str(model_dir / WEIGHTS))
    _check_finite(tensors, str(model_dir / WEIGHTS))
    backbone = empty_backbone(config)
    backbone.load_state_dict({name: _single(tensor) for name, tensor in tensors.items()}, strict=True, assign=True)
    fill_positions(backbone)
    return backbone


def fill_positions(backbone: Any) -> None:
    """Recompute the positions of a conformer, which are not stored and grow with the longest utterance."""
    positions = getattr(getattr(backbone, "encoder", None), "embed_positions", None)
    if positions is not None and not any(True for _ in positions.parameters()):
        config = copy.copy(backbone.config)
        config.max_source_positions = 1
        backbone.encoder.embed_positions = type(positions)(config)


def empty_backbone(config: Any) -> Any:
    """Build the model of `config` on the meta device: names and shapes of tensors without memory."""
    family = get_family(config.model_type)
    if getattr(family.model_type, "_supports_sdpa", False):
        config._attn_implementation = "sdpa"
    # Initialization draws random numbers even on the meta device; loading a model must not change the caller's.
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        backbone = family.model_type(config)
    keep_grouped_convolutions_exact(backbone)
    return backbone


def read_config(model_dir: Path) -> Any:
    """Read the transformers configuration of an encoder directory, or of any transformers directory of a known family."""
    values = read_config_values(model_dir)
    try:
        return build_config(values["model_type"], {key: value for key, value in values.items() if key != "model_type"})
    except CheckpointError as error:
        raise CheckpointError(f"{model_dir / CONFIG}: {error}") from error


def read_config_values(model_dir: Path) -> dict[str, Any]:
    """Read `config.json` without the keys that name code; raise CheckpointError if it is missing or names no known family."""
    path = model_dir / CONFIG
    if not path.is_file():
        raise CheckpointError(missing_file(path, "to load an encoder", "Name an encoder directory, or import the checkpoint first."))
    values = read_side_file(path)
    family = values.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise CheckpointError(f"{path}: model_type {family!r} is not an encoder family. Families: {', '.join(FAMILIES)}.")
    return without_remote_code(values)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file; raise CheckpointError if it is missing, truncated or of another format."""
    if not Path(path).is_file():
        raise CheckpointError(missing_file(path, "to load weights", "Name an encoder directory, or import the checkpoint first."))
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or not a safetensors file ({error}). {_REMEDY}") from error


def read_pretraining_only(model_dir: str | Path) -> dict[str, Tensor]:
    """Read the pre-training-only tensors of an encoder directory, under their source names; empty if there are none."""
    path = Path(model_dir) / PRETRAINING_ONLY
    return read_tensors(path) if path.exists() else {}


class _Dictionary(BaseModel, extra="allow"):
    symbols: list[str]
    count: list[int] | None = None


class _Sections(BaseModel, extra="allow"):
    cfg: dict[str, Any] | None = None


class _SourceConfig(BaseModel, extra="allow"):
    """Schema of `source_config.json`."""

    model_cfg: dict[str, Any] | None = None
    task_cfg: dict[str, Any] | None = None
    sections: _Sections | None = None
    dictionaries: list[_Dictionary] | None = None


def read_source_config(model_dir: str | Path) -> dict[str, Any]:
    """Read and check the configuration sections of the source; empty if the directory has none."""
    path = Path(model_dir) / SOURCE_CONFIG
    values = read_side_file(path) if path.exists() else {}
    try:
        checked = _SourceConfig.model_validate(values, strict=True)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise CheckpointError(f"{path}: {place}: {error.errors()[0]['msg']}. {_REMEDY}") from None
    for dictionary in checked.dictionaries or []:
        if dictionary.count and len(dictionary.count) != len(dictionary.symbols):
            raise CheckpointError(f"{path}: a dictionary does not have one count per symbol. {_REMEDY}")
    return values


def _check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse NaN and Inf, and name the first tensor that contains one."""
    for name, tensor in tensors.items():
        # A finite sum implies finite values; a sum can also overflow, hence the second test.
        if tensor.is_floating_point() and not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{where}: tensor {name} contains NaN or Inf. The file is damaged or its training diverged.")


def _check_fit(config: Any, tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights whose names or shapes differ from those of a model of `config`, and list up to five differences."""
    try:
        expected = empty_backbone(config).state_dict()
    except Exception as error:  # transformers raises many types for impossible values
        raise CheckpointError(f"{where}: no model can be built from its configuration ({error}). {_REMEDY}") from error
    problems = [f"{name} is missing" for name in sorted(expected.keys() - tensors.keys())]
    problems += [f"{name} is unexpected" for name in sorted(tensors.keys() - expected.keys())]
    problems += [
        f"{name} has shape {list(tensors[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if problems:
        raise CheckpointError(f"{where}: weights and configuration differ: {first_of(problems, 5, '; ')}.")


def check_recorded_hashes(model_dir: Path) -> None:
    """Raise CheckpointError for weights whose hashes differ from `provenance.json`; foreign directories without one are accepted."""
    path = model_dir / PROVENANCE
    recorded = (read_provenance(model_dir) or {}).get("outputs", {})
    if not set(recorded) <= {*_SEALED}:
        raise CheckpointError(f"{path}: its outputs are not hashes of an encoder's files. {_REMEDY}")
    for file, expected in recorded.items():
        if not (model_dir / file).is_file():
            raise CheckpointError(missing_file(model_dir / file, "as its provenance says", _REMEDY))
        if sha256_file(model_dir / file) != expected:
            raise CheckpointError(
                f"{model_dir / file}: its SHA-256 differs from {PROVENANCE}: damaged or replaced. {_REMEDY} If you replaced the weights "
                f"on purpose, remove {PROVENANCE} and import the directory."
            )


def _plain_config(config: Any) -> dict[str, Any]:
    values: dict[str, Any] = without_remote_code(json.loads(config.to_json_string(use_diff=True)))
    values.pop("dtype", None)
    family = get_family(config.model_type)
    values |= {"architectures": [family.holder or family.model_class], "dtype": "float32"}
    return dict(sorted(values.items()))


def preprocessor(config: Any) -> dict[str, Any]:
    """Return the configuration of transformers' feature extractor for this encoder."""
    common = {"sampling_rate": SAMPLE_RATE, "padding_side": "right", "padding_value": 0.0}
    if config.model_type == "wav2vec2-bert":
        bins = config.feature_projection_input_dim // 2
        own = {"feature_size": bins, "num_mel_bins": bins, "stride": 2, "return_attention_mask": True}
        return {"feature_extractor_type": "SeamlessM4TFeatureExtractor", **common, **own}
    if config.model_type == "whisper":
        seconds = config.max_source_positions * 2 * SHIFT // SAMPLE_RATE
        own = {"feature_size": config.num_mel_bins, "hop_length": SHIFT, "n_fft": WINDOW, "chunk_length": seconds}
        return {"feature_extractor_type": "WhisperFeatureExtractor", **common, **own, "return_attention_mask": False}
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        **common,
        "do_normalize": bool(getattr(config, "speechft_normalize", False)),
        "return_attention_mask": getattr(config, "feat_extract_norm", "layer") == "layer",
    }
