"""A frozen model of the user's own: how its class is named, and the file that holds it. Nothing here imports or runs that file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue

from speechft.errors import CheckpointError, ConfigError
from speechft.own_code import CLASS_NAME, code_beside, find_code, place_of
from speechft.plugins import Registry
from speechft.recipes.values import Strict

FORMS = "my_package.my_module:MyEncoder (on PYTHONPATH) or path/to/file.py:MyEncoder"


def _accepted(_: str, encoder: Any, place: str) -> tuple[str, list[str | None]]:
    """An encoder as the name of its class."""
    if isinstance(encoder, type):
        encoder = f"{place_of(encoder.__module__)}:{encoder.__qualname__}"
    if not isinstance(encoder, str) or not CLASS_NAME.fullmatch(encoder):
        raise ValueError(f"{encoder!r} names no class; write {FORMS}")
    return code_beside(place, encoder), []


ENCODERS: Registry[str] = Registry("encoder", _accepted, {})
"""Name -> class of an encoder of a plug-in, as `my_module:MyEncoder` or `path/to/file.py:MyEncoder`."""


def _checked(name: str) -> str:
    name = ENCODERS.get(name, name)
    if not CLASS_NAME.fullmatch(name):
        raise ValueError(f"{name!r} names no class; write {FORMS}")
    return name


ClassName = Annotated[str, AfterValidator(_checked)]
"""`my_package.my_module:MyEncoder` or `path/to/file.py:MyEncoder`, or the name of an encoder of a plug-in, which becomes one of these."""


class ModuleRecord(Strict):
    """What decides the features of a frozen model of the user's own; part of a cell."""

    name: str | None = Field(description="As it was named, such as my_module:MyEncoder; null for an object in Python.")
    class_name: str = Field(description="Of the object, without its module.")
    options: dict[str, JsonValue] = Field(default_factory=dict, description="Keyword arguments that it was made with.")
    sources: dict[str, str] = Field(description="SHA-256 of the file that was named, and of the one that defines the object's class.")
    state_sha256: str = Field(description="Of the tensors of its state dict.")
    depends_on_batch: bool = Field(
        False, description="Features depend on what else is in a batch, so every utterance was a batch by itself."
    )


def is_class_name(model: Any) -> bool:
    """Whether `model` names a class of the user's own, or an encoder of a plug-in, and no path that is there."""
    named = isinstance(model, str | Path) and not Path(model).exists()
    return named and (CLASS_NAME.fullmatch(str(model)) is not None or str(model) in ENCODERS)


def split_name(name: str) -> tuple[str, str]:
    """Module or file, and attribute.

    Raises:
        ConfigError: `name` has another form.
    """
    match = CLASS_NAME.fullmatch(ENCODERS.get(name, name))
    if match is None:
        raise ConfigError(f"{name!r} names no class. Write {FORMS}.")
    return match["place"], match["attribute"]


def refuse_class(model: Any) -> None:
    """Raise a CheckpointError if `model` is a frozen model of the user's own, where only encoder directories will do."""
    if is_class_name(model) or hasattr(model, "get_downsample_rates"):
        shown = model if isinstance(model, str | Path) else type(model).__name__
        raise CheckpointError(
            f"{shown}: is a module of your own, which can only be evaluated: it is not imported, merged, fine-tuned, analysed or exported."
        )


def source_file(name: str) -> Path:
    """The Python file of a class, found as `import` finds it, but without running any code.

    Raises:
        ConfigError: there is none.
    """
    place, attribute = split_name(name)
    return find_code(f"{place}:{attribute}", f"the encoder {name}", FORMS)


def expected_file(name: str) -> Path:
    """The file of a class, or where it would be: a module that is not on PYTHONPATH as if it were in the current folder."""
    place, _ = split_name(name)
    if place.endswith(".py"):
        return Path(place)
    try:
        return source_file(name)
    except ConfigError:
        return Path(*place.split(".")).with_suffix(".py")


def parse_options(words: Iterable[str]) -> dict[str, Any]:
    """Keyword arguments from `KEY=VALUE`: a value that is JSON stands for what it says, any other for its text.

    Raises:
        ConfigError: a word without a key, or a key given twice.
    """
    options: dict[str, Any] = {}
    for word in words:
        key, given, text = word.partition("=")
        if not given or not key.isidentifier():
            raise ConfigError(f"--encoder-option {word}: write KEY=VALUE, with a keyword argument of the class as the key.")
        if key in options:
            raise ConfigError(f"--encoder-option {key}: is given twice.")
        try:
            options[key] = json.loads(text, parse_constant=_refuse)
        except ValueError:
            options[key] = text
    return options


def _refuse(constant: str) -> Any:
    raise ValueError(constant)  # NaN and Infinity are no JSON


def option_words(options: dict[str, Any]) -> list[str]:
    """The words of a command line that `parse_options` reads."""
    return [word for key, value in options.items() for word in ("--encoder-option", f"{key}={json.dumps(value)}")]
