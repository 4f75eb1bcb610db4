"""What the site adds to the pages of docs/: the reference, generated from the code, and files that pages link to outside of docs/."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from typer.main import get_command

from speechft.cli import app
from speechft.experiment.schema import experiment_schema
from speechft.recipes.cell import Cell
from speechft.recipes.evaluation import EvaluationRecipe
from speechft.recipes.finetuning import FinetuneRecipe

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\]\(((?:\.\./)+)([^)#]+)(#[^)]*)?\)")
PYTHON = {
    "Encoders": ["load_encoder", "import_checkpoint", "export_checkpoint", "random_encoder", "FeatureEncoder"],
    "Merging": ["merge"],
    "Tasks": ["get_task"],
    "Evaluation": ["evaluate"],
    "Tables": ["superb_score"],
}
MODULES = {"Encoders": "speechft.encoders", "Merging": "speechft.merge", "Tasks": "speechft.tasks", "Evaluation": "speechft.evaluate",
           "Tables": "speechft.tables"}  # fmt: skip


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages, and the files outside of docs/ that pages link to."""
    pages = {"reference/cli.md": command_line(), "reference/configuration.md": configuration(), "reference/python.md": python()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    for page in [file for file in files.documentation_pages() if file.src_uri not in pages]:
        for _, target, _ in _LINK.findall(page.content_string):
            if _is_shown(target) and files.get_file_from_path(f"files/{target}") is None:
                files.append(File.generated(config, f"files/{target}", abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links that leave docs/ lead to the copy of the file; folders and pages outside of it stay names."""
    here = posixpath.dirname(page.file.src_uri)

    def inside(found: re.Match[str]) -> str:
        up, target, _ = found.groups()
        if posixpath.normpath(posixpath.join("docs", here, up)) not in (".",):
            return found[0]
        return f"]({posixpath.relpath(f'files/{target}', here or '.')})" if _is_shown(target) else "](#)"

    return re.sub(r"\[([^\]]*)\]\(#\)", r"\1", _LINK.sub(inside, markdown))


def _is_shown(target: str) -> bool:
    return (ROOT / target).is_file() and not target.endswith(".md")


def command_line() -> str:
    """Every verb with its arguments and options, from the program itself."""
    root = get_command(app)
    lines = ["# Command line", "", "`speechft --help` lists the commands; `speechft COMMAND --help` shows the same text as this page.", ""]
    for name, verb in sorted(root.commands.items()):  # type: ignore[attr-defined]
        if verb.hidden:
            continue
        lines += _verb(name, verb)
        for kind, below in sorted(getattr(verb, "commands", {}).items()):
            lines += _verb(f"{name} {kind}", below)
    return "\n".join(lines)


def _verb(name: str, verb: Any) -> list[str]:
    help_text = re.sub(r"^(\s*)Example: `(.*)`$", r"\1```\n\1\2\n\1```", (verb.help or "").strip(), flags=re.M)
    lines = [f"## speechft {name}", "", help_text, ""]
    parameters = [item for item in verb.params if item.name != "help" and not getattr(item, "hidden", False)]
    if parameters:
        lines += ["| argument or option | meaning | default |", "|---|---|---|"]
    for item in parameters:
        is_option = hasattr(item, "is_flag")
        words = ", ".join(f"`{word}`" for word in item.opts) if is_option else f"`{str(item.name).upper()}`"
        empty = (
            item.default is None or callable(item.default) or item.default in ([], (), False, "") or "Unset" in type(item.default).__name__
        )
        default = "required" if item.required else "" if empty or "UNSET" in str(item.default) else f"`{item.default}`"
        lines.append(f"| {words} | {_cell(getattr(item, 'help', '') or '')} | {default} |")
    return [*lines, ""]


def configuration() -> str:
    """Every key of experiments and recipes, from the classes that check them."""
    lines = ["# Every key of an experiment", "", "How to use them: [Experiment files](../configuration.md).", ""]
    schemas = [("Experiment", experiment_schema())]
    schemas += [(kind.__name__, kind.model_json_schema()) for kind in (FinetuneRecipe, EvaluationRecipe, Cell)]
    known: set[str] = set()
    for title, schema in schemas:
        for name, part in [(title, schema), *schema.get("$defs", {}).items()]:
            if name not in known and "properties" in part:
                known.add(name)
                lines += _keys(name, part)
    return "\n".join(lines)


def _keys(name: str, schema: dict[str, Any]) -> list[str]:
    lines = [f"## {name}", "", schema.get("description", ""), "", "| key | value | default | meaning |", "|---|---|---|---|"]
    required = schema.get("required", [])
    for key, value in schema["properties"].items():
        default = "required" if key in required else f"`{json.dumps(value['default'])}`" if "default" in value else ""
        lines.append(f"| `{key}` | {_type(value)} | {_cell(default)} | {_cell(value.get('description', ''))} |")
    return [*lines, ""]


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        return ", ".join(f"`{item}`" for item in value["enum"])
    for key in ("anyOf", "oneOf"):
        if key in value:
            return " or ".join(dict.fromkeys(_type(item) for item in value[key] if item.get("type") != "null"))
    if value.get("type") == "array":
        return f"list of {_type(value['items'])}" if isinstance(value.get("items"), dict) else "list"
    if value.get("type") == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"name → {_type(value['additionalProperties'])}"
    return str(value.get("type", "any"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def python() -> str:
    """The public functions, with their docstrings."""
    lines = ["# Python", ""]
    for title, names in PYTHON.items():
        lines += [f"## {title}", "", *(f"::: {MODULES[title]}.{name}\n" for name in names)]
    return "\n".join(lines)


__all__ = ["command_line", "configuration", "on_files", "on_page_markdown", "python"]
