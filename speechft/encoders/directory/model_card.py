"""The model card that stands beside every encoder. No torch here."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechft.files.atomic import write_text
from speechft.files.escapes import json_text, markdown_code, markdown_escape, markdown_item, yaml_text
from speechft.files.structured import read_json

_HOW = {
    "import": "Imported from a published checkpoint; the weights are unchanged.",
    "pretrain": "Pre-trained, from random weights unless a base is named.",
    "continue": "Pre-trained further, without labels, from the base.",
    "finetune": "Fine-tuned on one task; the task head is not part of this directory.",
    "merge": "Merged from other encoders in weight space.",
    "random": "Random weights, for tests; it has learnt nothing.",
    "fbank": "Computed by a formula, the baseline of SUPERB; it has learnt nothing, so it cannot be fine-tuned, merged or exported.",
}

_OWN_CLASSES = ("decoar2", "fbank")
_EXPORTED = ("hubert", "wav2vec2", "wavlm", "decoar2")


def write_model_card(model_dir: str | Path, provenance: Mapping[str, Any], name: str | None = None) -> None:
    """Write `README.md`: what the encoder is, how it was made and how to load it.

    Args:
        model_dir: encoder directory that has its `config.json`.
        provenance: as in `provenance.json`.
        name: shown as title; default: the name of the directory.
    """
    model_dir = Path(model_dir)
    config = read_json(model_dir / "config.json")
    family = str(config.get("model_type", "unknown"))
    inputs = [_input_row(role, item["name"], item["sha256"]) for role, item in provenance.get("inputs", {}).items()]
    inputs += [_input_row("result", file, digest) for file, digest in provenance.get("outputs", {}).items()]
    normalised = bool(config.get("speechft_normalize"))
    audio = "Waveforms are normalised to zero mean and unit variance." if normalised else "Waveforms go in as they are."
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: feature-extraction",
        f"tags: [speech, {yaml_text(family)}]",
        "---",
        "",
        f"# {markdown_escape(name or model_dir.name)}",
        "",
        f"A {markdown_escape(family)} speech encoder with {markdown_escape(_sizes(config))}, for 16 kHz mono speech. {audio}",
        "",
        "## How it was made",
        "",
        _HOW.get(str(provenance.get("kind")), ""),
        "",
    ]
    if inputs:
        lines += ["| role | file | SHA-256 |", "|---|---|---|", *inputs, ""]
    recipe = [f"- {markdown_item(f'{key}: {value}')}" for key, value in provenance.get("recipe", {}).items()]
    versions = ", ".join(f"{package} {version}" for package, version in provenance.get("versions", {}).items())
    lines += [*recipe, *([""] if recipe else []), f"Software: {markdown_escape(versions)}. Everything is in `provenance.json`.", ""]
    lines += ["## How to load it", "", "```python", *_usage(family), "```", "", *_elsewhere(family, name or model_dir.name)]
    write_text(model_dir / "README.md", "\n".join(lines))


def _input_row(role: str, file: str, digest: str) -> str:
    return f"| {markdown_escape(role)} | {markdown_escape(str(file))} | {markdown_code(str(digest))} |"


def _sizes(config: Mapping[str, Any]) -> str:
    if config.get("model_type") != "fbank":
        return f"{config.get('num_hidden_layers', '?')} transformer layers of width {config.get('hidden_size', '?')}"
    normalized = "normalised over each utterance" if config.get("normalize_utterances", True) else "as they are"
    bins, orders = config.get("num_mel_bins", "?"), config.get("delta_order", "?")
    return f"{bins} log-mel energies and their time derivatives up to order {orders}, {normalized}, every 20 ms"


def _usage(family: str) -> list[str]:
    own_class = [f"import speechft.encoders.{family}  # makes the family known to transformers"] if family in _OWN_CLASSES else []
    return [
        "from speechft.encoders import load_encoder",
        "",
        "hidden_states = load_encoder(directory).encode([waveform]).hidden_states",
        "",
        "# or with transformers alone",
        *own_class,
        "from transformers import AutoModel",
        "",
        "backbone = AutoModel.from_pretrained(directory)",
    ]


def _elsewhere(family: str, name: str) -> list[str]:
    """How other toolkits load it, after an export."""
    if family not in _EXPORTED:
        return []
    lines = []
    if family not in _OWN_CLASSES and family != "wavlm":
        lines += [
            "fairseq 1.x, after `speechft export DIRECTORY --format fairseq`:",
            "",
            "```python",
            "from fairseq.checkpoint_utils import load_model_ensemble_and_task",
            "",
            f"(model,), cfg, task = load_model_ensemble_and_task([{_literal(f'{name}_fairseq.pt')}])",
            "```",
            "",
        ]
    return [
        *lines,
        "s3prl, after `speechft export DIRECTORY --format s3prl`:",
        "",
        "```python",
        "from s3prl.nn import S3PRLUpstream",
        "",
        f'upstream = S3PRLUpstream("{family}_local", path_or_url={_literal(f"{name}_s3prl.pt")})',
        "```",
        "",
        f"or {markdown_code(shlex.join(['run_downstream.py', '-u', f'{family}_local', '-k', f'{name}_s3prl.pt']))}.",
        "",
    ]


def _literal(text: str) -> str:
    """Text as a literal of Python, on one line."""
    return json_text(json.dumps(text, ensure_ascii=False))
