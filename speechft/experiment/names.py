"""Names in an experiment, and regular expressions for the wildcards of the Snakemake rules."""

from __future__ import annotations

import re
from collections.abc import Iterable

from speechft.experiment.encoders import Filterbanks, FrozenModule, PretrainedElsewhere, PretrainedHere, PublicEncoder
from speechft.experiment.methods import FINETUNED, EarlyMethod, MergedMethod, TrainedMethod
from speechft.experiment.schema import Experiment
from speechft.recipes.alphas import ALPHA_PATTERN
from speechft.recipes.corpora import CorpusRecipe, PublishedCorpus, UnionCorpus


def one_of(names: Iterable[str]) -> str:
    """Build a regular expression that matches any of `names`; without names it matches nothing."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


class _Named:
    """Names of entries of given kinds in one section of the experiment."""

    def __init__(self, section: str, *kinds: type) -> None:
        self.section, self.kinds = section, kinds

    def __get__(self, names: Names, _owner: type) -> list[str]:
        return [name for name, entry in getattr(names.experiment, self.section).items() if isinstance(entry, self.kinds)]


class Names:
    """Names of an experiment's entries, grouped by what the workflow does with them."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    unions = _Named("corpora", UnionCorpus)
    """Corpora that combine others."""
    listed_corpora = _Named("corpora", CorpusRecipe, PublishedCorpus)
    """Corpora prepared from files on disk."""
    pretrained_here = _Named("encoders", PretrainedHere)
    """Encoders that the workflow pre-trains."""
    imported = _Named("encoders", PretrainedElsewhere, PublicEncoder)
    """Encoders imported from checkpoints."""
    filterbanks = _Named("encoders", Filterbanks)
    """Encoders without weights."""
    modules = _Named("encoders", FrozenModule)
    """Encoders that are modules of the user's own."""
    trained_methods = _Named("methods", TrainedMethod)
    """Methods of stage 1."""
    early_methods = _Named("methods", EarlyMethod)
    """Methods that use an early checkpoint of another method's run."""
    merged_methods = _Named("methods", MergedMethod)
    """Methods of stage 2."""

    @property
    def stored(self) -> dict[str, str]:
        """Name of each stored half-precision copy -> the pre-trained encoder."""
        entries = self.experiment.encoders.items()
        return {entry.store_as: name for name, entry in entries if isinstance(entry, PretrainedHere) and entry.store_as}

    @property
    def labelled_finetunings(self) -> list[str]:
        """Fine-tunings on a task."""
        return [name for name, tuning in self.experiment.finetunings.items() if tuning.recipe is not None]

    @property
    def unlabelled_finetunings(self) -> list[str]:
        """Fine-tunings without labels (continued pre-training)."""
        return [name for name, tuning in self.experiment.finetunings.items() if tuning.pretraining is not None]

    @property
    def merge_pattern(self) -> str:
        """Regular expression of the methods of stage 2, also with @alpha appended."""
        with_alpha = [f"{re.escape(name)}@{ALPHA_PATTERN}" for name in self.merged_methods]
        return "|".join([one_of(name for name in self.merged_methods if name not in self.chosen_methods), *with_alpha])

    @property
    def chosen_methods(self) -> list[str]:
        """Methods of stage 2 whose alpha is chosen on dev."""
        return [name for name in self.merged_methods if self.experiment.merge_recipe(name).alpha == "dev"]

    @property
    def method_pattern(self) -> str:
        """Regular expression of all methods."""
        given = [FINETUNED] if self.experiment.given else []
        named = ["pretrained", *given, *self.trained_methods, *self.early_methods, *self.chosen_methods]
        return f"{one_of(named)}|{self.merge_pattern}"
