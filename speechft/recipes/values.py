"""Value types of recipes and experiments, and validation whose errors name the file, the key and what is allowed."""

from __future__ import annotations

import difflib
import math
import types
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import Self

from speechft.errors import ConfigError, SpeechFTError
from speechft.files.structured import read_json
from speechft.files.text import on_disk
from speechft.own_code import looking_in
from speechft.plugins import files_of, load_recorded

_SHOWN = 100

ModelType = TypeVar("ModelType", bound=BaseModel)
Value = TypeVar("Value")


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"{twice[0]!r} appears twice")
    return names


DIFFERENT = AfterValidator(_different)
"""Validator of a list of names: each appears once."""
InputPath = Annotated[Path, AfterValidator(on_disk)]
"""A file or folder named in a configuration, in the Unicode normalization form used on disk."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32 - 1)]
"""Seed valid for every random number generator used: NumPy's accept 32 bits, and fairseq adds the epoch, which is 1."""
FeaturePrecision = Literal["fp32", "bf16"]
"""Precision in which a frozen encoder computes features."""


class Strict(BaseModel):
    """Base of all configuration: unknown keys and non-finite numbers are errors, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class Sparse(Strict):
    """Base of recipes that write `kind` and `plugins` only if set, so that recipes without them keep their hash."""

    @property
    def unwritten(self) -> set[str]:
        """Keys omitted from JSON."""
        return {key for key in ("kind", "plugins") if not getattr(self, key, None)}

    @model_serializer(mode="wrap")
    def _without_nothing(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in as_usual(self).items() if key not in self.unwritten}


class Pluggable(Sparse):
    """Base of recipes that can name entries of plug-ins. They record the plug-in's code, so that editing it changes the recipe."""

    plugins: SkipJsonSchema[dict[str, str]] = Field(
        default_factory=dict, description="Code of the plug-ins needed: file or module -> SHA-256. Filled in automatically."
    )

    @property
    @abstractmethod
    def named(self) -> Iterable[tuple[str, str]]:
        """Kind and name of every entry that a plug-in may define."""

    @model_validator(mode="after")
    def _record_plugins(self) -> Self:
        needed = {place: sha256 for kind, name in self.named for place, sha256 in files_of(kind, name).items()}
        if self.plugins not in ({}, needed):
            others = ", ".join(place for place, _ in sorted(self.plugins.items() ^ needed.items()))
            raise ValueError(f"plugins: does not match the names in the recipe ({others}); omit it, it is filled in automatically")
        self.__dict__["plugins"] = needed  # not a key that the user set, so not in model_fields_set
        return self


def validate(model: type[ModelType], values: Any, source: str) -> ModelType:
    """Build `model` from plain values.

    Raises:
        ConfigError: names `source` and lists every problem with its key, the value found and what is allowed.
    """
    try:
        instance = model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, model, values, source)) from None
    # Options of tasks and methods are untyped here; their own checks come later.
    lines = [f"  {key}: Input should be a finite number, found {value}" for key, value in _not_finite(values, ())]
    if lines:
        raise ConfigError("\n".join([_heading(source, lines), *lines]))
    return instance


def _heading(source: str, problems: list[str]) -> str:
    return f"{source}: {len(problems)} problem{'s' if len(problems) > 1 else ''}"


def _not_finite(values: Any, keys: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """Yield keys and values of all non-finite numbers in plain `values`."""
    if isinstance(values, float) and not math.isfinite(values):
        yield ".".join(keys), values
    members = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list | tuple) else ()
    for key, value in members:
        yield from _not_finite(value, (*keys, str(key)))


def _explain(error: ValidationError, model: type[BaseModel], values: Any, source: str) -> str:
    lines = []
    # A default cannot be computed because a field it depends on is wrong, which is reported itself.
    for problem in [problem for problem in error.errors() if problem["type"] != "default_factory_not_called"]:
        location = problem["loc"]
        key = ".".join(_keys_in(values, model, location))
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key" + _spelling_hint(str(location[-1]), _keys_at(model, location[:-1]))
        elif problem["type"] == "missing":
            message = "is missing"
        elif isinstance(problem["input"], str | int | float | bool | None):
            message = f"{message}, found {_short(problem['input'])}"
        # Problems of several keys together name them: one a line.
        lines += [f"  {key}: {message}"] if key else [f"  {line}" for line in message.splitlines()]
    return "\n".join([_heading(source, lines), *lines])


def _short(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        return "a longer number"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _keys_in(values: Any, model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Convert pydantic's `location` to keys of the file, without the union tags that it inserts."""
    keys = []
    for place, part in enumerate(location):
        if isinstance(values, dict) and (part in values or part in _keys_at(model, location[:place])):
            values = values.get(part)
        elif isinstance(values, list | tuple) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            continue
        keys.append(str(part))
    return keys


def _spelling_hint(key: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(key, allowed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} Allowed here: {', '.join(sorted(allowed))}" if allowed else hint


def _keys_at(annotation: Any, location: tuple[int | str, ...]) -> list[str]:
    """Field names of the model at `location` inside `annotation`; empty if there is no model."""
    if get_origin(annotation) in (Union, types.UnionType):
        candidates = [_keys_at(member, location) for member in get_args(annotation)]
        # In a discriminated union pydantic puts the tag of the chosen member into the location.
        candidates += [_keys_at(member, location[1:]) for member in get_args(annotation) if location and _has_tag(member, location[0])]
        return next((keys for keys in reversed(candidates) if keys), [])
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    if not location:
        return [field.alias or name for name, field in annotation.model_fields.items()] if is_model else []
    head, rest = location[0], location[1:]
    if is_model:
        field = annotation.model_fields.get(str(head))
        return _keys_at(field.annotation, rest) if field else []
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return _keys_at(arguments[1], rest)
    if get_origin(annotation) in (tuple, list):
        return _keys_at(arguments[0], rest)
    return _keys_at(arguments[0], location) if arguments else []


def _has_tag(model: Any, tag: int | str) -> bool:
    kind = getattr(model, "model_fields", {}).get("kind")
    return kind is not None and tag in get_args(kind.annotation)


# Names become folders and wildcards, so slashes and dots are not allowed, except in speech_ft@0.50.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_@+-]*$|^[A-Za-z0-9][A-Za-z0-9_+-]*@[0-9.]+$")]


def read_recipe(path: str | Path, read: Callable[[str | Path], Value] = read_json) -> Value:
    """Read a recipe file with `read` and load its plug-ins, which may be in any folder above the file."""
    values = read(path)
    with looking_in(*Path(path).absolute().parents):
        load_recorded(values)
    return values


def load_result(model: type[ModelType], path: str | Path, error: type[SpeechFTError], refusal: str) -> ModelType:
    """Read a result file (JSON) of a command.

    Raises:
        SpeechFTError: the file is missing, is not JSON or not such a result. Its class is `error`; `refusal` ends its message.
    """
    try:
        return validate(model, read_json(path), str(path))
    except ConfigError as problem:
        raise error(f"{problem}\n{refusal}") from None
    except SpeechFTError as problem:
        raise error(str(problem)) from None


def load_recipe(model: type[ModelType], path: str | Path) -> ModelType:
    """Read a recipe file (JSON) written by the workflow or a user."""
    return validate(model, read_recipe(path), str(path))
