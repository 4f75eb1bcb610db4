"""The initial encoder of a pre-training, as fairseq tensors and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from speechft.encoders.checkpoints.exporting import fairseq_tensors
from speechft.encoders.directory.layout import load_backbone, read_pretraining_only, read_source_config
from speechft.encoders.families import FAIRSEQ_TASKS, check_learned, fairseq_config, get_family
from speechft.errors import CheckpointError
from speechft.fairseq_plugin.trainer import import_fairseq
from speechft.files.atomic import atomic_file
from speechft.recipes.pretraining import Contrastive, PretrainRecipe

_DEFAULT_FINAL_DIM = 256  # published base models


@dataclass(frozen=True)
class Start:
    """Initial encoder: tensors under fairseq's names, including any pre-training head, and fairseq's `model` options."""

    family: str
    tensors: Mapping[str, Tensor]
    model: Mapping[str, Any]
    normalize: bool

    def for_family(self, recipe: PretrainRecipe) -> Start:
        """Return the network for the recipe's family, without the parts specific to another family's objective."""
        if recipe.family == self.family:
            return self
        head = get_family(self.family).pretraining_only
        tensors = {name: tensor for name, tensor in self.tensors.items() if not name.startswith(head)}
        options = {key: value for key, value in self.model.items() if key in option_names(recipe.family)["model_cfg"]}
        if recipe.family == "wav2vec2":
            options |= quantizer_options(recipe.contrastive)
        return Start(recipe.family, tensors, options, self.normalize)

    def save(self, path: Path) -> None:
        """Write the tensors for the training process, unless the file exists."""
        if not path.is_file():
            with atomic_file(path) as temporary:
                save_file({name: tensor.float().contiguous().clone() for name, tensor in self.tensors.items()}, temporary)


def read_start(encoder_dir: Path) -> Start:
    """Read an encoder directory to start from.

    Raises:
        CheckpointError: the directory is damaged, or of a family that fairseq cannot pre-train.
    """
    backbone = load_backbone(encoder_dir)
    config = backbone.config
    family = str(config.model_type)
    check_learned(family, encoder_dir, "pre-train")
    if family not in FAIRSEQ_TASKS:
        raise CheckpointError(f"{encoder_dir}: fairseq cannot pre-train {family} encoders, only {' and '.join(FAIRSEQ_TASKS)}.")
    head = read_pretraining_only(encoder_dir)
    # Dropout and masks come from the source, since the transformers configuration contains only a part of them.
    training = ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "dropout_input", "dropout_features", "mask_")
    sizes = {key: value for key, value in fairseq_config(config).items() if not key.startswith(training)}
    options = {**_known_options(family, read_source_config(encoder_dir).get("model_cfg") or {}), **sizes}
    if "final_proj.weight" in head:
        options["final_dim"] = len(head["final_proj.weight"])
    options.setdefault("final_dim", _DEFAULT_FINAL_DIM)
    if family == "wav2vec2":
        options["quantize_targets"] = True
        if "quantizer.vars" in head:
            options["latent_vars"] = head["quantizer.vars"].shape[1] // options.setdefault("latent_groups", 2)
    return Start(family, {**fairseq_tensors(backbone), **head}, options, bool(config.speechft_normalize))


def _known_options(family: str, model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Select the source's options that fairseq's model has, without references to other parts of its configuration."""
    names = option_names(family)["model_cfg"]
    return {key: value for key, value in model_cfg.items() if key in names and value is not None and not str(value).startswith("${")}


def option_names(family: str) -> dict[str, set[str]]:
    """Return the options of fairseq's model and pre-training task of a family, by section of its configuration."""
    import_fairseq()
    from fairseq.models.hubert.hubert import HubertConfig
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
    from fairseq.tasks.audio_pretraining import AudioPretrainingConfig
    from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig

    hubert = family == "hubert"
    sections = {
        "model_cfg": HubertConfig if hubert else Wav2Vec2Config,
        "task_cfg": HubertPretrainingConfig if hubert else AudioPretrainingConfig,
    }
    return {section: {field.name for field in fields(config)} - {"_name"} for section, config in sections.items()}


def quantizer_options(contrastive: Contrastive) -> dict[str, Any]:
    """Return fairseq's model options for the quantizer of wav2vec 2.0."""
    # Factor of the extractor's gradient as published.
    groups, entries = contrastive.groups, contrastive.entries
    return {"quantize_targets": True, "latent_groups": groups, "latent_vars": entries, "feature_grad_mult": 0.1}
