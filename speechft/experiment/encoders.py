"""Encoders of an experiment: pre-trained by the workflow, imported, computed, or a module of the user's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints, field_validator

from speechft.downloads.checkpoints import public_checkpoint, public_checkpoints
from speechft.downloads.tables import PublicFile
from speechft.recipes.modules import ClassName, expected_file, option_words
from speechft.recipes.pretraining import FbankRecipe, LayerTargets, PretrainRecipe
from speechft.recipes.values import InputPath, Name, Strict

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

ModelSettings = Annotated[InputPath | None, Field(description="JSON file with model settings missing from the checkpoint.")]


def _words(options: Mapping[str, str | Path | None]) -> list[str]:
    """Convert options that are set to command-line words."""
    texts = {option: value.as_posix() if isinstance(value, Path) else value for option, value in options.items() if value}
    return [word for option, text in texts.items() for word in (option, str(text))]


class PretrainedHere(Strict):
    """An encoder that the workflow pre-trains, from random weights or from another encoder."""

    kind: Literal["pretrain"]
    corpora: tuple[Name, ...] = Field(min_length=1, description="Corpora whose train splits provide the training audio.")
    start: Name | None = Field(None, description="Encoder to start from; default: random weights.")
    recipe: PretrainRecipe = PretrainRecipe()
    store_as: Name | None = Field(
        None, description="Name of the half-precision copy that the target mini_encoders writes to mini/encoders."
    )


class PretrainedElsewhere(Strict):
    """An encoder imported from a checkpoint file or directory."""

    kind: Literal["checkpoint"]
    path: InputPath = Field(description="fairseq or s3prl checkpoint, or transformers directory.")
    family: (
        Literal[
            "hubert", "wav2vec2", "wavlm", "decoar2",
            "data2vec-audio", "unispeech-sat", "wav2vec2-conformer", "wav2vec2-bert", "whisper",
        ]
        | None
    ) = Field(None, description="Encoder family; default: detected from the content.")  # fmt: skip
    format: Literal["fairseq", "s3prl", "s3prl_run", "wavlm", "decoar2", "state_dict", "transformers"] | None = Field(
        None, description="Layout of the file; default: detected from the content."
    )
    config: ModelSettings = None
    base: InputPath | None = Field(
        None, description="Encoder directory: base of a PEFT adapter, or source of the configuration for a bare state dict."
    )
    sha256: Sha256 | None = Field(None, description="Expected SHA-256 of the file; not checked by default.")

    @property
    def import_options(self) -> list[str]:
        """Options of `speechft import`."""
        options = {"--family": self.family, "--sha256": self.sha256, "--format": self.format}
        return _words({**options, "--base": self.base, "--config": self.config})


class PublicEncoder(Strict):
    """An encoder listed in config/encoders.tsv. The workflow downloads its checkpoint if missing."""

    kind: Literal["public"]
    name: str = Field(description="Name in config/encoders.tsv.")
    path: InputPath | None = Field(None, description="Location of the file; default: its published name in checkpoints/.")
    url: Annotated[str, StringConstraints(pattern=r"^(https?|file)://\S+$")] | None = Field(
        None, description="URL to download from, such as file:///mirror/hubert.pt; default: the published one."
    )
    sha256: Sha256 | None = Field(
        None, description="Expected SHA-256, for a file that replaces the published one, as in a rehearsal; default: the published hash."
    )
    config: ModelSettings = None

    @field_validator("name")
    @classmethod
    def _is_in_the_table(cls, name: str) -> str:
        known = public_checkpoints()
        if name not in known:
            raise ValueError(f"is not in config/encoders.tsv; available: {', '.join(known)}")
        return name

    @property
    def checkpoint(self) -> PublicFile:
        """The public checkpoint, with the path and hash given here."""
        known = public_checkpoint(self.name)
        if self.sha256:
            known = dataclasses.replace(known, sha256=self.sha256, bytes=None)
        return dataclasses.replace(known, path=self.path or known.path)

    @property
    def fetch_arguments(self) -> list[str]:
        """Arguments of `speechft fetch` except the path."""
        return [self.name, *_words({"--url": self.url, "--sha256": self.sha256})]

    @property
    def import_options(self) -> list[str]:
        """Options of `speechft import`."""
        return _words({"--family": self.checkpoint.family, "--sha256": self.checkpoint.sha256, "--config": self.config})


class Filterbanks(Strict):
    """Log-mel filterbanks, SUPERB's FBANK, as an encoder without weights. It can only be evaluated: tables have one row for it."""

    kind: Literal["fbank"]
    label: str = Field("FBANK", description="Name in tables.")
    recipe: FbankRecipe = FbankRecipe()


class FrozenModule(Strict):
    """A frozen model of the user's own with the interface of s3prl's upstreams. It can only be evaluated: tables have one row for it."""

    kind: Literal["module"]
    module: ClassName = Field(description="my_package.my_module:MyEncoder on PYTHONPATH, or path/to/file.py:MyEncoder.")
    options: dict[str, JsonValue] = Field(default_factory=dict, description="Keyword arguments of the class.")
    files: tuple[InputPath, ...] = Field((), description="Other files that the class reads, such as weights; cells rerun if one is newer.")
    label: str = Field("Frozen module", description="Name in tables.")

    @property
    def inputs(self) -> list[str]:
        """Files that determine the features, the source first. They may be missing, so that plans work without them."""
        return [expected_file(self.module).as_posix(), *(path.as_posix() for path in self.files)]

    @property
    def arguments(self) -> list[str]:
        """Command-line words that name the module and its options."""
        return [self.module, *option_words(self.options)]


EncoderEntry = Annotated[PretrainedHere | PretrainedElsewhere | PublicEncoder | Filterbanks | FrozenModule, Field(discriminator="kind")]

ONLY_EVALUATED = (Filterbanks, FrozenModule)
"""Kinds of encoders that cannot be fine-tuned or merged."""


def encoders_behind(entry: EncoderEntry) -> list[str]:
    """List the encoders that a pre-training depends on: its start and the source of its targets."""
    if not isinstance(entry, PretrainedHere):
        return []
    named = [entry.start, entry.recipe.targets.encoder if isinstance(entry.recipe.targets, LayerTargets) else None]
    return [name for name in dict.fromkeys(named) if name is not None]
