"""Several fine-tunings of one encoder, to be merged with each other: the `combinations` of an experiment file. No torch here."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, field_validator

from speechft.layouts import Name
from speechft.merge.base import MergeMethod
from speechft.stage1_entries import Finetuning
from speechft.validation import Strict


class Combination(Strict):
    """Fine-tunings whose models are merged. In tables and paths it stands in the place of a fine-tuning, under methods that merge."""

    of: tuple[Name, ...] = Field(min_length=2, description="Fine-tunings.")

    @field_validator("of")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("a fine-tuning is there twice")
        return names


def bad_combinations(combinations: Mapping[str, Combination], finetunings: Mapping[str, Finetuning]) -> list[str]:
    """What is wrong with combinations: their names, their members, or that these start from different models; empty if nothing."""
    defined = ", ".join(finetunings) or "none"
    problems = [
        f"combinations.{name}.of: {member!r} is not defined; defined are {defined}"
        for name, combination in combinations.items()
        for member in combination.of
        if member not in finetunings
    ]
    for name, combination in combinations.items():
        starts = {"/".join(finetunings[member].starts_from) for member in combination.of if member in finetunings}
        if len(starts) > 1:
            problems.append(
                f"combinations.{name}.of: these start from different models ({', '.join(sorted(starts))}), merges need one base"
            )
    problems += [f"combinations.{name}: a fine-tuning has this name; choose another" for name in combinations if name in finetunings]
    if "none" in combinations:
        problems.append("combinations.none: this name stands for the pre-trained encoder; choose another")
    return problems


def bad_rows(key: str, counts: Mapping[str, int], methods: Mapping[str, type[MergeMethod] | None]) -> list[str]:
    """Models that no rule makes: of a combination under a method that trains, or under a merge of another number of models.

    Args:
        key: where they stand, for messages.
        counts: fine-tunings and combinations, and how many models each of them has.
        methods: names, and how they merge; None: they train.
    """
    problems = []
    for name, count in counts.items():
        for method, merge in methods.items():
            if merge is None and count > 1:
                problems.append(
                    f"{key}: {method!r} trains, and {name!r} is a combination, which is only merged; give it a table of its own"
                )
            elif merge is not None and not merge.takes(count):
                problems.append(f"{key}: {method!r} merges by {merge.name}, which does not take the number of models of {name!r}, {count}")
    return problems
