"""The encoder families: transformers classes, sizes under fairseq's and transformers' keys, bounds. This module does not import torch."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from speechft.errors import CheckpointError, ConfigError, unknown_name


@dataclass(frozen=True)
class Family:
    """An encoder family.

    `pretraining_only`: prefixes of the fairseq names of tensors used only in pre-training. `learned`: whether it has weights.
    `directory_only`: imported and exported only as transformers directories, not as checkpoint files. The other fields apply to such
    families. `frontend`: prefixes of the parameters before the transformer that stage 1 keeps frozen. `mel`: the network's input is log-mel
    energies, computed in this package. `depths`: further keys of config.json that count layers. `holder`: class named in config.json if it
    is not `model_class`; `inside`: its attribute that is the encoder.
    """

    name: str
    module: str
    config_class: str
    model_class: str
    pretraining_only: tuple[str, ...]
    learned: bool = True
    directory_only: bool = False
    frontend: tuple[str, ...] = ("feature_extractor.",)
    mel: bool = False
    depths: tuple[str, ...] = ()
    holder: str | None = None
    inside: str = ""

    @property
    def prefix(self) -> str:
        """Prefix of the encoder's tensors in transformers models with a head."""
        return "model." if self.inside else f"{self.name.replace('-', '_')}."

    @property
    def config_type(self) -> Any:
        """Configuration class in transformers."""
        return getattr(import_module(self.module), self.config_class)

    @property
    def model_type(self) -> Any:
        """Backbone class in transformers."""
        return getattr(import_module(self.module), self.model_class)


DEFAULT_MASK_PROB = 0.65
SPECIAL_SYMBOLS = ("<s>", "<pad>", "</s>", "<unk>")
"""First symbols of every fairseq dictionary."""
_QUANTIZER = ("quantizer.", "project_q.", "final_proj.", "target_glu.")
FAMILIES = {
    family.name: family
    for family in (
        Family("hubert", "transformers", "HubertConfig", "HubertModel", ("final_proj.", "label_embs_concat", "target_glu.")),
        Family("wav2vec2", "transformers", "Wav2Vec2Config", "Wav2Vec2Model", _QUANTIZER),
        Family("decoar2", "speechft.encoders.decoar2", "DeCoAR2Config", "DeCoAR2Model", ("mask_emb", "layer_norm.", *_QUANTIZER)),
        Family("wavlm", "transformers", "WavLMConfig", "WavLMModel", ("final_proj.", "label_embs_concat", "target_glu.")),
        Family("fbank", "speechft.encoders.fbank", "FbankConfig", "FbankModel", (), learned=False),
        Family(
            "data2vec-audio", "transformers", "Data2VecAudioConfig", "Data2VecAudioModel", (), directory_only=True,
            depths=("num_conv_pos_embeddings",),
        ),
        Family("unispeech-sat", "transformers", "UniSpeechSatConfig", "UniSpeechSatModel", _QUANTIZER, directory_only=True),
        Family("wav2vec2-conformer", "transformers", "Wav2Vec2ConformerConfig", "Wav2Vec2ConformerModel", _QUANTIZER, directory_only=True),
        Family(
            "wav2vec2-bert", "transformers", "Wav2Vec2BertConfig", "Wav2Vec2BertModel", (), directory_only=True, frontend=(), mel=True,
        ),
        Family(
            "whisper", "speechft.encoders.whisper", "WhisperConfig", "WhisperEncoderModel", (), directory_only=True,
            frontend=("encoder.conv1.", "encoder.conv2.", "encoder.embed_positions."), mel=True,
            depths=("encoder_layers",), holder="WhisperModel", inside="encoder.",
        ),
    )
}  # fmt: skip
LEARNED_FAMILIES = tuple(name for name, family in FAMILIES.items() if family.learned)
"""Families with weights, which can be fine-tuned, merged and exported."""
FILE_FAMILIES = tuple(name for name in LEARNED_FAMILIES if not FAMILIES[name].directory_only)
"""Families with weights that also exist as checkpoint files; `transformers_config` converts their configuration from fairseq's keys."""

FAIRSEQ_TASKS = {"hubert": "hubert_pretraining", "wav2vec2": "audio_pretraining"}
"""Family with a fairseq model -> fairseq task that pre-trains it."""


def get_family(name: str) -> Family:
    """Return the family `name`; raise CheckpointError if it does not exist."""
    if name not in FAMILIES:
        raise CheckpointError(unknown_name("encoder family", name, FAMILIES))
    return FAMILIES[name]


def check_learned(family: str, where: object, action: str) -> None:
    """Raise CheckpointError for an `action`, such as "merge", on an encoder at `where` whose family has no learned weights."""
    if family in FAMILIES and not FAMILIES[family].learned:
        raise CheckpointError(
            f"{where}: a {family} encoder has no learned weights to {action}. "
            f"Use an encoder of another family: {', '.join(LEARNED_FAMILIES)}."
        )


def check_padding(family: str, padding: str) -> None:
    """Raise ConfigError for the padding "reference" of a family for which s3prl 0.4.18 is not reproduced."""
    if padding == "reference" and get_family(family).directory_only:
        raise ConfigError(f"padding: reference reproduces s3prl 0.4.18 and is not available for {family} encoders. Use alone.")


MOST_LAYERS = 100
LARGEST_SIZE = 1_000_000
"""Largest width, kernel or table: far above every published encoder, and small enough to build a model on the meta device."""
LONGEST_LIST = 100
"""Most convolutions in an extractor."""
_SIZES = (
    "hidden_size", "intermediate_size", "num_attention_heads", "conv_dim", "conv_kernel", "conv_stride", "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups", "num_buckets", "max_bucket_distance", "num_mel_bins", "delta_order", "conv_pos_kernel_size",
    "conv_depthwise_kernel_size", "feature_projection_input_dim", "left_max_position_embeddings", "right_max_position_embeddings",
    "max_source_positions", "d_model", "encoder_ffn_dim", "encoder_attention_heads",
)  # fmt: skip
# Unsupported parts of transformers models: key of config.json -> name.
_UNSUPPORTED = {
    "add_adapter": "adapter layers after the transformer",
    "adapter_attn_dim": "adapter layers in the transformer",
    "conv_pos_batch_norm": "batch-normalized positional convolutions",
}


def check_sizes(values: Mapping[str, Any], depths: tuple[str, ...] = ()) -> None:
    """Raise CheckpointError for sizes with which building the model would not end or would exhaust memory.

    `depths`: keys that count layers, in addition to `num_hidden_layers`.
    """
    for key, most in (*((key, MOST_LAYERS) for key in ("num_hidden_layers", *depths)), *((key, LARGEST_SIZE) for key in _SIZES)):
        value = values.get(key)
        numbers = value if isinstance(value, list | tuple) else [value]
        if len(numbers) > LONGEST_LIST:
            raise CheckpointError(
                f"{key} has {len(numbers)} entries; at most {LONGEST_LIST} are possible. Use the model's own configuration."
            )
        for number in numbers:
            if isinstance(number, int | float) and not 0 <= number <= most:
                raise CheckpointError(f"{key}={number!r} is not from 0 to {most}. Use the model's own configuration.")


def check_supported(values: Mapping[str, Any], where: object) -> None:
    """Raise CheckpointError for a transformers configuration with unsupported parts."""
    for key, part in _UNSUPPORTED.items():
        if values.get(key):
            raise CheckpointError(f"{where}: {part} ({key}) are not supported. Use a model without them.")


def without_remote_code(values: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the keys of a configuration that make transformers load code from a repository."""
    return {key: value for key, value in values.items() if key not in ("auto_map", "trust_remote_code", "custom_pipelines")}


# fairseq options that need these values, because the transformers models have no counterpart of the other ones.
_MUST_BE = {
    "layer_type": ("transformer",),
    "attn_type": ("",),
    "pos_enc_type": ("abs",),
    "pos_conv_depth": (1,),
    "conv_pos_batch_norm": (False,),
    "quantize_input": (False,),
    "activation_fn": ("gelu", "relu"),
    "extractor_mode": ("default", "layer_norm"),
    "relative_position_embedding": (True,),
    "gru_rel_pos": (True,),
}
# transformers key -> fairseq key and its default.
_REQUIRED = {
    "num_hidden_layers": "encoder_layers",
    "hidden_size": "encoder_embed_dim",
    "intermediate_size": "encoder_ffn_embed_dim",
    "num_attention_heads": "encoder_attention_heads",
    "do_stable_layer_norm": "layer_norm_first",
}
_OPTIONAL = {
    "hidden_act": ("activation_fn", "gelu"),
    "num_conv_pos_embeddings": ("conv_pos", 128),
    "num_conv_pos_embedding_groups": ("conv_pos_groups", 16),
}
_RATES = {
    "hidden_dropout": ("dropout", 0.1),
    "attention_dropout": ("attention_dropout", 0.1),
    "activation_dropout": ("activation_dropout", 0.0),
    "feat_proj_dropout": ("dropout_input", 0.0),
}
_WAVLM = {"num_buckets": "num_buckets", "max_bucket_distance": "max_distance"}


def transformers_config(family: str, model_cfg: Mapping[str, Any], *, normalize: bool, mask_embedding: bool) -> Any:
    """Convert a model configuration from fairseq's keys to a transformers configuration.

    `apply_spec_augment` is off and layerdrop is 0, since neither is used. With `mask_embedding`, the masking probability is above 0,
    because transformers creates that tensor only then.

    Raises:
        CheckpointError: a size is missing, or the transformers model has no counterpart of a part.
    """
    convolutional = family != "decoar2"
    required = {**_REQUIRED, **(_WAVLM if family == "wavlm" else {})}
    needed = [*required.values(), *(("extractor_mode", "conv_feature_layers") if convolutional else ())]
    if missing := [key for key in needed if key not in model_cfg]:
        raise CheckpointError(f"The {family} configuration has no {', '.join(missing)}. Give them with config={{...}}.")
    for key, allowed in _MUST_BE.items():
        if key in model_cfg and model_cfg[key] not in allowed:
            raise CheckpointError(f"{key}={model_cfg[key]!r} is not supported for {family}; supported: {', '.join(map(repr, allowed))}.")
    values: dict[str, Any] = {
        **{ours: model_cfg[theirs] for ours, theirs in required.items()},
        **{ours: model_cfg.get(theirs, default) for ours, (theirs, default) in _OPTIONAL.items()},
        **{ours: _rate(model_cfg, theirs, default) for ours, (theirs, default) in _RATES.items()},
        "layerdrop": 0.0,
        "feat_extract_activation": "gelu",
        "speechft_normalize": bool(normalize),
    }
    if not convolutional:
        values |= {"feat_proj_dropout": _rate(model_cfg, "dropout_input", 0.1), "num_mel_bins": model_cfg.get("input_feat", 80)}
        return build_config(family, values)
    layers = parse_conv_layers(model_cfg["conv_feature_layers"])
    values |= {
        "feat_extract_norm": "layer" if model_cfg["extractor_mode"] == "layer_norm" else "group",
        "conv_dim": [channels for channels, _, _ in layers],
        "conv_kernel": [kernel for _, kernel, _ in layers],
        "conv_stride": [stride for _, _, stride in layers],
        "conv_bias": model_cfg.get("conv_bias", False),
        "final_dropout": 0.0,
        "apply_spec_augment": False,
        "mask_time_prob": (model_cfg.get("mask_prob") or DEFAULT_MASK_PROB) if mask_embedding else 0.0,
        "mask_time_length": model_cfg.get("mask_length", 10),
        "mask_feature_prob": 0.0,
    }
    return build_config(family, values)


def _rate(model_cfg: Mapping[str, Any], key: str, default: float) -> float:
    value = model_cfg.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise CheckpointError(f"{key}={str(value)[:80]!r} is not a rate from 0 to 1. The configuration is damaged.")
    return float(value)


def build_config(family: str, values: Mapping[str, Any]) -> Any:
    """Build the configuration object of a family; raise CheckpointError if a value has a wrong type, is impossible or is out of bounds."""
    check_sizes(values, get_family(family).depths)
    try:
        config = get_family(family).config_type(**values)
        config.to_dict()  # some values are validated only here
    except Exception as error:  # transformers raises many types for impossible values
        raise CheckpointError(f"The {family} configuration has an invalid value: {' '.join(str(error).split())}") from error
    return config


def fairseq_config(config: Any) -> dict[str, Any]:
    """Convert the sizes of a transformers configuration to fairseq's keys, the input of `transformers_config`."""
    values = {theirs: getattr(config, ours) for ours, theirs in _REQUIRED.items()}
    values |= {theirs: getattr(config, ours) for ours, (theirs, _) in {**_OPTIONAL, **_RATES}.items()}
    values["encoder_layerdrop"] = 0.0
    if config.model_type == "decoar2":
        return {**values, "input_feat": config.num_mel_bins}
    layers = zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True)
    values |= {
        "extractor_mode": "layer_norm" if config.feat_extract_norm == "layer" else "default",
        "conv_feature_layers": str([tuple(layer) for layer in layers]),
        "conv_bias": config.conv_bias,
        "dropout_features": 0.0,
        "mask_prob": config.mask_time_prob,
        "mask_length": config.mask_time_length,
    }
    if config.model_type == "wavlm":
        values |= {theirs: getattr(config, ours) for ours, theirs in _WAVLM.items()}
        values |= {"relative_position_embedding": True, "gru_rel_pos": True, "normalize": config.speechft_normalize}
    return values


def parse_conv_layers(text: str) -> list[tuple[int, int, int]]:
    """Parse fairseq's description of convolutions, such as "[(512,10,5)] + [(512,3,2)] * 4", without evaluating code.

    Returns:
        (channels, kernel, stride) of each layer.

    Raises:
        CheckpointError: `text` is not made of lists of such triples, joined by + and repeated by *.
    """
    try:
        layers = _literal(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        layers = None
    triples = isinstance(layers, list) and layers and all(isinstance(layer, tuple) and len(layer) == 3 for layer in layers)
    if not triples or not all(isinstance(size, int) and size > 0 for layer in layers for size in layer):
        raise CheckpointError(f"conv_feature_layers={str(text)[:200]!r} is not a list of (channels, kernel, stride).")
    return list(layers)


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Tuple):
        return tuple(_literal(item) for item in node.elts)
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
        left, right = _literal(node.left), _literal(node.right)
        if isinstance(node.op, ast.Add) and isinstance(left, list):
            return left + right
        if isinstance(node.op, ast.Mult) and isinstance(left, list) and isinstance(right, int) and len(left) * right <= LONGEST_LIST:
            return left * right
    raise ValueError(ast.dump(node))
