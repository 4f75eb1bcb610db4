"""Stage-1 recipes that have a name: the two that the authors released, and one of ours for every other task. No torch here."""

from __future__ import annotations

from typing import Any

from speechft.errors import unknown_name
from speechft.tasks.catalog import ASR_HEAD, CLASSES, SEQUENCES, TASKS

# 32 letters of wav2vec 2.0; SpecAugment as in SUPERB's ASR. It chooses by character errors, which it calls word errors.
_TEDLIUM = {"spelling": "tedlium", "spec_augment": True, "selection": "cer", **ASR_HEAD}

RELEASED_RECIPES: dict[str, dict[str, Any]] = {
    # Buckets of 32 that the released code halves always.
    "asr_tedlium": {**SEQUENCES, "task": "asr", "task_options": _TEDLIUM, "batch_size": 32, "accumulate": 1, "order": "superb"},
    # The first fold of IEMOCAP: session 1 is left out, a fifth of the others is dev.
    "er_iemocap": {**CLASSES, "task": "er", "batch_size": 4, "accumulate": 8, "order": "superb", "fold": "1"},
}
"""The configurations that the authors released, for corpora prepared as docs/finetuning.md says."""

OWN_RECIPES = {name: {"task": name, **task.stage1} for name, task in TASKS.items() if task.stage1 is not None}
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
