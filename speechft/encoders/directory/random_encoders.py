"""Small encoders with random weights, for tests and to check an installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechft.conventions import SAMPLE_RATE
from speechft.encoders.directory.layout import write_encoder
from speechft.encoders.directory.provenance import make_provenance
from speechft.encoders.families import (
    FAIRSEQ_TASKS,
    SPECIAL_SYMBOLS,
    build_config,
    check_learned,
    fairseq_config,
    get_family,
    parse_conv_layers,
    transformers_config,
)
from speechft.errors import CheckpointError

# Kernels and strides of the published models, with 32 channels.
_SIZES: dict[str, Any] = {
    "extractor_mode": "default",
    "encoder_layers": 2,
    "encoder_embed_dim": 64,
    "encoder_ffn_embed_dim": 128,
    "encoder_attention_heads": 4,
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "conv_feature_layers": "[(32,10,5)] + [(32,3,2)] * 4 + [(32,2,2)] * 2",
    "conv_bias": False,
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.0,
    "dropout_input": 0.0,
    "dropout_features": 0.0,
    "encoder_layerdrop": 0.0,
    "final_dim": 16,
}
# Published base models, where they differ from `_SIZES`.
_BASE_SIZES: dict[str, Any] = {
    "encoder_layers": 12,
    "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072,
    "encoder_attention_heads": 12,
    "conv_feature_layers": "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2",
    "conv_pos": 128,
    "conv_pos_groups": 16,
    "final_dim": 256,
}
_WAVLM_SIZES = {"relative_position_embedding": True, "gru_rel_pos": True, "num_buckets": 32, "max_distance": 48, "normalize": False}
_WAV2VEC2_SIZES = {"quantize_targets": True, "latent_groups": 2, "latent_vars": 8}
_EXTRA_SIZES = {"wavlm": _WAVLM_SIZES, "wav2vec2": _WAV2VEC2_SIZES}
_CLASSES = 9
# Families without checkpoint files, under transformers' keys: small networks with every part.
_TRANSFORMER = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
_EXTRACTOR = {"conv_dim": [32] * 7, "apply_spec_augment": False}
_CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "data2vec-audio": {**_TRANSFORMER, **_EXTRACTOR, "conv_pos_kernel_size": 7, "num_conv_pos_embedding_groups": 4},
    "unispeech-sat": {**_TRANSFORMER, **_EXTRACTOR, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
    "wav2vec2-conformer": {
        **_TRANSFORMER, **_EXTRACTOR, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "conv_depthwise_kernel_size": 7,
    },
    "wav2vec2-bert": {**_TRANSFORMER, "apply_spec_augment": False, "conv_depthwise_kernel_size": 7, "output_hidden_size": 64},
    "whisper": {
        "d_model": 64, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_layers": 1,
        "decoder_attention_heads": 4, "decoder_ffn_dim": 128, "vocab_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 1,
    },
}  # fmt: skip


def base_sizes(family: str) -> dict[str, Any]:
    """Return the model configuration of the published base models, under fairseq's keys."""
    relative = {"num_buckets": 320, "max_distance": 800} if family == "wavlm" else {}
    return {**_SIZES, **_EXTRA_SIZES.get(family, {}), **_BASE_SIZES, **relative}


def random_encoder(family: str, out_dir: str | Path, seed: int = 0, *, normalize: bool = False, **sizes: Any) -> Path:
    """Write an encoder directory with random weights and return its path.

    Args:
        family: a family of speechft.encoders.families.
        out_dir: the directory.
        seed: equal seeds give equal weights; torch's global generator is not changed.
        normalize: whether waveforms are normalized; not allowed for log-mel encoders.
        sizes: keys of fairseq's model configuration, such as encoder_layers=3 or extractor_mode="layer_norm"; for families without
            checkpoint files, keys of transformers' configuration, such as num_hidden_layers=3.

    Raises:
        CheckpointError: unknown family, one without weights, or sizes that the family cannot have.
    """
    check_learned(family, out_dir, "draw")
    recipe = {"family": family, "seed": seed, "normalize": normalize, **sizes}
    provenance = make_provenance("random", {}, recipe)
    if normalize and get_family(family).mel:
        raise CheckpointError(f"{out_dir}: {family} encoders do not normalize waveforms. Leave `normalize` out.")
    source: dict[str, Any] = {}
    if get_family(family).directory_only:
        model_cfg = {**_CONFIGURATIONS[family], **sizes}
        config = build_config(family, {**model_cfg, "speechft_normalize": normalize})
    else:
        model_cfg = {**_SIZES, **_EXTRA_SIZES.get(family, {}), **sizes}
        config = transformers_config(family, model_cfg, normalize=normalize, mask_embedding=True)
        symbols = [*SPECIAL_SYMBOLS, *map(str, range(_CLASSES - len(SPECIAL_SYMBOLS)))]
        source = {
            "schema": 1,
            "family": family,
            "format": "s3prl",
            "model_cfg": {**fairseq_config(config), **({} if family == "decoar2" else model_cfg)},
            "task_cfg": {"sample_rate": SAMPLE_RATE, "normalize": normalize},
            "dictionaries": [{"symbols": symbols}] if family == "hubert" else [],
        }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = get_family(family).model_type(config)
        pretraining_only = _pretraining_only(family, model_cfg)
    write_encoder(out_dir, backbone=backbone, pretraining_only=pretraining_only, source_config=source, provenance=provenance)
    return Path(out_dir)


def _pretraining_only(family: str, model_cfg: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of fairseq's models that are not in the backbone."""
    if family not in FAIRSEQ_TASKS:
        return {}
    final_dim, width = model_cfg["final_dim"], model_cfg["encoder_embed_dim"]
    tensors = {"final_proj.weight": torch.randn(final_dim, width) / width**0.5, "final_proj.bias": torch.zeros(final_dim)}
    if family == "hubert":
        return {**tensors, "label_embs_concat": torch.rand(_CLASSES, final_dim)}
    groups, entries = model_cfg["latent_groups"], model_cfg["latent_vars"]
    channels = parse_conv_layers(model_cfg["conv_feature_layers"])[-1][0]
    return {
        **tensors,
        "project_q.weight": torch.randn(final_dim, final_dim) / final_dim**0.5,
        "project_q.bias": torch.zeros(final_dim),
        "quantizer.vars": torch.rand(1, groups * entries, final_dim // groups),
        "quantizer.weight_proj.weight": torch.randn(groups * entries, channels),
        "quantizer.weight_proj.bias": torch.zeros(groups * entries),
    }
