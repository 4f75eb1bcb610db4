"""Create small random encoders for rehearsals, in the published file format of each family."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from speechft.encoders.checkpoints.exporting import checkpoint_content
from speechft.encoders.directory.random_encoders import random_encoder
from speechft.files.atomic import atomic_file, write_text
from speechft.files.output_kinds import SMALL_ENCODER, Kind
from speechft.files.outputs import check_file

LAYERS = 2
"""Number of transformer layers."""
DECOAR2_SETTINGS = {"encoder_attention_heads": 4}
"""Settings that neither tensor shapes nor a DeCoAR 2.0 checkpoint contain."""
_FORMATS = {"hubert": "fairseq", "wav2vec2": "fairseq", "wavlm": "s3prl", "decoar2": "s3prl"}


def build_tiny_encoder(family: str, file: Path, seed: int = 0) -> Path | None:
    """Write a checkpoint of a small random encoder in the published layout of its family; equal seeds give equal bytes.

    HuBERT has fairseq's current layout with optimizer state, wav2vec 2.0 that from before 2021 with all settings in `args`. WavLM and
    DeCoAR 2.0 have their own layouts.

    Returns:
        JSON file with model settings next to `file`, to be given as `config`, for a layout without settings (DeCoAR 2.0); otherwise None.

    Raises:
        CheckpointError: unknown family, or one without weights; fairseq is not installed.
        OutputError: `file` or its settings are something else.
    """
    settings, text = file.with_suffix(".json"), f"{json.dumps(DECOAR2_SETTINGS, indent=1)}\n"
    check_file(file, SMALL_ENCODER)
    if family == "decoar2":
        check_file(settings, Kind("settings of a small encoder", lambda path: path.read_bytes() == text.encode()))
    with tempfile.TemporaryDirectory() as folder:
        directory = random_encoder(family, Path(folder) / "encoder", seed, encoder_layers=LAYERS)
        content = checkpoint_content(directory, _FORMATS[family])
    if family == "hubert":
        content["last_optimizer_state"] = _optimizer_state(content["model"])
    elif family == "wav2vec2":
        content = _before_2021(content)
    elif family == "decoar2":
        content["model"] |= _only_for_pretraining(content["model"], seed)
    with atomic_file(file) as temporary, tempfile.TemporaryDirectory() as folder:
        torch.save(content, made := Path(folder) / "rehearsal.pt")  # the file's name becomes a part of its content
        shutil.copyfile(made, temporary)
    if family != "decoar2":
        return None
    write_text(settings, text)
    return settings


def _optimizer_state(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """State of Adam before the first update."""
    state = {place: {"step": 0, "exp_avg": torch.zeros_like(tensor)} for place, tensor in enumerate(tensors.values())}
    return {"state": state, "param_groups": [{"lr": 5e-4, "betas": [0.9, 0.98], "eps": 1e-6, "params": list(state)}]}


def _before_2021(content: dict[str, Any]) -> dict[str, Any]:
    """Convert a checkpoint to the old layout, with a Namespace instead of configuration sections."""
    model, task = content["cfg"]["model"], content["cfg"]["task"]
    settings = {key: value for key, value in {**task, **model}.items() if key != "_name"}
    # The temperature was a string to be parsed.
    settings |= {"arch": model["_name"], "task": task["_name"], "latent_temp": "(2,0.5,0.999995)"}
    return {"args": argparse.Namespace(**settings), **{key: content[key] for key in ("model", "optimizer_history", "extra_state")}}


def _only_for_pretraining(tensors: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Tensors of the published DeCoAR 2.0 that an encoder does not use."""
    generator = torch.Generator().manual_seed(seed)
    width, bins = tensors["post_extract_proj.weight"].shape
    return {
        "mask_emb": torch.rand(width, generator=generator),
        "layer_norm.weight": torch.ones(bins),
        "layer_norm.bias": torch.zeros(bins),
        "final_proj.weight": torch.randn(bins, width, generator=generator),
        "final_proj.bias": torch.zeros(bins),
    }
