"""Stage-1 recipes that have a name: the two that the authors released, and one of ours for every other task. No torch here."""

from __future__ import annotations

from typing import Any

from speechft.errors import unknown_name

_ASR_HEAD: dict[str, Any] = {"projected": 256, "hidden": 256, "layers": 3, "dropout": 0.2}

RELEASED_RECIPES: dict[str, dict[str, Any]] = {
    # 50 000 updates of buckets of 32 that the released code halves always; 32 letters of wav2vec 2.0; SpecAugment as in SUPERB's ASR.
    # It chooses by character errors, which it calls word errors.
    "asr_tedlium": {
        "task": "asr",
        "task_options": {"spelling": "tedlium", "spec_augment": True, "selection": "cer", **_ASR_HEAD},
        "updates": 50_000,
        "batch_size": 32,
        "accumulate": 1,
        "order": "superb",
        "validate_every": 2000,
    },
    # The first fold of IEMOCAP: session 1 is left out, a fifth of the others is dev.
    "er_iemocap": {
        "task": "er",
        "updates": 30_000,
        "batch_size": 4,
        "accumulate": 8,
        "order": "superb",
        "fold": "1",
        "validate_every": 1000,
    },
}
"""The configurations that the authors released, for corpora prepared as docs/finetuning.md says."""

OWN_RECIPES: dict[str, dict[str, Any]] = {
    # Heads, losses and batches are those of the task's SUPERB recipe, with the learning rate and the schedule of Stable-FT. Numbers of
    # updates are ours: those of the released recipe of the same kind, 50 000 for sequences and 30 000 for classes.
    "asr": {
        "task": "asr",
        "task_options": {"spelling": "characters", **_ASR_HEAD},
        "updates": 50_000,
        "batch_size": 16,
        "validate_every": 2000,
    },
    "asr_zh": {"task": "asr_zh", "task_options": _ASR_HEAD, "updates": 50_000, "batch_size": 16, "validate_every": 2000},
    "pr": {"task": "pr", "updates": 50_000, "batch_size": 16, "accumulate": 2, "validate_every": 2000},
    "sf": {"task": "sf", "task_options": _ASR_HEAD, "updates": 50_000, "batch_size": 32, "validate_every": 2000},
    "pc": {"task": "pc", "updates": 30_000, "batch_size": 16, "validate_every": 1000},
    "ks": {"task": "ks", "updates": 30_000, "batch_size": 32, "order": "superb", "validate_every": 1000},
    "sid": {"task": "sid", "updates": 30_000, "batch_size": 8, "accumulate": 4, "validate_every": 1000},
    "er": {"task": "er", "updates": 30_000, "batch_size": 4, "accumulate": 8, "validate_every": 1000},
    "ic": {"task": "ic", "updates": 30_000, "batch_size": 32, "validate_every": 1000},
    "asv": {"task": "asv", "updates": 30_000, "batch_size": 10, "accumulate": 5, "validate_every": 1000},
    "sd": {"task": "sd", "updates": 30_000, "batch_size": 8, "accumulate": 4, "validate_every": 1000},
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
