"""Presets of stage 1: the two recipes released by the authors, and ours for every other task. No torch here."""

from __future__ import annotations

from typing import Any

from speechft.errors import unknown_name
from speechft.tasks.catalog import ASR_HEAD, CLASSES, KINDS, SEQUENCES, TASKS

# The 32 letters of wav2vec 2.0; SpecAugment as in SUPERB's ASR. The released code selects by character errors, but calls them word errors.
_TEDLIUM = {"spelling": "tedlium", "spec_augment": True, "selection": "cer", **ASR_HEAD}

RELEASED_RECIPES: dict[str, dict[str, Any]] = {
    # The released code always halves its buckets of 32.
    "asr_tedlium": {**SEQUENCES, "task": "asr", "task_options": _TEDLIUM, "batch_size": 32, "accumulate": 1, "order": "superb"},
    # First fold of IEMOCAP: session 1 is left out, a fifth of the rest is dev.
    "er_iemocap": {**CLASSES, "task": "er", "batch_size": 4, "accumulate": 8, "order": "superb", "fold": "1"},
}
"""Configurations released by the authors, for corpora prepared as in docs/finetuning.md."""


def stage1_recipes() -> dict[str, dict[str, Any]]:
    """Presets by name: the released ones, and ours for every task and kind without a published recipe."""
    tasks = {name: {"task": name, **entry.stage1} for name, entry in TASKS.items() if entry.stage1 is not None}
    kinds = {kind: {"kind": kind, **entry.stage1} for kind, entry in KINDS.items() if entry.stage1 is not None}
    return RELEASED_RECIPES | tasks | kinds


def named_recipe(values: Any) -> Any:
    """Fill unset keys and task options from the preset that `like` names, or from that of `kind`.

    Raises:
        ValueError: unknown preset or kind, or the preset is for another task.
    """
    if not isinstance(values, dict):
        return values
    like = values.get("like") or values.get("kind")
    if not isinstance(like, str):  # None, or what validation refuses
        return values
    # `in` also loads entry points, whose tasks are then among the presets.
    asked = like in TASKS
    known = stage1_recipes()
    if not asked and like not in known:
        wrong_kind = values.get("like") is None
        raise ValueError(unknown_name("kind of task", like, KINDS) if wrong_kind else f"like: {unknown_name('preset', like, known)}")
    base = known[like]
    for key in ("task", "kind"):
        if values.get(key, base.get(key)) != base.get(key, values.get(key)):
            raise ValueError(f"like: {like!r} is a preset for {key} {base[key]!r}, not {values[key]!r}")
    options = {**base.get("task_options", {}), **(values.get("task_options") or {})}
    return {**base, **values, **({"task_options": options} if options else {})}
