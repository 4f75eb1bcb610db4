"""Python code from outside this package: located like `import` does, and run exactly as hashed. No torch here."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from speechft.errors import ConfigError, nearest
from speechft.files.hashes import sha256_bytes

CLASS_NAME = re.compile(r"(?P<place>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*|[^:]*[^:/]\.py):(?P<attribute>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)")
"""`my_package.my_module:MyClass` or `path/to/file.py:MyClass`."""
RAN: dict[str, tuple[str, str]] = {}
"""Module run here -> SHA-256 of its source, and the name it was requested by: a file, or the module itself."""
_FOLDERS: list[Path] = []


@contextmanager
def looking_in(*folders: Path) -> Iterator[None]:
    """Also look for relative paths in these folders, after the current one."""
    _FOLDERS.extend(folders)
    try:
        yield
    finally:
        del _FOLDERS[len(_FOLDERS) - len(folders) :]


def find_code(name: str, purpose: str, forms: str, sha256: str | None = None) -> Path:
    """Find the Python file of `path/to/file.py` or `my_package.my_module`, with or without `:attribute`. No code runs.

    Args:
        name: file or module.
        purpose: what needs it, for errors.
        forms: how such names are written, for errors.
        sha256: if several folders contain the file, prefer the one with this hash.

    Raises:
        ConfigError: no such file or module, or the module is not Python source.
    """
    place, colon, attribute = name.partition(":")
    if place.endswith(".py"):
        files = [path for path in (Path(place), *(folder / place for folder in _FOLDERS)) if path.is_file()]
        if not files:
            raise ConfigError(f"{place}: no such file, needed for {purpose}. Correct the path, or write {forms}.")
        return next((path for path in files if sha256 and sha256_bytes(path.read_bytes()) == sha256), files[0])
    spec = _find_module(place)
    if spec is None:
        here = Path(*place.split(".")).with_suffix(".py")
        hint = f"Write {here}{colon}{attribute}, or add this folder to PYTHONPATH." if here.is_file() else ""
        hint = hint or "Add its folder to PYTHONPATH, or name the file."
        raise ConfigError(f"{name}: module {place} is not on PYTHONPATH. {hint}")
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise ConfigError(
            f"{name}: {place} is not a Python source file ({spec.origin or 'a folder'}). Name the file that defines the class."
        )
    return Path(spec.origin)


def _find_module(module: str) -> ModuleSpec | None:
    """Find what `import` would load, without running its parent packages as `importlib.util.find_spec` does."""
    importlib.invalidate_caches()
    spec, path, parts = None, None, module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        finders = (finder.find_spec for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((candidate for find in finders if (candidate := find(name, path)) is not None), None)
        if spec is None or (count < len(parts) and spec.submodule_search_locations is None):
            return None
        path = spec.submodule_search_locations
    return spec


def run_code(place: str, path: Path, source: bytes) -> ModuleType:
    """Run `source`, the content of `path`, as the module that `place` names, once for the same content.

    What was hashed is what runs, never a module imported before its file was edited, nor Python's cache of compiled files. If the code
    raises, `sys.modules` is restored.
    """
    module_name, digest = place, sha256_bytes(source)
    if place.endswith(".py"):
        module_name = f"speechft_own_{sha256_bytes(str(path.resolve()).encode())[:12]}"
    before, ran = sys.modules.get(module_name), RAN.get(module_name)
    try:
        if "." in module_name:
            importlib.import_module(module_name.rpartition(".")[0])
        module = sys.modules.get(module_name)
        # If the parent package imports this module, it has just run; running it twice would register its classes twice.
        if module is None or (before is not None and (ran is None or ran[0] != digest)):
            folder = [str(path.parent)] if path.stem == "__init__" else None
            spec = spec_from_file_location(module_name, path, submodule_search_locations=folder)
            assert spec is not None
            module = sys.modules[module_name] = module_from_spec(spec)
            RAN[module_name] = digest, place
            exec(compile(source, str(path), "exec"), module.__dict__)
    except BaseException:
        sys.modules.pop(module_name, None)
        RAN.pop(module_name, None)
        if before is not None:
            sys.modules[module_name] = before
        if ran is not None:
            RAN[module_name] = ran
        raise
    RAN[module_name] = digest, place
    return module


def place_of(module: str) -> str | None:
    """Name of a module in recipes: the file it was requested by, or the module; None without a source file."""
    if module in RAN:
        return RAN[module][1]
    file = str(getattr(sys.modules.get(module), "__file__", None))
    return None if not file.endswith(".py") else file if module == "__main__" else module


def code_beside(place: str, name: str) -> str:
    """Resolve `name` as written in the code at `place`: a relative `file.py:attribute` is in the same folder or package."""
    file, colon, attribute = name.partition(":")
    if not file.endswith(".py") or Path(file).is_absolute():
        return name
    if place.endswith(".py"):
        return f"{(Path(place).parent / file).as_posix()}{colon}{attribute}"
    return f"{'.'.join([*place.split('.')[:-1], *Path(file).with_suffix('').parts])}{colon}{attribute}"


def said(error: BaseException) -> str:
    """Type and first line of an exception raised by code from outside."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def line_of(error: BaseException, path: Path) -> int | None:
    """Innermost line of `path` in the traceback of an error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None


def module_at(place: str) -> ModuleType:
    """Return the module that was run for a place."""
    return sys.modules[next(module for module, (_, named) in RAN.items() if named == place)]


def attribute_of(value: Any, attribute: str, name: str, path: str | Path) -> Any:
    """Look up a dotted `attribute` in a module.

    Raises:
        ConfigError: it is not defined; the message suggests the closest match.
    """
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise ConfigError(f"{name}: {path} does not define {part!r}.{nearest(part, vars(value))}")
        value = getattr(value, part)
    return value
