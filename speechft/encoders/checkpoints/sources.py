"""Read checkpoint files of every layout into one common form."""

from __future__ import annotations

import ast
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from speechft.encoders.checkpoints.inference import infer_model_cfg
from speechft.encoders.checkpoints.names import NameMap
from speechft.encoders.checkpoints.transformers_directory import split_head, tell_head
from speechft.encoders.checkpoints.unpickling import attributes, is_state_dict, load_pickle, plain
from speechft.encoders.directory.layout import read_tensors
from speechft.encoders.families import FILE_FAMILIES, get_family
from speechft.errors import CheckpointError

logger = logging.getLogger(__name__)
FORMATS = ("fairseq", "s3prl", "s3prl_run", "wavlm", "decoar2", "state_dict", "transformers")
_WITHOUT_CONFIGURATION = ("s3prl_run", "decoar2", "state_dict", "transformers")
# fairseq models that contain an encoder of a family; those with another name than the family have a head.
_ARCHITECTURES = {
    **dict.fromkeys(("hubert", "hubert_ctc", "hubert_seq2seq"), "hubert"),
    **dict.fromkeys(("wav2vec2", "wav2vec_ctc", "wav2vec_seq2seq", "wav2vec2_ctc"), "wav2vec2"),
}
_INSIDE = "w2v_model."
"""Prefix of the encoder's tensors in fairseq models with a head, after the name of the part that contains it."""
_PREFIXES = ("module.", "model.")
"""Prefixes that DistributedDataParallel and s3prl's expert add to all tensor names."""
# Task settings among the flat arguments of old fairseq checkpoints.
_TASK_KEYS = ("normalize", "sample_rate", "enable_padding", "max_sample_size", "min_sample_size", "label_rate", "random_crop", "pad_audio")


@dataclass
class Source:
    """A checkpoint in fairseq's terms: tensors under fairseq's names, and its `model_cfg` and `task_cfg` (s3prl's names).

    `sections`: the whole `cfg` or `args` of a fairseq file. `dictionaries`: symbols (and counts) of the pre-training labels.
    """

    family: str
    format: str
    tensors: dict[str, Tensor]
    model_cfg: dict[str, Any] = field(default_factory=dict)
    task_cfg: dict[str, Any] = field(default_factory=dict)
    dictionaries: list[dict[str, Any]] = field(default_factory=list)
    sections: dict[str, Any] = field(default_factory=dict)

    @property
    def normalize(self) -> bool:
        """Whether waveforms are normalized."""
        return bool(self.waveform_settings.get("normalize"))

    @property
    def waveform_settings(self) -> dict[str, Any]:
        """The configuration section with the setting `normalize`."""
        return self.model_cfg if self.family in ("wavlm", "decoar2") else self.task_cfg

    def to_json(self) -> dict[str, Any]:
        """Return everything except the tensors, as stored in `source_config.json`."""
        return {"schema": 1, **{key: value for key, value in vars(self).items() if key != "tensors"}}


def read_source(
    path: Path, family: str | None, format: str | None, config: Mapping[str, Any] | None, default: Mapping[str, Any] | None = None
) -> Source:
    """Read a checkpoint file of any layout.

    `family` and `format` are checked against the content; `family` decides if the content does not. `config` has keys of the layout's own
    model configuration (and `normalize`) that the file does not contain. `default` is the whole configuration for a layout without one;
    if it is not given, sizes are inferred from shapes and published models.

    Raises:
        CheckpointError: unreadable or unknown layout, a family or format other than the given one, or a `config` that contradicts the file.
    """
    content = read_tensors(path) if path.suffix == ".safetensors" else load_pickle(path)
    detected = detect_format(content)
    if detected is None:
        keys = ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise CheckpointError(f"{path}: not an encoder checkpoint of a known layout; it contains {keys}. Layouts: {', '.join(FORMATS)}.")
    if format is not None and format != detected:
        raise CheckpointError(f"{path}: the format is {detected}, not {format}. Leave `format` out or correct it.")
    if detected == "transformers" and default is None:
        raise CheckpointError(
            f"{path}: transformers weights without a configuration. Import the directory with its config.json, or name the model that it "
            "was fine-tuned from with --base."
        )
    source = _read(detected, content, path)
    source.family = _settle_family(source, family, path)
    _complete(source, dict(config or {}), default or {}, path)
    return source


def detect_format(content: Any) -> str | None:
    """Return the layout of a loaded checkpoint; None if unknown."""
    if not isinstance(content, Mapping):
        return None
    if is_state_dict(content.get("model_weight")):
        return "s3prl"
    if "Upstream" in content or "Downstream" in content:
        return "s3prl_run"
    if is_state_dict(content.get("model")):
        cfg = attributes(content.get("cfg"))
        if "encoder_layers" in cfg:
            return "wavlm"
        if cfg.get("model") is not None or content.get("args") is not None:
            return "fairseq"
        return "decoar2" if "cfg" not in content else None
    if not is_state_dict(content):
        return None
    if any(".self_attn.k_proj." in name for name in content):
        return "state_dict"
    return "transformers" if any(".attention.k_proj." in name for name in content) else None


def detect_family(names: list[str], model_cfg: Mapping[str, Any]) -> str | None:
    """Detect the family from fairseq tensor names, else from the keys of the configuration."""
    if any(".grep_a" in name for name in names):
        return "wavlm"
    if not any(name.startswith("feature_extractor.") for name in names):
        return "decoar2" if "post_extract_proj.weight" in names else None
    named = _ARCHITECTURES.get(_architecture(model_cfg))
    if any(name.startswith(("quantizer.", "project_q.")) for name in names) or named == "wav2vec2" or "num_negatives" in model_cfg:
        return "wav2vec2"
    if "label_embs_concat" in names or named == "hubert" or "untie_final_proj" in model_cfg:
        return "hubert"
    return None


def _architecture(model_cfg: Mapping[str, Any]) -> str:
    return str(model_cfg.get("_name") or model_cfg.get("arch") or "")


def encoder_inside(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the encoder's tensors in a fairseq model under their own names, and the names of the head's tensors."""
    first = next((name for name in tensors if _INSIDE in name), None)
    if first is None:
        return dict(tensors), []
    prefix = first[: first.index(_INSIDE) + len(_INSIDE)]
    encoder = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return encoder, [name for name in tensors if not name.startswith(prefix)]


def _settle_family(source: Source, given: str | None, path: Path) -> str:
    family = source.family or detect_family(list(source.tensors), source.model_cfg)
    if given is not None and not get_family(given).learned:
        raise CheckpointError(
            f"{path}: there are no {given} checkpoints, since {given} has no weights. Create the encoder with `speechft fbank`."
        )
    if given is not None and get_family(given).directory_only:
        raise CheckpointError(
            f"{path}: {given} encoders are imported from transformers directories (config.json and weights). Name the directory."
        )
    if family is None and given is None:
        raise CheckpointError(f"{path}: its family cannot be detected. Give family=, one of {', '.join(FILE_FAMILIES)}.")
    if family is not None and given is not None and family != given:
        raise CheckpointError(f"{path}: contains a {family} model, not {given}. Leave `family` out or correct it.")
    return str(family or given)


def _complete(source: Source, given: dict[str, Any], default: Mapping[str, Any], path: Path) -> None:
    """Add `given` to a configuration; if the layout has none, also `default` and what shapes imply."""
    carried = {**source.task_cfg, **source.model_cfg}
    carries_none = not source.model_cfg or source.format in _WITHOUT_CONFIGURATION
    for key, value in given.items():
        if carried.get(key, value) != value:
            raise CheckpointError(
                f"{path}: config says {key}={value!r}, but the checkpoint says {carried[key]!r}. Remove {key} from config."
            )
    if carries_none:
        given = {**{key: value for key, value in default.items() if key not in carried}, **given}
    section = source.waveform_settings
    if "normalize" in given:
        section["normalize"] = given.pop("normalize")
    if carries_none:
        inferred = infer_model_cfg(source.family, source.tensors, given)
        section.setdefault("normalize", inferred.pop("normalize"))
        source.model_cfg = {**inferred, **source.model_cfg}
        shown = {key: source.model_cfg[key] for key in ("encoder_attention_heads", "layer_norm_first")}
        logger.warning("%s has no configuration; inferred from shapes and published models: %s, %s", path.name, shown, section)
    source.model_cfg.update(given)


def _read(format: str, content: Mapping[str, Any], path: Path) -> Source:
    if format == "fairseq":
        return _read_fairseq(content, path)
    if format == "s3prl":
        dictionaries = [{"symbols": [str(symbol) for symbol in symbols]} for symbols in content.get("dictionaries_symbols") or []]
        model_cfg, task_cfg = (plain(attributes(content.get(key))) for key in ("model_cfg", "task_cfg"))
        return Source("", format, dict(content["model_weight"]), model_cfg, task_cfg, dictionaries)
    if format == "wavlm":
        return Source("", format, dict(content["model"]), plain(attributes(content["cfg"])))
    if format == "decoar2":
        return Source("", format, dict(content["model"]))
    if format == "s3prl_run":
        if not is_state_dict(content.get("Upstream")):
            raise CheckpointError(
                f"{path}: has no weights of an upstream, which was frozen and not fine-tuned. Import the upstream's own checkpoint."
            )
        tensors = _fairseq_names(content["Upstream"], path)
        upstream = str(attributes(content.get("Args")).get("upstream", "")).removeprefix("hf_")
        family = next((name for name in FILE_FAMILIES if upstream.startswith(name)), "")
        return Source(detect_family(list(tensors), {}) or family, format, tensors)
    return Source("", format, _fairseq_names(content, path))


def _fairseq_names(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the tensors under fairseq's names, without wrappers' prefixes and head; unknown names are kept and refused later."""
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    if not any(".attention.k_proj." in name for name in tensors):
        return dict(tensors)
    encoder, head = split_head(tensors)
    tell_head(head, str(path))
    mode = "layer" if "feature_extractor.conv_layers.1.layer_norm.weight" in encoder else "group"
    names = NameMap("wavlm", mode)  # WavLM's names include those of all families
    return {names.to_fairseq(name) or name: tensor for name, tensor in encoder.items()}


def _read_fairseq(content: Mapping[str, Any], path: Path) -> Source:
    cfg, args = plain(content.get("cfg")), plain(content.get("args"))
    outer = cfg if isinstance(cfg, dict) and cfg.get("model") else args
    model_cfg, task_cfg, sections = _sections(outer, path)
    architecture = _architecture(model_cfg)
    if architecture and architecture not in _ARCHITECTURES:
        supported = ", ".join(_ARCHITECTURES)
        raise CheckpointError(f"{path}: fairseq model {architecture!r} contains no supported encoder. Supported: {supported}.")
    tensors, head = encoder_inside(content["model"])
    tell_head(head, str(path))
    family = _ARCHITECTURES.get(architecture, "")
    if head:
        # The encoder's configuration is nested in that of the model; very old files do not have it.
        inside = model_cfg.get("w2v_args")
        normalize = {key: section[key] for section in (model_cfg, task_cfg) for key in ("normalize",) if key in section}
        model_cfg, task_cfg, sections = _sections(inside, path) if inside else ({}, {}, {})
        task_cfg = {**normalize, **task_cfg}
    if isinstance(model_cfg.get("latent_temp"), str):
        model_cfg = {**model_cfg, "latent_temp": _temperatures(model_cfg["latent_temp"], path)}
    task_state = attributes(content.get("task_state"))
    dictionaries = [] if head else [_dictionary(attributes(item)) for item in task_state.get("dictionaries") or []]
    return Source(family, "fairseq", tensors, model_cfg, task_cfg, dictionaries, sections)


def _sections(outer: Any, path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return model section, task section and the whole of a fairseq configuration, in sections (`cfg`) or, before 2021, flat (`args`)."""
    if isinstance(outer, dict) and outer.get("model"):
        model_cfg, task_cfg, sections = outer["model"], outer.get("task") or {}, {"cfg": outer}
    else:
        model_cfg, sections = outer or {}, {"args": outer}
        task_cfg = {key: model_cfg[key] for key in _TASK_KEYS if key in model_cfg}
    if not isinstance(model_cfg, dict) or not isinstance(task_cfg, dict):
        raise CheckpointError(f"{path}: its fairseq configuration cannot be read. Convert the checkpoint with a current fairseq first.")
    return dict(model_cfg), dict(task_cfg), sections


def _temperatures(text: str, path: Path) -> list[float]:
    """Parse the temperatures of a quantizer, which old files store as text."""
    try:
        values = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        values = None
    if not isinstance(values, list | tuple) or not all(isinstance(value, int | float) for value in values):
        raise CheckpointError(f"{path}: latent_temp={text[:80]!r} is not a list of numbers. The configuration is damaged.")
    return list(values)


def _dictionary(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the symbols and counts of fairseq's Dictionary."""
    counts = {"count": [int(count) for count in state["count"]]} if "count" in state else {}
    return {"symbols": [str(symbol) for symbol in state.get("symbols", [])], **counts}
