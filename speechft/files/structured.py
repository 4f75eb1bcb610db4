"""Read JSON and YAML with clear errors, refusing repeated keys, and write them atomically."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from speechft.errors import ConfigError, SpeechFTError
from speechft.files.atomic import write_text
from speechft.files.text import read_text

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(?P<key>\s*:)?|[{}\[\]]', re.S)


class RepeatedKeyError(ValueError):
    """A key appears twice in a mapping; the text is `line 3: key 'x' appears twice`."""

    def __init__(self, line: int, key: object) -> None:
        super().__init__(f"line {line}: key {key!r} appears twice; keep one")


def load_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        RepeatedKeyError: a key appears twice in a mapping.
        ValueError: the text is not JSON.
    """

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            raise _first_repeated(text)
        return values

    return json.loads(text, object_pairs_hook=mapping)


def _first_repeated(text: str) -> RepeatedKeyError:
    """Locate the first repeated key in a JSON text."""
    inside: list[set[str]] = []
    for token in _TOKEN.finditer(text):
        if token[0] in "{[":
            inside.append(set())
        elif token[0] in "}]":
            inside.pop()
        elif token["key"]:
            key = json.loads(token[0].removesuffix(token["key"]))
            if key in inside[-1]:
                return RepeatedKeyError(text.count("\n", 0, token.start()) + 1, key)
            inside[-1].add(key)
    raise AssertionError("the text has no repeated key")


def load_yaml(text: str) -> Any:
    """Parse YAML.

    Raises:
        RepeatedKeyError: a key appears twice in a mapping.
        yaml.YAMLError: the text is not YAML.
    """
    return yaml.load(text, Loader=_Strict)


class _Strict(yaml.SafeLoader):
    """PyYAML's safe loader with repeated keys as errors."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Only the mapping's own keys: keys merged by `<<` are added later and may repeat them.
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                identity = (key.tag, key.value)
                if identity in seen:
                    raise RepeatedKeyError(key.start_mark.line + 1, key.value)
                seen.add(identity)
        return node


def check_experiments(paths: Iterable[str | Path]) -> None:
    """Refuse experiment files (YAML or JSON) with a repeated key, since Snakemake silently keeps the last value.

    Raises:
        ConfigError: names the file, the line and the key.
    """
    for path in paths:
        text = read_text(path)
        try:
            try:
                load_json(text)
            except RepeatedKeyError:
                raise
            except ValueError:
                load_yaml(text)
        except RepeatedKeyError as error:
            raise ConfigError(f"{path}: {error}.") from None


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` atomically as indented JSON; NaN and Inf are refused, since other programs cannot read them."""
    try:
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise SpeechFTError(f"{path}: a value is NaN or infinite, which JSON cannot represent. Check the inputs of this command.") from None
    write_text(path, f"{text}\n")


def read_json(path: str | Path) -> Any:
    """Parse a JSON file.

    Raises:
        SpeechFTError: the file is missing, is not JSON, or repeats a key.
    """
    try:
        return load_json(read_text(path))
    except FileNotFoundError as error:
        raise SpeechFTError(f"{path}: no such file. Check its name; paths are relative to the folder that the command runs in.") from error
    except RepeatedKeyError as error:
        raise SpeechFTError(f"{path}: {error}.") from None
    except (ValueError, RecursionError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else error
        raise SpeechFTError(f"{path}: is not valid JSON ({problem}). Correct it, or run the job that creates it again.") from error


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Parse a file that contains a mapping: YAML if its name ends with `.yaml` or `.yml`, else JSON.

    Raises:
        SpeechFTError: the file is missing, in another format, not a mapping, or repeats a key.
    """
    path = Path(path)
    if path.suffix not in (".yaml", ".yml"):
        return read_json_mapping(path)
    try:
        value = load_yaml(read_text(path))
    except FileNotFoundError:
        raise SpeechFTError(f"{path}: no such file. Check its name; paths are relative to the folder that the command runs in.") from None
    except RepeatedKeyError as error:
        raise SpeechFTError(f"{path}: {error}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpeechFTError(f"{path}: is not valid YAML ({error}).") from None
    if not isinstance(value, dict):
        raise SpeechFTError(f"{path}: contains a {type(value).__name__}, expected a mapping of keys.")
    return value


def read_json_mapping(path: str | Path) -> dict[str, Any]:
    """Parse a JSON file that contains a mapping.

    Raises:
        SpeechFTError: the file is missing, is not JSON, or is not a mapping.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        what = "null" if value is None else f"a {type(value).__name__}"
        raise SpeechFTError(f"{path}: contains {what}, expected a mapping. Correct it, or run the job that creates it again.")
    return value
