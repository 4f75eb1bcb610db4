"""Sizes of a rehearsal: everything that it changes in an experiment, as listed in docs/rehearsal.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from speechft.tasks.catalog import known_entry


class Size(NamedTuple):
    """Maximum value of a key in a rehearsal; for a list, how many values are kept."""

    where: str
    key: str
    most: float
    meaning: str


SIZES = (
    Size("corpora", "first", 12, "utterances a split; more where classes, folds, speakers or trials need them"),
    Size("finetune", "updates", 20, "updates of stage 1; more where the head-only phase would have fewer than 2"),
    Size("finetune", "validate_every", 10, "updates between validations"),
    Size("finetune", "batch_size", 4, "utterances in a batch"),
    Size("finetune", "accumulate", 2, "batches in an update"),
    Size("pretrain", "updates", 20, "updates of pre-training, from random weights or continued"),
    Size("pretrain", "warmup_updates", 4, "updates of its warm-up"),
    Size("pretrain", "validate_every", 10, "updates between validations"),
    Size("pretrain", "batch_seconds", 15, "seconds of audio in an update"),
    Size("pretrain", "clusters", 8, "clusters of its targets"),
    Size("evaluate", "steps", 4, "steps of a head"),
    Size("evaluate", "eval_every", 2, "steps between validations"),
    Size("evaluate", "batch_size", 4, "utterances in a batch"),
    Size("evaluate", "accumulate", 2, "batches in a step"),
    Size("evaluate", "learning_rates", 2, "learning rates, the first ones"),
    Size("evaluate", "seeds", 2, "seeds, the first ones"),
    Size("head", "projected", 32, "width of a recurrent head's projection (ASR, SF)"),
    Size("head", "hidden", 32, "width of its layers (ASR, SF, SD)"),
    Size("head", "width", 32, "width of the x-vector head (ASV)"),
    Size("head", "pooled_width", 64, "width of the layer that it pools (ASV)"),
    Size("head", "min_seconds", 0.5, "seconds of the shortest training utterance (ASV)"),
    Size("analyse", "utterances", 12, "utterances of a similarity analysis"),
    Size("resources", "threads", 1, "threads of a job"),
    Size("resources", "mem_mb", 8000, "megabytes of a job"),
    Size("resources", "runtime", 60, "minutes of a job"),
)
HEAD_ONLY_UPDATES = 2
"""Minimum updates of the head-only phase, so that the switch from head to encoder happens."""


def smaller(where: str, values: Mapping[str, Any], defaults: type[BaseModel] | None = None) -> dict[str, Any]:
    """Limit every key that SIZES lists under `where`; null values are kept.

    Args:
        where: part of an experiment.
        values: keys and values as in an experiment file.
        defaults: class with the defaults of missing keys; without it, missing keys stay missing.
    """
    small = dict(values)
    for size in SIZES:
        field = defaults.model_fields.get(size.key) if defaults else None
        value = small.get(size.key, field.default if field else None)
        if size.where != where or value is None:
            continue
        if isinstance(value, list | tuple):
            small[size.key] = list(value[: int(size.most)])
        else:
            small[size.key] = int(size.most) if value == "auto" else min(value, type(value)(size.most))
    return small


def smaller_head(task: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Limit the head widths in the options of a task (or kind), also those that are not given and so are SUPERB's."""
    widths = {size.key: size.most for size in SIZES if size.where == "head" and size.key in known_entry(task).head_options}
    return {**options, **{key: min(options.get(key, most), most) for key, most in widths.items()}}
