"""Stage-1 recipes that have a name: the two that the authors released, and one of ours for every other task. No torch here."""

from __future__ import annotations

from typing import Any

from speechft.errors import unknown_name
from speechft.tasks.catalog import ASR_HEAD, CLASSES, KINDS, SEQUENCES, TASKS

# 32 letters of wav2vec 2.0; SpecAugment as in SUPERB's ASR. It chooses by character errors, which it calls word errors.
_TEDLIUM = {"spelling": "tedlium", "spec_augment": True, "selection": "cer", **ASR_HEAD}

RELEASED_RECIPES: dict[str, dict[str, Any]] = {
    # Buckets of 32 that the released code halves always.
    "asr_tedlium": {**SEQUENCES, "task": "asr", "task_options": _TEDLIUM, "batch_size": 32, "accumulate": 1, "order": "superb"},
    # The first fold of IEMOCAP: session 1 is left out, a fifth of the others is dev.
    "er_iemocap": {**CLASSES, "task": "er", "batch_size": 4, "accumulate": 8, "order": "superb", "fold": "1"},
}
"""The configurations that the authors released, for corpora prepared as docs/finetuning.md says."""


def stage1_recipes() -> dict[str, dict[str, Any]]:
    """Presets by name: the released ones, and ours for every task and kind, of which nobody has published any."""
    tasks = {name: {"task": name, **entry.stage1} for name, entry in TASKS.items() if entry.stage1 is not None}
    kinds = {kind: {"kind": kind, **entry.stage1} for kind, entry in KINDS.items() if entry.stage1 is not None}
    return RELEASED_RECIPES | tasks | kinds


def named_recipe(values: Any) -> Any:
    """Fill unset keys, and unset task options, from the preset that `like` names; of a task of the user's own, from that of its kind.

    Raises:
        ValueError: there is no recipe of that name.
    """
    if not isinstance(values, dict):
        return values
    like = values.get("like") or values.get("kind")
    if not isinstance(like, str):  # None, or what validation refuses
        return values
    # Asking for a task finds that of an installed package, which is then among the recipes.
    asked = like in TASKS
    known = stage1_recipes()
    if not asked and like not in known:
        wrong_kind = values.get("like") is None
        raise ValueError(unknown_name("kind of task", like, KINDS) if wrong_kind else f"like: {unknown_name('recipe', like, known)}")
    base = known[like]
    for key in ("task", "kind"):
        if values.get(key, base.get(key)) != base.get(key, values.get(key)):
            raise ValueError(f"like: {like!r} is a recipe of {key} {base[key]!r}, not {values[key]!r}")
    options = {**base.get("task_options", {}), **(values.get("task_options") or {})}
    return {**base, **values, **({"task_options": options} if options else {})}
