"""Lossless export of encoder directories to fairseq, s3prl's converted layout and transformers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechft.conventions import SAMPLE_RATE
from speechft.downloads.hub import upload
from speechft.encoders.checkpoints.names import NameMap
from speechft.encoders.checkpoints.on_the_fly import encoder_directory
from speechft.encoders.directory.layout import FILES, copy_configuration, load_backbone, read_pretraining_only, read_source_config
from speechft.encoders.families import FAIRSEQ_TASKS, SPECIAL_SYMBOLS, check_learned, fairseq_config, get_family
from speechft.errors import CheckpointError, unknown_name
from speechft.files.atomic import atomic_directory, atomic_file, scratch_directory
from speechft.files.output_kinds import EXPORT, PROGRAM
from speechft.files.outputs import check_file, check_folder

EXPORT_FORMATS = ("fairseq", "s3prl", "transformers")


def export_checkpoint(model_dir: str | Path, out: str | Path, format: str = "fairseq") -> None:
    """Export an encoder directory to another program's format; importing the result gives bit-equal tensors.

    Args:
        model_dir: encoder directory, or transformers directory.
        out: the checkpoint file, or for "transformers" the directory.
        format: "fairseq" (HuBERT and wav2vec 2.0; HuBERT's label dictionaries need fairseq installed), "s3prl" (for s3prl's `*_local`
            upstreams; for WavLM and DeCoAR 2.0 their own layouts), or "transformers", the only one for families without checkpoint files.

    Raises:
        CheckpointError: unknown format, damaged directory, an encoder without learned weights, or a format that the family or the available
            tensors do not allow.
    """
    if format not in EXPORT_FORMATS:
        raise CheckpointError(unknown_name("export format", format, EXPORT_FORMATS))
    with encoder_directory(model_dir) as directory:
        if format == "transformers":
            check_folder(out, "export", [model_dir])
            check_learned(load_backbone(directory).config.model_type, model_dir, "export")
            with atomic_directory(out, "export") as temporary:
                copy_configuration(directory, temporary)
                for file in FILES:
                    if (directory / file).exists() and not (temporary / file).exists():
                        shutil.copyfile(directory / file, temporary / file)
            return
        check_file(out, EXPORT, [model_dir])
        content = checkpoint_content(directory, format)
    with atomic_file(out) as temporary, scratch_directory(out) as scratch:
        torch.save(content, made := scratch / f"{PROGRAM}.pt")  # the file name becomes part of the content
        made.replace(temporary)


def export_to_hub(model_dir: str | Path, name: str, *, private: bool = False) -> str:
    """Upload an encoder directory, with its model card and provenance, to the Hugging Face Hub, and return its URL.

    Args:
        model_dir: encoder directory, or transformers directory.
        name: `org/name`; the repository is created if necessary.
        private: make a newly created repository private.

    Raises:
        CheckpointError: damaged directory, or an encoder without learned weights.
        DownloadError: no network, a missing or refused token, or a repository with other content.
    """
    with tempfile.TemporaryDirectory(prefix="speechft-") as scratch:
        folder = Path(scratch) / name.rpartition("/")[2]
        export_checkpoint(model_dir, folder, "transformers")
        return upload(folder, name, private=private)


def checkpoint_content(model_dir: str | Path, format: str) -> dict[str, Any]:
    """Build the checkpoint content of an encoder directory in the layout "fairseq" or "s3prl"; errors as in `export_checkpoint`."""
    backbone = load_backbone(model_dir)
    check_learned(backbone.config.model_type, model_dir, "export")
    if get_family(backbone.config.model_type).directory_only:
        raise CheckpointError(
            f"{model_dir}: {backbone.config.model_type} encoders have no {format} layout. Export with format='transformers'."
        )
    tensors = {**fairseq_tensors(backbone), **read_pretraining_only(model_dir)}
    source = _complete_source(read_source_config(model_dir), backbone.config, tensors, model_dir)
    return _fairseq_content(source, tensors) if format == "fairseq" else _s3prl_content(source, tensors)


def fairseq_tensors(backbone: Any) -> dict[str, Tensor]:
    """Return the tensors of a backbone under fairseq's names; raise CheckpointError for one without a counterpart."""
    names = NameMap(backbone.config.model_type, getattr(backbone.config, "feat_extract_norm", None))
    renamed = {}
    for name, tensor in backbone.state_dict().items():
        target = names.to_fairseq(name)
        if target is None:
            raise CheckpointError(f"Tensor {name} has no counterpart in fairseq. Export with format='transformers'.")
        renamed[target] = tensor
    return renamed


def _complete_source(source: dict[str, Any], config: Any, tensors: Mapping[str, Tensor], model_dir: str | Path) -> dict[str, Any]:
    """Return the source's configuration sections, or derive them from the transformers configuration if there are none."""
    family = config.model_type
    if family in FAIRSEQ_TASKS and "final_proj.weight" not in tensors:
        raise CheckpointError(
            f"{model_dir}: has no pre-training-only tensors (final_proj, ...), which fairseq and s3prl need to load a checkpoint. "
            "Export with format='transformers', or start from a checkpoint that has them."
        )
    model_cfg = dict(source.get("model_cfg") or {})
    task_cfg = dict(source.get("task_cfg") or {})
    for key, value in {**fairseq_config(config), **_pretraining_sizes(family, tensors)}.items():
        model_cfg.setdefault(key, value)
    if family == "hubert":
        # fairseq's default refers to the task; the label rate is used only in pre-training.
        model_cfg.setdefault("label_rate", task_cfg.get("label_rate", 50.0))
    task_cfg.setdefault("sample_rate", SAMPLE_RATE)
    task_cfg.setdefault("normalize", bool(config.speechft_normalize))
    dictionaries = source.get("dictionaries") or []
    if family == "hubert" and not dictionaries and "label_embs_concat" in tensors:
        # Only the number of symbols matters: it sets the size of label_embs_concat.
        extra = len(tensors["label_embs_concat"]) - len(SPECIAL_SYMBOLS)
        dictionaries = [{"symbols": [*SPECIAL_SYMBOLS, *map(str, range(extra))]}]
    return {
        "family": family,
        "model_cfg": model_cfg,
        "task_cfg": task_cfg,
        "dictionaries": dictionaries,
        "cfg": (source.get("sections") or {}).get("cfg") or {},
    }


def _pretraining_sizes(family: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    if family not in FAIRSEQ_TASKS:
        return {}
    sizes: dict[str, Any] = {"final_dim": tensors["final_proj.weight"].shape[0]}
    if "quantizer.vars" in tensors:
        # All published models have two groups; the shapes do not distinguish one group from two.
        sizes |= {"quantize_targets": True, "latent_groups": 2, "latent_vars": tensors["quantizer.vars"].shape[1] // 2}
    return sizes


def _s3prl_content(source: Mapping[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    if source["family"] == "decoar2":
        return {"model": tensors}
    if source["family"] == "wavlm":
        return {"cfg": source["model_cfg"], "model": tensors}
    content = {"task_cfg": source["task_cfg"], "model_cfg": source["model_cfg"], "model_weight": tensors}
    if source["family"] == "hubert":
        content["dictionaries_symbols"] = [list(dictionary["symbols"]) for dictionary in source["dictionaries"]]
    return content


def _fairseq_content(source: Mapping[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    family = source["family"]
    if family not in FAIRSEQ_TASKS:
        raise CheckpointError(f"fairseq has no {family} model. Export with format='s3prl' (the model's own layout) or 'transformers'.")
    task = {"_name": FAIRSEQ_TASKS[family], "data": "", **source["task_cfg"]}
    model = {"_name": family, **source["model_cfg"]}
    state = {"dictionaries": [_fairseq_dictionary(item) for item in source["dictionaries"]]} if family == "hubert" else {}
    history = {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}
    return {
        "args": None,
        "cfg": {**source["cfg"], "task": task, "model": model},
        "model": tensors,
        "criterion": None,
        "optimizer_history": [history],
        "task_state": state,
        "extra_state": {"train_iterator": {"epoch": 1}},
        "last_optimizer_state": None,
    }


def _fairseq_dictionary(saved: Mapping[str, Any]) -> Any:
    """Build fairseq's own Dictionary object with the saved symbols, as in its checkpoints."""
    try:
        from fairseq.data.dictionary import Dictionary
    except ImportError as error:
        raise CheckpointError("Export of HuBERT to fairseq needs fairseq installed; format='s3prl' does not.") from error
    dictionary = Dictionary(add_special_symbols=False)
    symbols = list(saved["symbols"])
    counts = saved.get("count") or [1] * len(symbols)
    dictionary.symbols, dictionary.count = symbols, list(counts)
    dictionary.indices = {symbol: index for index, symbol in enumerate(symbols)}
    for attribute, symbol in zip(("bos_index", "pad_index", "eos_index", "unk_index"), SPECIAL_SYMBOLS, strict=True):
        if symbol in dictionary.indices:
            setattr(dictionary, attribute, dictionary.indices[symbol])
    dictionary.nspecial = sum(symbol in SPECIAL_SYMBOLS for symbol in symbols)
    return dictionary
