"""JSON and YAML in which a mapping has a key twice: of the two values the libraries keep the last, without a word."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from speechft.errors import ConfigError
from speechft.text_files import read_text

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(?P<key>\s*:)?|[{}\[\]]', re.S)


class RepeatedKeyError(ValueError):
    """A mapping has a key twice; the text is `line 3: the key 'x' is there twice`."""

    def __init__(self, line: int, key: object) -> None:
        super().__init__(f"line {line}: the key {key!r} is there twice; keep one")


def load_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        RepeatedKeyError: a mapping has a key twice.
        ValueError: it is not JSON.
    """

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise _first_repeated(text)
        return found

    return json.loads(text, object_pairs_hook=mapping)


def _first_repeated(text: str) -> RepeatedKeyError:
    """The first repeated key of a JSON text that has one."""
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
        RepeatedKeyError: a mapping has a key twice.
        yaml.YAMLError: it is not YAML.
    """
    return yaml.load(text, Loader=_Strict)


class _Strict(yaml.SafeLoader):
    """The safe loader, for which a key that is there twice is an error."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here a mapping has its own keys alone: what a merge (`<<`) brings comes later, and may be there again.
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
    """Refuse experiment files, YAML or JSON, that Snakemake has read and in which a key is there twice.

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
