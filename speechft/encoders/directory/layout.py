"""The encoder directory: Hugging Face's layout, plus what lossless export needs.

`config.json` and `model.safetensors` are what `transformers.AutoModel.from_pretrained` reads. `pretraining_only.safetensors` holds
tensors that only pre-training uses, under fairseq's names; `source_config.json` the configuration sections of the source. Whether
waveforms are normalized is `speechft_normalize` in `config.json`; `preprocessor_config.json` repeats it for users of transformers.
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
"""The head at the same update as the encoder; of joint tasks each under `head_TASK`. Whatever is evaluated gets a new one."""
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
    """Write an encoder directory; it appears complete or not at all.

    Weights (and their configuration) are those of `backbone`, or `tensors` under transformers' names with `config`. With `like`, an encoder
    directory of the same architecture, configuration, pre-training-only tensors and source configuration are its own, and the names and
    shapes of the weights must be too. `provenance` is from `make_provenance`; an older directory of the same kind is replaced. `where` is
    what errors call the weights; default: `out_dir`.

    Raises:
        CheckpointError: weights are missing, not finite or of other names or shapes than the configuration asks for.
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
    """`tensor` on the CPU in memory that it shares with no other, as safetensors demands."""
    tensor = tensor.detach().cpu().contiguous()
    is_view = tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()
    return tensor.clone() if is_view else tensor


def _single(tensor: Tensor) -> Tensor:
    """In float32; counters, which batch normalization has, stay integers."""
    return tensor.float() if tensor.is_floating_point() else tensor


def seal_encoder(model_dir: str | Path, provenance: Mapping[str, Any], name: str | None = None) -> None:
    """Write `provenance.json`, which also records the hashes of the weight files, and the model card."""
    model_dir = Path(model_dir)
    outputs = {file: sha256_file(model_dir / file) for file in _SEALED if (model_dir / file).exists()}
    complete = {**provenance, "outputs": outputs}
    write_json(model_dir / PROVENANCE, complete)
    write_model_card(model_dir, complete, name=name)


def copy_configuration(source_dir: str | Path, out_dir: str | Path) -> None:
    """Copy the JSON files that describe an encoder, without keys that make transformers load code."""
    for file in (CONFIG, PREPROCESSOR, SOURCE_CONFIG):
        if (Path(source_dir) / file).exists():
            write_json(Path(out_dir) / file, without_remote_code(read_side_file(Path(source_dir) / file)))


def load_backbone(model_dir: str | Path) -> Any:
    """Load the transformers model of an encoder directory, float32, on the CPU.

    Raises:
        CheckpointError: a file is missing or not what `provenance.json` says, or weights are not finite or do not fit the configuration.
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
    """Make the computed positions of a conformer anew, which no file holds; they grow with the longest utterance."""
    positions = getattr(getattr(backbone, "encoder", None), "embed_positions", None)
    if positions is not None and not any(True for _ in positions.parameters()):
        config = copy.copy(backbone.config)
        config.max_source_positions = 1
        backbone.encoder.embed_positions = type(positions)(config)


def empty_backbone(config: Any) -> Any:
    """The model of `config` with its tensors on the meta device: names and shapes without memory."""
    family = get_family(config.model_type)
    if getattr(family.model_type, "_supports_sdpa", False):
        config._attn_implementation = "sdpa"
    # Initialisation draws random numbers even where there is nothing to fill; the caller's must not depend on loading a model.
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        backbone = family.model_type(config)
    keep_grouped_convolutions_exact(backbone)
    return backbone


def read_config(model_dir: Path) -> Any:
    """The transformers configuration of an encoder directory or of any transformers directory of a known family."""
    values = read_config_values(model_dir)
    try:
        return build_config(values["model_type"], {key: value for key, value in values.items() if key != "model_type"})
    except CheckpointError as error:
        raise CheckpointError(f"{model_dir / CONFIG}: {error}") from error


def read_config_values(model_dir: Path) -> dict[str, Any]:
    """`config.json` as it is, without keys that name code. It must exist and name a known family (CheckpointError)."""
    path = model_dir / CONFIG
    if not path.is_file():
        raise CheckpointError(missing_file(path, "to load an encoder", "Name an encoder directory, or import the checkpoint first."))
    values = read_side_file(path)
    family = values.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise CheckpointError(f"{path}: model_type {family!r} is no encoder family. Families: {', '.join(FAMILIES)}.")
    return without_remote_code(values)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file; one that is missing, truncated or of another format is a CheckpointError."""
    if not Path(path).is_file():
        raise CheckpointError(missing_file(path, "to load weights", "Name an encoder directory, or import the checkpoint first."))
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or not a safetensors file ({error}). {_REMEDY}") from error


def read_pretraining_only(model_dir: str | Path) -> dict[str, Tensor]:
    """Tensors that only pre-training uses, under their source names; empty when the directory has none."""
    path = Path(model_dir) / PRETRAINING_ONLY
    return read_tensors(path) if path.exists() else {}


class _Dictionary(BaseModel, extra="allow"):
    symbols: list[str]
    count: list[int] | None = None


class _Sections(BaseModel, extra="allow"):
    cfg: dict[str, Any] | None = None


class _SourceConfig(BaseModel, extra="allow"):
    """Form of `source_config.json`, as an import writes it."""

    model_cfg: dict[str, Any] | None = None
    task_cfg: dict[str, Any] | None = None
    sections: _Sections | None = None
    dictionaries: list[_Dictionary] | None = None


def read_source_config(model_dir: str | Path) -> dict[str, Any]:
    """Configuration sections of the source, checked; empty when the directory has none."""
    path = Path(model_dir) / SOURCE_CONFIG
    values = read_side_file(path) if path.exists() else {}
    try:
        checked = _SourceConfig.model_validate(values, strict=True)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise CheckpointError(f"{path}: {place}: {error.errors()[0]['msg']}. {_REMEDY}") from None
    for dictionary in checked.dictionaries or []:
        if dictionary.count and len(dictionary.count) != len(dictionary.symbols):
            raise CheckpointError(f"{path}: a dictionary has not one count for each symbol. {_REMEDY}")
    return values


def _check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse NaN and Inf, naming the first tensor that holds one."""
    for name, tensor in tensors.items():
        # The sum of a tensor is finite only if all of it is (or it overflows, which the second look settles).
        if tensor.is_floating_point() and not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{where}: tensor {name} holds NaN or Inf. The file is damaged or its training diverged.")


def _check_fit(config: Any, tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights of other names or shapes than a model of `config` has, listing up to five differences and their number."""
    try:
        expected = empty_backbone(config).state_dict()
    except Exception as error:  # what is impossible shows in its own way
        raise CheckpointError(f"{where}: its configuration describes no possible model ({error}). {_REMEDY}") from error
    problems = [f"{name} is missing" for name in sorted(expected.keys() - tensors.keys())]
    problems += [f"{name} is unexpected" for name in sorted(tensors.keys() - expected.keys())]
    problems += [
        f"{name} has shape {list(tensors[name].shape)}, the configuration asks for {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if problems:
        raise CheckpointError(f"{where}: weights and configuration differ: {first_of(problems, 5, '; ')}.")


def check_recorded_hashes(model_dir: Path) -> None:
    """Refuse (CheckpointError) weights that `provenance.json` was not written for; directories from elsewhere have none."""
    path = model_dir / PROVENANCE
    recorded = (read_provenance(model_dir) or {}).get("outputs", {})
    if not set(recorded) <= {*_SEALED}:
        raise CheckpointError(f"{path}: its outputs are no hashes of the files of an encoder. {_REMEDY}")
    for file, expected in recorded.items():
        if not (model_dir / file).is_file():
            raise CheckpointError(missing_file(model_dir / file, "as its provenance says", _REMEDY))
        if sha256_file(model_dir / file) != expected:
            raise CheckpointError(
                f"{model_dir / file}: its SHA-256 is not the one in {PROVENANCE}: damaged or replaced. {_REMEDY} If the weights were "
                f"replaced on purpose, remove {PROVENANCE} and import the directory."
            )


def _plain_config(config: Any) -> dict[str, Any]:
    values: dict[str, Any] = without_remote_code(json.loads(config.to_json_string(use_diff=True)))
    values.pop("dtype", None)
    family = get_family(config.model_type)
    values |= {"architectures": [family.holder or family.model_class], "dtype": "float32"}
    return dict(sorted(values.items()))


def preprocessor(config: Any) -> dict[str, Any]:
    """Configuration of the feature extractor with which transformers computes what the encoder takes."""
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
