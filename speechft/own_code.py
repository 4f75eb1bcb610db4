"""Python code from outside of this package: found as `import` finds it, and run exactly as it was hashed. No torch here."""

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
"""Module that was run here -> SHA-256 of its source, and the place that named it: a file, or the module itself."""
_FOLDERS: list[Path] = []


@contextmanager
def looking_in(*folders: Path) -> Iterator[None]:
    """Look for files with relative paths in these folders too, after the current one."""
    _FOLDERS.extend(folders)
    try:
        yield
    finally:
        del _FOLDERS[len(_FOLDERS) - len(folders) :]


def find_code(name: str, purpose: str, forms: str, sha256: str | None = None) -> Path:
    """The Python file of `path/to/file.py` or `my_package.my_module`, with or without `:attribute`. No code runs.

    Args:
        name: as above.
        purpose: what needs it, for errors.
        forms: how such names are written, for errors.
        sha256: prefer the file with this hash, where several folders have one of the name.

    Raises:
        ConfigError: there is none.
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
        hint = f"Write {here}{colon}{attribute}, or put this folder on PYTHONPATH." if here.is_file() else ""
        hint = hint or "Put its folder there, or name the file."
        raise ConfigError(f"{name}: there is no module {place} on PYTHONPATH. {hint}")
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise ConfigError(f"{name}: {place} is no Python source file ({spec.origin or 'a folder'}). Name the file that defines the class.")
    return Path(spec.origin)


def _find_module(module: str) -> ModuleSpec | None:
    """What `import` would load. `importlib.util.find_spec` would run the packages around it."""
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
    """The module that `source` defines, the content of `path`, which `place` named. It runs once for the same content.

    What was hashed is what runs: neither a module that was imported before its file was edited, nor Python's cache of compiled files.
    Whatever the code raises leaves Python's modules as they were.
    """
    module_name, digest = place, sha256_bytes(source)
    if place.endswith(".py"):
        module_name = f"speechft_own_{sha256_bytes(str(path.resolve()).encode())[:12]}"
    before, ran = sys.modules.get(module_name), RAN.get(module_name)
    try:
        if "." in module_name:
            importlib.import_module(module_name.rpartition(".")[0])
        module = sys.modules.get(module_name)
        # A package that imports its own module has just run it; running it twice would register its classes twice.
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
    """How a module is named in recipes: the file that was named, or the module; None for what has no source file."""
    if module in RAN:
        return RAN[module][1]
    file = str(getattr(sys.modules.get(module), "__file__", None))
    return None if not file.endswith(".py") else file if module == "__main__" else module


def code_beside(place: str, name: str) -> str:
    """The name of code that the code at `place` writes: a relative `file.py:attribute` is beside it, in its folder or its package."""
    file, colon, attribute = name.partition(":")
    if not file.endswith(".py") or Path(file).is_absolute():
        return name
    if place.endswith(".py"):
        return f"{(Path(place).parent / file).as_posix()}{colon}{attribute}"
    return f"{'.'.join([*place.split('.')[:-1], *Path(file).with_suffix('').parts])}{colon}{attribute}"


def said(error: BaseException) -> str:
    """Type and first line of what foreign code raised."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def line_of(error: BaseException, path: Path) -> int | None:
    """The innermost line of `path` that led to the error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None


def module_at(place: str) -> ModuleType:
    """The module that was run from a place."""
    return sys.modules[next(module for module, (_, named) in RAN.items() if named == place)]


def attribute_of(value: Any, attribute: str, name: str, path: str | Path) -> Any:
    """What `attribute`, with dots in it, is in a module.

    Raises:
        ConfigError: there is no such thing.
    """
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise ConfigError(f"{name}: {path} defines no {part!r}.{nearest(part, vars(value))}")
        value = getattr(value, part)
    return value
