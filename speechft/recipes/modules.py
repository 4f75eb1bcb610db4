"""Frozen models of the user's own: names of their classes, and the files that define them. Nothing here imports or runs these files."""

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
    """Convert a registered encoder to the name of its class."""
    if isinstance(encoder, type):
        encoder = f"{place_of(encoder.__module__)}:{encoder.__qualname__}"
    if not isinstance(encoder, str) or not CLASS_NAME.fullmatch(encoder):
        raise ValueError(f"{encoder!r} is not the name of a class; write {FORMS}")
    return code_beside(place, encoder), []


ENCODERS: Registry[str] = Registry("encoder", _accepted, {})
"""Name of a plug-in's encoder -> its class, as `my_module:MyEncoder` or `path/to/file.py:MyEncoder`."""


def _checked(name: str) -> str:
    name = ENCODERS.get(name, name)
    if not CLASS_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a class; write {FORMS}")
    return name


ClassName = Annotated[str, AfterValidator(_checked)]
"""`my_package.my_module:MyEncoder` or `path/to/file.py:MyEncoder`; the name of a plug-in's encoder is converted to one of these."""


class ModuleRecord(Strict):
    """Everything in a cell that determines the features of a frozen model of the user's own."""

    name: str | None = Field(description="Name as given, such as my_module:MyEncoder; null for a Python object.")
    class_name: str = Field(description="Class of the object, without its module.")
    options: dict[str, JsonValue] = Field(default_factory=dict, description="Keyword arguments of the class.")
    sources: dict[str, str] = Field(description="SHA-256 of the named file, and of the one that defines the object's class.")
    state_sha256: str = Field(description="SHA-256 of the tensors in its state dict.")
    depends_on_batch: bool = Field(
        False, description="Whether features depend on the rest of a batch; if so, every utterance was encoded by itself."
    )


def is_class_name(model: Any) -> bool:
    """Whether `model` names a class of the user's own or a plug-in's encoder, and is not an existing path."""
    named = isinstance(model, str | Path) and not Path(model).exists()
    return named and (CLASS_NAME.fullmatch(str(model)) is not None or str(model) in ENCODERS)


def split_name(name: str) -> tuple[str, str]:
    """Split the name of a class into module or file, and attribute.

    Raises:
        ConfigError: `name` has another form.
    """
    match = CLASS_NAME.fullmatch(ENCODERS.get(name, name))
    if match is None:
        raise ConfigError(f"{name!r} is not the name of a class. Write {FORMS}.")
    return match["place"], match["attribute"]


def refuse_class(model: Any) -> None:
    """Raise a CheckpointError if `model` is a frozen model of the user's own, for commands that need an encoder directory."""
    if is_class_name(model) or hasattr(model, "get_downsample_rates"):
        shown = model if isinstance(model, str | Path) else type(model).__name__
        raise CheckpointError(
            f"{shown}: is a module of your own, which can only be evaluated, not imported, merged, fine-tuned, analysed or exported."
        )


def source_file(name: str) -> Path:
    """Find the Python file of a class like `import` does, but without running any code.

    Raises:
        ConfigError: no such file or module.
    """
    place, attribute = split_name(name)
    return find_code(f"{place}:{attribute}", f"the encoder {name}", FORMS)


def expected_file(name: str) -> Path:
    """Path of the file of a class, existing or not: a module that is not on PYTHONPATH is expected in the current folder."""
    place, _ = split_name(name)
    if place.endswith(".py"):
        return Path(place)
    try:
        return source_file(name)
    except ConfigError:
        return Path(*place.split(".")).with_suffix(".py")


def parse_options(words: Iterable[str]) -> dict[str, Any]:
    """Parse `KEY=VALUE` words into keyword arguments. Values are read as JSON if possible, otherwise as text.

    Raises:
        ConfigError: a word without a key, or a repeated key.
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
    raise ValueError(constant)  # NaN and Infinity are not JSON


def option_words(options: dict[str, Any]) -> list[str]:
    """Return the command-line words that `parse_options` reads."""
    return [word for key, value in options.items() for word in ("--encoder-option", f"{key}={json.dumps(value)}")]
