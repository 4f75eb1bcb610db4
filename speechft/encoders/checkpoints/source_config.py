"""`source_config.json` of an encoder directory: the configuration of the checkpoint that it came from. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechft.errors import CheckpointError


def check_source_config(values: Mapping[str, Any], path: Path) -> None:
    """Refuse sections of another form than an import writes.

    Raises:
        CheckpointError: names the section.
    """
    found = {name: values.get(name) for name in ("model_cfg", "task_cfg", "sections")}
    if isinstance(sections := found["sections"], dict):
        found["cfg"] = sections.get("cfg")
    for name, section in found.items():
        if section is not None and not isinstance(section, dict):
            raise CheckpointError(f"{path}: its section {name} is no mapping. Import or build the encoder again.")
    dictionaries = values.get("dictionaries")
    if dictionaries is not None and not (isinstance(dictionaries, list) and all(map(_is_dictionary, dictionaries))):
        raise CheckpointError(f"{path}: its dictionaries are no lists of symbols with their counts. Import or build the encoder again.")


def _is_dictionary(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    symbols, counts = value.get("symbols"), value.get("count")
    if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
        return False
    return not counts or (isinstance(counts, list) and len(counts) == len(symbols) and all(isinstance(count, int) for count in counts))
