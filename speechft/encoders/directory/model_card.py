"""The model card in every encoder directory. This module does not import torch."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechft.encoders.families import FAIRSEQ_TASKS, FAMILIES, FILE_FAMILIES
from speechft.files.atomic import write_text
from speechft.files.escapes import json_text, markdown_code, markdown_escape, markdown_item, yaml_text
from speechft.files.structured import read_json

_HOW = {
    "import": "Imported from a checkpoint; the weights are unchanged.",
    "pretrain": "Pre-trained, starting from the base, or from random weights if there is no base below.",
    "continue": "Continued pre-training of the base, without labels.",
    "finetune": "Fine-tuned on one task; the task head is not part of this directory.",
    "merge": "Merged from other encoders in weight space.",
    "random": "Random weights, for tests.",
    "fbank": "SUPERB's FBANK baseline. It has no learned weights, so it cannot be fine-tuned, merged or exported.",
}

_SIZE_KEYS = (("num_hidden_layers", "encoder_layers"), ("hidden_size", "d_model"))
"""Keys of the sizes, each followed by Whisper's."""
_OWN_CLASSES = ("decoar2", "fbank")
_CARD = """---
library_name: transformers
pipeline_tag: feature-extraction
tags: [speech, {tag}]
---

# {title}

A {family} speech encoder with {sizes}, for 16 kHz mono speech. {audio}

## How it was made

{how}

{inputs}{recipe}Software: {versions}. Details: `provenance.json`.

## How to load it

```python
from speechft.encoders import load_encoder

hidden_states = load_encoder(directory).encode([waveform]).hidden_states

# or with transformers alone
{own_class}from transformers import AutoModel

backbone = AutoModel.from_pretrained(directory){inside}
```
"""
_FAIRSEQ = """
fairseq 1.x, after `speechft export DIRECTORY --format fairseq`:

```python
from fairseq.checkpoint_utils import load_model_ensemble_and_task

(model,), cfg, task = load_model_ensemble_and_task([{file}])
```
"""
_S3PRL = """
s3prl, after `speechft export DIRECTORY --format s3prl`:

```python
from s3prl.nn import S3PRLUpstream

upstream = S3PRLUpstream("{family}_local", path_or_url={file})
```

or {command}.
"""


def write_model_card(model_dir: str | Path, provenance: Mapping[str, Any], name: str | None = None) -> None:
    """Write `README.md`: what the encoder is, how it was made (`provenance`), how to load it. The title is `name` or the directory's."""
    model_dir = Path(model_dir)
    name = name or model_dir.name
    config = read_json(model_dir / "config.json")
    family = str(config.get("model_type", "unknown"))
    normalized = bool(config.get("speechft_normalize"))
    rows = [(role, item["name"], item["sha256"]) for role, item in provenance.get("inputs", {}).items()]
    rows += [("result", file, digest) for file, digest in provenance.get("outputs", {}).items()]
    known = FAMILIES.get(family)
    audio = "Waveforms are normalized to zero mean and unit variance." if normalized else "Waveforms are not normalized."
    if known and known.mel:
        audio = "The network input is log-mel energies, computed as by transformers' feature extractor."
    table = [f"| {markdown_escape(role)} | {markdown_escape(str(file))} | {markdown_code(str(digest))} |" for role, file, digest in rows]
    recipe = [f"- {markdown_item(f'{key}: {value}')}" for key, value in provenance.get("recipe", {}).items()]
    card = _CARD.format(
        tag=yaml_text(family),
        title=markdown_escape(name),
        family=markdown_escape(family),
        sizes=markdown_escape(_sizes(config)),
        audio=audio,
        how=_HOW.get(str(provenance.get("kind")), ""),
        inputs="\n".join(["| role | file | SHA-256 |", "|---|---|---|", *table, "", ""]) if table else "",
        recipe="\n".join([*recipe, "", ""]) if recipe else "",
        versions=markdown_escape(", ".join(f"{package} {version}" for package, version in provenance.get("versions", {}).items())),
        inside=".encoder  # the decoder is not part of this directory" if known and known.inside else "",
        own_class=f"import speechft.encoders.{family}  # makes the family known to transformers\n" if family in _OWN_CLASSES else "",
    )
    if family in FAIRSEQ_TASKS:
        card += _FAIRSEQ.format(file=_literal(f"{name}_fairseq.pt"))
    if family in FILE_FAMILIES:
        file = f"{name}_s3prl.pt"
        command = markdown_code(shlex.join(["run_downstream.py", "-u", f"{family}_local", "-k", file]))
        card += _S3PRL.format(family=family, file=_literal(file), command=command)
    write_text(model_dir / "README.md", card)


def _sizes(config: Mapping[str, Any]) -> str:
    if config.get("model_type") != "fbank":
        layers, width = (config.get(key, config.get(other, "?")) for key, other in _SIZE_KEYS)
        return f"{layers} transformer layers of width {width}"
    normalized = "normalized over each utterance" if config.get("normalize_utterances", True) else "not normalized"
    bins, orders = config.get("num_mel_bins", "?"), config.get("delta_order", "?")
    return f"{bins} log-mel energies and their time derivatives up to order {orders}, {normalized}, every 20 ms"


def _literal(text: str) -> str:
    """Format text as a one-line Python literal."""
    return json_text(json.dumps(text, ensure_ascii=False))
