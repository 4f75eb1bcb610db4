"""Plug-ins: tasks, merge methods, corpus readers and encoders from outside this package, by name. No torch here.

A plug-in is a Python file or module that calls `register`, or an entry point of an installed package. It runs only when named.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from speechft.errors import ConfigError
from speechft.files.escapes import terminal_text
from speechft.files.hashes import sha256_bytes, sha256_file
from speechft.own_code import RAN, attribute_of, find_code, line_of, module_at, place_of, run_code, said

Entry = TypeVar("Entry")
KINDS = {
    "task": "speechft.tasks.catalog",
    "merge_method": "speechft.merge.methods",
    "corpus": "speechft.recipes.corpora",
    "encoder": "speechft.recipes.modules",
}
"""What can be registered -> module with its registry."""
GROUPS = {"task": "speechft.tasks", "merge_method": "speechft.merge_methods", "corpus": "speechft.corpora", "encoder": "speechft.encoders"}
"""What can be registered -> group of its entry points."""
FORMS = "my_package.my_module (on PYTHONPATH) or path/to/file.py"
_SESSION = "this session"


@dataclass(frozen=True)
class _Provider:
    """The code that registered a name, and the SHA-256 of all files that define it."""

    place: str
    files: Mapping[str, str]


_REGISTRIES: dict[str, Registry[Any]] = {}
_PROVIDERS: dict[tuple[str, str], _Provider] = {}
_LOADED: dict[str, str] = {}
"""Loaded plug-in -> its SHA-256."""


class Registry(dict[str, Entry]):
    """Entries of one kind by name: built-in, registered, and, once requested, those of entry points.

    Args:
        kind: a key of `KINDS`.
        accept: takes name, object and the place of the code that registers it. Returns the entry and the modules and files that define
            it, or raises a ValueError that says what is wrong.
        entries: built-in entries.
        check: takes the name of an accepted entry; raises a ValueError that says what is wrong.
    """

    def __init__(
        self,
        kind: str,
        accept: Callable[[str, Any, str], tuple[Entry, Iterable[str | None]]],
        entries: Mapping[str, Entry],
        check: Callable[[str], None] = lambda _: None,
    ):
        super().__init__(entries)
        self.kind, self.accept, self.check = kind, accept, check
        _REGISTRIES[kind] = self

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (super().__contains__(name) or _load_entry_point(self.kind, name))

    def __missing__(self, name: str) -> Entry:
        if name in self:
            return self[name]
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the entry of a name, or `default`."""
        return self[name] if name in self else default  # noqa: SIM401 (this is what defines it)


def register(name: str, *, task: Any = None, merge_method: Any = None, corpus: Any = None, encoder: Any = None) -> None:
    """Register a task, merge method, corpus reader or encoder under a name (docs/extend.md). Give exactly one of the four.

    Args:
        name: letters, digits, `_`, `+` and `-`.
        task: a `TaskEntry`, or a class derived from `Task`.
        merge_method: a class derived from `MergeMethod`.
        corpus: a function that takes the corpus folder and options as keyword arguments and returns a `Listing`.
        encoder: `my_module:MyEncoder` or `file.py:MyEncoder`, or the class itself.

    Raises:
        ConfigError: the name is taken, or the registered object is incomplete.
    """
    things = {"task": task, "merge_method": merge_method, "corpus": corpus, "encoder": encoder}
    given = {kind: thing for kind, thing in things.items() if thing is not None}
    if len(given) != 1:
        raise ConfigError(f"register({name!r}): give one of {', '.join(things)}, found {', '.join(given) or 'none'}.")
    ((kind, thing),) = given.items()
    _add(kind, name, thing, place_of(sys._getframe(1).f_globals.get("__name__", "__main__")) or _SESSION)


def load(place: str, sha256: str | None = None) -> None:
    """Run a plug-in unless the same content has already run, and print one line that says what it registered.

    Args:
        place: `path/to/file.py`, or `my_package.my_module` on PYTHONPATH.
        sha256: required hash of its file.

    Raises:
        ConfigError: the file is missing or has another hash, its code fails, or what it registers is invalid.
    """
    path = find_code(place, "a plug-in", FORMS, sha256)
    source = path.read_bytes()
    digest = sha256_bytes(source)
    if sha256 not in (None, digest):
        raise ConfigError(
            f"{path}: has SHA-256 {digest[:12]}..., but the recipe records {str(sha256)[:12]}... Restore that version of the plug-in, "
            "or run the workflow, which writes the recipe again."
        )
    if _LOADED.get(place) == digest:
        return
    forget(place)
    before = set(_PROVIDERS)
    try:
        run_code(place, path, source)
    except (Exception, SystemExit) as error:
        forget(place)
        if isinstance(error, ConfigError):
            raise
        line = line_of(error, path)
        hint = " Add the folder of what it imports to PYTHONPATH." if isinstance(error, ImportError) else ""
        where = f"{path}, line {line}" if line else path
        raise ConfigError(f"{place}: this plug-in cannot be loaded ({where}: {said(error)}).{hint}") from error
    _LOADED[place] = digest
    _announce(place, digest, [key for key, provider in _PROVIDERS.items() if key not in before or provider.place == place])


def load_recorded(recipe: object) -> None:
    """Run the plug-ins that a recipe records under `plugins`, in exactly the recorded versions; see `load`."""
    recorded = recipe.get("plugins") if isinstance(recipe, dict) else None
    for place, sha256 in (recorded if isinstance(recorded, dict) else {}).items():
        load(str(place), str(sha256))


def files_of(kind: str, name: str) -> dict[str, str]:
    """SHA-256 of the files that define a name, by file or module; empty for built-in and unknown names."""
    import_module(KINDS[kind])
    return dict(_PROVIDERS[kind, name].files) if name in _REGISTRIES[kind] and (kind, name) in _PROVIDERS else {}


def class_of(kind: str, name: str, path: str) -> Any:
    """Return the class at `path` (`my_module:MyClass` or `file.py:MyClass`) of the entry registered as `name`.

    Raises:
        ConfigError: the class does not exist, its file changed since it was registered, or its code fails.
    """
    place, _, attribute = path.partition(":")
    expected = files_of(kind, name).get(place)
    if expected is None:  # of this package
        return attribute_of(import_module(place), attribute, path, place)
    if _LOADED.get(place) != expected:  # a recipe has loaded it, perhaps from a folder of its own
        load(place, expected)
    return attribute_of(module_at(place), attribute, path, place)


def registered_by(place: str) -> str:
    """Describe a loaded plug-in: the hash of its file and what it registered."""
    return f"SHA-256 {_LOADED[place][:12]}..., {_listed(key for key, provider in _PROVIDERS.items() if provider.place == place)}"


def forget(place: str) -> None:
    """Unregister everything that a plug-in registered, so that it can be loaded again."""
    for kind, name in [key for key, provider in _PROVIDERS.items() if provider.place == place]:
        _remove(kind, name)
    _LOADED.pop(place, None)
    for module in [module for module, (_, named) in RAN.items() if named == place]:
        del RAN[module]


def _remove(kind: str, name: str) -> None:
    _REGISTRIES[kind].pop(name, None)
    _PROVIDERS.pop((kind, name), None)


def _add(kind: str, name: str, thing: Any, place: str) -> None:
    import_module(KINDS[kind])
    registry, known = _REGISTRIES[kind], _PROVIDERS.get((kind, name))
    what = f"{place}: registers the {_words(kind)} {name!r}, which"
    if not re.fullmatch(r"[A-Za-z0-9][\w+-]*", name, re.ASCII):
        raise ConfigError(f"{what} is not a valid name. Begin with a letter or digit, then use letters, digits, _, + and -.")
    # The same code may register a name again, as in a notebook.
    if dict.__contains__(registry, name) and (known is None or known.place != place):
        whose = "is built into speechft" if known is None else f"{known.place} has already registered"
        raise ConfigError(f"{what} {whose}. Choose another name.")
    if known is None and (point := _entry_point(kind, name)) is not None and re.split("[.:]", point.value)[0] != place.partition(".")[0]:
        raise ConfigError(f"{what} the installed package {_package(point)} provides. Choose another name.")
    try:
        entry, homes = registry.accept(name, thing, place)
        _PROVIDERS[kind, name] = _Provider(place, {home: digest for home in (place, *homes) if home and (digest := _sha256(home))})
        dict.__setitem__(registry, name, entry)
        registry.check(name)
    except (ValueError, ConfigError) as error:
        _remove(kind, name)
        raise ConfigError(f"{place}: {_words(kind)} {name!r}: {str(error).rstrip('.')}.") from None


def _sha256(place: str) -> str | None:
    """Hash of the code at a place, as it ran if it ran; None for this package and for interactive code."""
    if place.partition(".")[0] == "speechft" or place == _SESSION:
        return None
    ran = next((digest for digest, named in RAN.values() if named == place), None)
    return ran or sha256_file(find_code(place, "a plug-in", FORMS))


def _load_entry_point(kind: str, name: str) -> bool:
    """Register the entry point of this name, if an installed package has one."""
    point = _entry_point(kind, name)
    if point is None:
        return False
    place = point.value.partition(":")[0].strip()
    try:
        thing = point.value if kind == "encoder" else point.load()
    except (Exception, SystemExit) as error:
        message = f"{point.group}: {name} = {point.value} of the installed package {_package(point)} cannot be loaded ({said(error)})."
        raise ConfigError(message) from error
    if (kind, name) not in _PROVIDERS:
        _add(kind, name, thing, place)
    _announce(place, files_of(kind, name)[place], [(kind, name)])
    return True


def _entry_point(kind: str, name: str) -> EntryPoint | None:
    points = installed_points(tuple(sys.path)).get((kind, name), [])
    if len(points) > 1:
        packages = " and ".join(map(_package, points))
        raise ConfigError(f"Several installed packages provide the {_words(kind)} {name!r}: {packages}. Uninstall all but one.")
    return points[0] if points else None


@lru_cache(maxsize=1)
def installed_points(_: tuple[str, ...]) -> dict[tuple[str, str], list[EntryPoint]]:
    """Distinct entry points of each kind and name, of all packages on this path. Cached, because scanning packages is slow."""
    by_name: dict[tuple[str, str], dict[str, EntryPoint]] = {}
    known = entry_points()
    for kind, group in GROUPS.items():
        for point in known.select(group=group):
            by_name.setdefault((kind, point.name), {})[point.value] = point
    return {key: list(points.values()) for key, points in by_name.items()}


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _announce(place: str, digest: str, keys: Iterable[tuple[str, str]]) -> None:
    """Say which code from outside ran."""
    print(terminal_text(f"plug-in {place} (SHA-256 {digest[:12]}...): {_listed(keys)}"), file=sys.stderr)


def _listed(keys: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{_words(kind)} {name}" for kind, name in keys) or "registers nothing"
