"""Recipes of corpora: CSV files, mixtures, and one class per published corpus, distinguished by `kind`. No torch here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, JsonValue, model_validator
from typing_extensions import Self

from speechft.errors import ConfigError, unknown_name
from speechft.own_code import place_of
from speechft.plugins import Registry
from speechft.recipes.values import InputPath, Name, Pluggable, Positive, Strict, read_recipe, validate

COLUMNS = ("path", "id", "text", "speaker", "label", "split", "fold", "phones", "relevant")
"""Columns of a CSV corpus with a fixed meaning; all others are kept for tasks of the user's own."""
FIRST = (
    "For a rehearsal: keep this many utterances (or mixtures) at the start of each split, plus those needed to have every class, fold, "
    "speaker and kind of trial."
)


class CorpusRecipe(Strict):
    """A corpus listed in a CSV file: columns, splits and audio."""

    kind: Literal["csv", "mixtures"] = Field(
        "csv",
        description="Layout of the CSV. csv: one recording per row. mixtures: one source of a mixture per row; sources are mixed when the "
        "corpus is prepared.",
    )
    path: InputPath = Field(description="CSV file.")
    audio_root: InputPath | None = Field(None, description="Folder that paths in the CSV are relative to; default: the folder of the CSV.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Our column name -> name in the CSV, if they differ, e.g. {label: digit}. "
        "Ours: path id text speaker label split fold phones relevant. Other columns are kept under their names, for `tasks` that predict "
        "them.",
    )
    rttm: InputPath | None = Field(None, description="For diarization (SD): RTTM file with the speaker turns of the recordings.")
    trials: InputPath | None = Field(
        None, description="For speaker verification (ASV): CSV file with the columns label (1 = same speaker), enrolment and test (ids)."
    )
    channel: int | None = Field(None, ge=0, description="Channel to use of multichannel recordings; without it such recordings are errors.")
    dev_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None, description="For a corpus without a dev split: move this share of train to dev, selected by a hash of the id."
    )
    subset: Literal["tedlium"] | None = Field(
        None,
        description="tedlium: recordings of 1 to 60 s without `<unk>` in their text, and only the first 10 hours of train, as in the "
        "released fine-tuning on TED-LIUM 3.",
    )
    default_split: Literal["train", "dev", "test"] | None = Field(None, description="Split of all rows, if the CSV has no split column.")
    unlabelled: bool = Field(False, description="Put every row into train, without labels (for pre-training).")
    first: Positive | None = Field(None, description=FIRST)

    @model_validator(mode="after")
    def _mixtures_define_themselves(self) -> CorpusRecipe:
        given = sorted(self.model_fields_set - {"kind", "path", "audio_root", "first"})
        given = [name for name in given if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True)]
        if self.kind == "mixtures" and given:
            raise ValueError(f"a corpus of kind mixtures only takes `path`, `audio_root` and `first`, not {', '.join(given)}")
        return self


class PublishedCorpus(Strict):
    """A corpus as distributed by its authors."""

    path: InputPath = Field(description="Folder of the unpacked corpus, with the layout of its archive.")
    complete: bool = Field(
        True, description="Whether a size that differs from the published one is an error; if false, corpus.json records the difference."
    )
    first: Positive | None = Field(None, description=FIRST)

    # Keys that only CSV corpora have.
    channel: ClassVar[int | None] = None
    dev_fraction: ClassVar[float | None] = None
    default_split: ClassVar[None] = None
    rttm: ClassVar[None] = None
    unlabelled: ClassVar[bool] = False

    @model_validator(mode="after")
    def _first_is_a_part(self) -> Self:
        if self.first is not None and self.complete:
            raise ValueError("first: keeps only a part of the corpus; add `complete: false`")
        return self


class LibriSpeech(PublishedCorpus):
    """LibriSpeech for PR and ASR: train-clean-100, dev-clean and test-clean."""

    kind: Literal["librispeech"]
    lexicon: tuple[str, ...] = Field(
        (),
        description="Pronunciation lexicons in order of preference: files or cmudict. PR on this corpus uses them unless its task_options "
        "name others; a word in none of them is an error. Those in config/lexicons.tsv are downloaded to lexicons/.",
    )


class VoxCeleb1(PublishedCorpus):
    """VoxCeleb1 for SID or ASV."""

    kind: Literal["voxceleb1"]
    use: Literal["sid", "asv"] = Field(
        description="sid: all speakers, split by `split_list`. asv: train is dev/wav, test the recordings in `trials`."
    )
    split_list: InputPath | None = Field(
        None, description="For SID: file with lines `1|2|3 idXXXXX/video/utterance.wav` (1 train, 2 dev, 3 test)."
    )
    trials: InputPath | None = Field(
        None, description="For ASV: file with lines `1|0 idXXXXX/video/utterance.wav idXXXXX/video/utterance.wav`."
    )


class SpeechCommands(PublishedCorpus):
    """Speech Commands v0.01 for KS, with its official test set."""

    kind: Literal["speech_commands"]


class FluentSpeechCommands(PublishedCorpus):
    """Fluent Speech Commands for IC."""

    kind: Literal["fluent_speech_commands"]


class Iemocap(PublishedCorpus):
    """IEMOCAP for ER: four classes, five folds."""

    kind: Literal["iemocap"]
    order: Literal["names"] | InputPath | None = Field(
        None,
        description="Order of recordings: a folder with s3prl's Session1..5/test_meta_data.json, or `names` (sorted by name). "
        "Default: the lists in the corpus folder's `meta_data`, otherwise those of an installed s3prl, otherwise sorted by name.",
    )


class AudioSnips(PublishedCorpus):
    """Audio SNIPS for SF."""

    kind: Literal["audio_snips"]


class Quesst14(PublishedCorpus):
    """QUESST 2014 for QbE: the English queries and documents."""

    kind: Literal["quesst14"]


class Libri2Mix(PublishedCorpus):
    """Libri2Mix for SD, as Kaldi data folders."""

    kind: Literal["libri2mix"]
    audio_root: InputPath | None = Field(None, description="Folder that paths in wav.scp are relative to; default: the corpus folder.")


class Timit(PublishedCorpus):
    """TIMIT for PC: 61 phones with times, development and core test speakers."""

    kind: Literal["timit"]


class TedLium3(PublishedCorpus):
    """TED-LIUM 3 for ASR: the segments of its talks, legacy split."""

    kind: Literal["tedlium3"]
    subset: Literal["tedlium"] | None = Field(
        "tedlium",
        description="tedlium: segments of 1 to 60 s without `<unk>` in their text, only the first 10 hours of train. null: all segments.",
    )


class CremaD(PublishedCorpus):
    """CREMA-D for ER: six classes, with our own speaker-disjoint splits."""

    kind: Literal["crema_d"]


class Aishell3(PublishedCorpus):
    """AISHELL-3 without labels, for continued pre-training."""

    kind: Literal["aishell3"]


class Aishell1(PublishedCorpus):
    """AISHELL-1 for Mandarin ASR."""

    kind: Literal["aishell1"]


Published = (
    LibriSpeech | VoxCeleb1 | SpeechCommands | FluentSpeechCommands | Iemocap | AudioSnips | Quesst14 | Libri2Mix | Timit
    | TedLium3 | CremaD | Aishell3 | Aishell1
)  # fmt: skip

KINDS: dict[str, type[PublishedCorpus]] = {get_args(model.model_fields["kind"].annotation)[0]: model for model in get_args(Published)}


class PluginCorpus(PublishedCorpus, Pluggable):
    """A corpus read by a plug-in's function (docs/extend.md)."""

    kind: Literal["plugin"]
    reader: Name = Field(description="Name under which a plug-in registered the function.")
    options: dict[str, JsonValue] = Field(default_factory=dict, description="Keyword arguments of the function.")

    @property
    def named(self) -> list[tuple[str, str]]:
        """Kind and name of the reader."""
        return [("corpus", self.reader)]

    @model_validator(mode="after")
    def _reader_takes_options(self) -> Self:
        if self.reader not in READERS:
            raise ValueError(f"reader: {unknown_name('reader', self.reader, READERS)} Name its plug-in under `plugins`, or with --plugin")
        try:
            inspect.signature(READERS[self.reader]).bind(self.path, **self.options)
        except TypeError as error:
            raise ValueError(f"options: the reader {self.reader!r} does not accept them ({error})") from None
        return self


def _accepted(_: str, reader: Any, __: str) -> tuple[Callable[..., Any], list[str | None]]:
    if not callable(reader):
        raise ValueError("is not a function")
    return reader, [place_of(getattr(reader, "__module__", ""))]


READERS: Registry[Callable[..., Any]] = Registry("corpus", _accepted, {})
"""Name -> function of a plug-in that takes a corpus folder and options as keyword arguments and returns a `Listing`."""


class UnionCorpus(Strict):
    """A corpus that combines others split by split."""

    kind: Literal["union"]
    of: tuple[Name, ...] = Field(min_length=2)


def corpus_members(corpora: Mapping[str, Any], name: str) -> list[str]:
    """List the corpora that a union combines, nested unions resolved; any other corpus gives itself."""
    members: list[str] = []
    seen, waiting = set(), [name]
    while waiting:
        seen.add(current := waiting.pop(0))
        corpus = corpora[current]
        if isinstance(corpus, UnionCorpus):
            waiting += [member for member in corpus.of if member not in seen]
        else:
            members.append(current)
    return members


def corpus_lexicon(corpora: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return the lexicons of a corpus; for a union, those of its members."""
    members = [corpora[member] for member in corpus_members(corpora, name)]
    return tuple(dict.fromkeys(source for member in members for source in getattr(member, "lexicon", ())))


def corpus_recipe(values: Any, source: str) -> CorpusRecipe | PublishedCorpus:
    """Build a corpus recipe from plain values read from `source`.

    Raises:
        ConfigError: unknown kind or key, or invalid value.
    """
    kind = values.get("kind", "csv") if isinstance(values, dict) else "csv"
    if not isinstance(kind, str):
        raise ConfigError(f"{source}: kind: {kind!r} is not a name.")
    tables = dict.fromkeys(get_args(CorpusRecipe.model_fields["kind"].annotation), CorpusRecipe)
    models: dict[str, type[CorpusRecipe | PublishedCorpus]] = {**tables, **KINDS, "plugin": PluginCorpus}
    if kind not in models:
        raise ConfigError(f"{source}: kind: {kind!r} is not one of {', '.join(models)}.")
    return validate(models[kind], values, source)


def load_corpus_recipe(path: str | Path) -> CorpusRecipe | PublishedCorpus:
    """Read the recipe file (JSON) of a corpus of any kind except union."""
    return corpus_recipe(read_recipe(path), str(path))
