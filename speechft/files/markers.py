"""Which command made a folder, and which files it made: the marker, and what folders show that were made before there were markers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechft.conventions import SPLITS

MARKER = ".speechft.json"
"""In every folder that a command made; hidden, and of no meaning to other programs."""
SNAKEMAKE_STAMP = ".snakemake_timestamp"
"""Snakemake's own mark in a folder that is an output of a rule."""
ENCODER_FILES = (
    "config.json",
    "model.safetensors",
    "pretraining_only.safetensors",
    "source_config.json",
    "provenance.json",
    "preprocessor_config.json",
    "README.md",
    "training.csv",
)
_CARD_SENTENCE = "Everything is in `provenance.json`."


@dataclass(frozen=True)
class Record:
    """The command (a verb; None: any that makes such folders), and relative paths of files; a path with a slash at its end is a folder."""

    made_by: str | None
    files: frozenset[str]

    def covers(self, entry: str) -> bool:
        """Whether the command made `entry`."""
        return entry in self.files or (entry.endswith("/") and any(file.startswith(entry) for file in self.files))

    def to_json(self) -> dict[str, Any]:
        """As the marker has it."""
        return {"schema": 1, "made_by": self.made_by, "files": sorted(self.files)}


def read_record(folder: Path) -> Record | None:
    """What a folder says about itself; None if nothing."""
    value = _json(folder / MARKER)
    if value is not None and value.get("schema") == 1 and isinstance(value.get("files"), list):
        return Record(str(value.get("made_by")), frozenset(map(str, value["files"])))
    return _older_corpus(folder) or _older_encoder(folder) or _older_family(folder)


def _older_corpus(folder: Path) -> Record | None:
    value = _json(folder / "corpus.json")
    if value is None or not isinstance(value.get("splits"), dict) or "content_sha256" not in value:
        return None
    files = {"corpus.json", "trials.csv", "recordings.csv", *(f"{split}.jsonl.gz" for split in SPLITS)}
    recipe = value.get("recipe")
    if isinstance(recipe, dict) and recipe.get("kind") == "mixtures":
        files |= {"turns.rttm", *(f"audio/{name}.flac" for name in _mixtures(folder / "turns.rttm"))}
    return Record("unite" if "of" in value else "prepare", frozenset(files))


def _mixtures(turns: Path) -> set[str]:
    try:
        lines = [line.split() for line in turns.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        return set()
    return {line[1] for line in lines if len(line) > 1}


def _older_encoder(folder: Path) -> Record | None:
    files = set(ENCODER_FILES)
    value = _json(folder / "provenance.json")
    if value is not None and value.get("schema") == 1 and isinstance(value.get("kind"), str):
        recipe = value["recipe"] if isinstance(value.get("recipe"), dict) else {}
        made_by: str | None = value["kind"]
        if "stored_as" in recipe:
            made_by = "store"
        elif "stopped_after_updates" in recipe:
            made_by = "early"
        elif made_by == "finetune":
            members = [path.parent.name for path in folder.glob("early/*/provenance.json")]
            files |= {"early/", *(f"early/{name}/{file}" for name in members for file in ENCODER_FILES)}
        return Record(made_by, frozenset(files))
    # Snakemake has removed the files that it knows; the model card is left.
    card = folder / "README.md"
    try:
        return Record(None, frozenset(files)) if _CARD_SENTENCE in card.read_text(encoding="utf-8") else None
    except (OSError, UnicodeDecodeError):
        return None


def _older_family(folder: Path) -> Record | None:
    members = {path.name: _older_encoder(path) for path in folder.glob("alpha_*") if path.is_dir() and not path.is_symlink()}
    if not members or not all(member is not None and member.made_by == "merge" for member in members.values()):
        return None
    return Record("merge --alpha", frozenset(f"{name}/{file}" for name in members for file in ENCODER_FILES))


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
