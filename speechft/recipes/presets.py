"""Stage-1 recipes that have a name: the two that the authors released, and one of ours for every other task. No torch here."""

from __future__ import annotations

from typing import Any

from speechft.errors import unknown_name

_ASR_HEAD: dict[str, Any] = {"projected": 256, "hidden": 256, "layers": 3, "dropout": 0.2}
# Numbers of updates are those of the released recipe of the same kind.
_SEQUENCES: dict[str, Any] = {"updates": 50_000, "validate_every": 2000}
_CLASSES: dict[str, Any] = {"updates": 30_000, "validate_every": 1000}
# 32 letters of wav2vec 2.0; SpecAugment as in SUPERB's ASR. It chooses by character errors, which it calls word errors.
_TEDLIUM = {"spelling": "tedlium", "spec_augment": True, "selection": "cer", **_ASR_HEAD}

RELEASED_RECIPES: dict[str, dict[str, Any]] = {
    # Buckets of 32 that the released code halves always.
    "asr_tedlium": {**_SEQUENCES, "task": "asr", "task_options": _TEDLIUM, "batch_size": 32, "accumulate": 1, "order": "superb"},
    # The first fold of IEMOCAP: session 1 is left out, a fifth of the others is dev.
    "er_iemocap": {**_CLASSES, "task": "er", "batch_size": 4, "accumulate": 8, "order": "superb", "fold": "1"},
}
"""The configurations that the authors released, for corpora prepared as docs/finetuning.md says."""

OWN_RECIPES: dict[str, dict[str, Any]] = {
    # Heads, losses and batches are those of the task's SUPERB recipe, with the learning rate and the schedule of Stable-FT.
    "asr": {**_SEQUENCES, "task": "asr", "task_options": {"spelling": "characters", **_ASR_HEAD}, "batch_size": 16},
    "asr_zh": {**_SEQUENCES, "task": "asr_zh", "task_options": _ASR_HEAD, "batch_size": 16},
    "pr": {**_SEQUENCES, "task": "pr", "batch_size": 16, "accumulate": 2},
    "sf": {**_SEQUENCES, "task": "sf", "task_options": _ASR_HEAD, "batch_size": 32},
    "pc": {**_CLASSES, "task": "pc", "batch_size": 16},
    "ks": {**_CLASSES, "task": "ks", "batch_size": 32, "order": "superb"},
    "sid": {**_CLASSES, "task": "sid", "batch_size": 8, "accumulate": 4},
    "er": {**_CLASSES, "task": "er", "batch_size": 4, "accumulate": 8},
    "ic": {**_CLASSES, "task": "ic", "batch_size": 32},
    "asv": {**_CLASSES, "task": "asv", "batch_size": 10, "accumulate": 5},
    "sd": {**_CLASSES, "task": "sd", "batch_size": 8, "accumulate": 4},
}
"""Ours: nobody has published recipes for these."""

STAGE1_RECIPES = RELEASED_RECIPES | OWN_RECIPES


def named_recipe(values: Any) -> Any:
    """Fill unset keys, and unset task options, from the preset that `like` names.

    Raises:
        ValueError: there is no recipe of that name.
    """
    if not isinstance(values, dict) or values.get("like") is None:
        return values
    like = values["like"]
    if like not in STAGE1_RECIPES:
        raise ValueError(f"like: {unknown_name('recipe', like, STAGE1_RECIPES)}")
    base = STAGE1_RECIPES[like]
    if values.get("task", base["task"]) != base["task"]:
        raise ValueError(f"like: {like!r} is a recipe of task {base['task']!r}, not {values['task']!r}")
    options = {**base.get("task_options", {}), **(values.get("task_options") or {})}
    return {**base, **values, **({"task_options": options} if options else {})}
