"""Compare a fine-tuned or merged encoder with its pre-trained encoder."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import speechft
from speechft.analysis.deviation import weight_deviation
from speechft.analysis.result import AnalysisResult
from speechft.analysis.similarity import feature_similarity
from speechft.corpora import load_split
from speechft.corpora.manifests import evenly
from speechft.encoders import load_encoder
from speechft.encoders.checkpoints.on_the_fly import encoder_directory
from speechft.encoders.directory.layout import WEIGHTS
from speechft.evaluate.data.features import FrozenEncoder, exact_fp32
from speechft.files.hashes import sha256_file, sha256_json
from speechft.files.output_kinds import ANALYSIS
from speechft.files.outputs import check_file
from speechft.files.structured import write_json
from speechft.recipes.cell import ModelName, model_names
from speechft.recipes.tables import AnalysisRecipe
from speechft.runtime.devices import device_name, resolve_device


@exact_fp32()
def analyse(
    start_dir: str | Path,
    model_dir: str | Path,
    manifests: str | Path,
    out_json: str | Path,
    recipe: AnalysisRecipe | None = None,
    model_name: str | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Measure weight deviation and feature similarity of two encoders, and write them to `out_json` atomically.

    Mean cosine and linear CKA are our choice: the paper's similarity measure is not public.

    Args:
        start_dir: encoder directory of theta0.
        model_dir: encoder directory of a model derived from it.
        manifests: folder of manifests; labels are not needed.
        out_json: the result.
        recipe: split, number of utterances, precision.
        model_name: "encoder/finetuning/method", stored in the result.
        device: "cpu" or "cuda"; default: a GPU if available.

    Returns:
        The result as plain JSON.

    Raises:
        AnalysisError: the architectures differ.
        ConfigError: `model_name` does not have three parts.
        CheckpointError, CorpusError, AudioError: a model, the manifests or a recording is missing or damaged.
    """
    check_file(out_json, ANALYSIS, [start_dir, model_dir, manifests])
    chosen = recipe or AnalysisRecipe()
    names = model_names(model_name)
    where = resolve_device(device)
    with encoder_directory(start_dir) as start_dir, encoder_directory(model_dir) as model_dir:
        deviation, parts = weight_deviation(start_dir, model_dir)
        cuts = evenly(list(load_split(manifests, chosen.split)), chosen.utterances)
        with torch.random.fork_rng(devices=[]):  # building a model draws initial weights before the saved ones replace them
            start, model = (FrozenEncoder(load_encoder(path), where, precision=chosen.precision) for path in (start_dir, model_dir))
        start_hash, model_hash = (sha256_file(path / WEIGHTS) for path in (start_dir, model_dir))
    states, frames = feature_similarity(start, model, cuts)
    result = AnalysisResult(
        schema=1,
        model=ModelName(**names, sha256=model_hash),
        start_sha256=start_hash,
        deviation=deviation,
        parts=parts,
        states=states,
        utterances=len(cuts),
        frames=frames,
        precision=chosen.precision,
        recipe=chosen.model_dump(mode="json"),
        cuts_sha256=sha256_json([cut.to_dict() for cut in cuts]),
        software={
            "speechft": speechft.__version__,
            "torch": version("torch"),
            "device": device_name(where),
        },
    )
    value = result.model_dump(mode="json", by_alias=True)
    write_json(out_json, value)
    return value
