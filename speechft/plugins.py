"""Plug-ins: tasks, merge methods, readers of corpora and encoders from outside of this package, by name. No torch here.

A plug-in is a Python file or module that calls `register`, or an entry point of an installed package. It runs only when it is named.
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
"""What can be registered -> the module that has the registry of this kind."""
GROUPS = {"task": "speechft.tasks", "merge_method": "speechft.merge_methods", "corpus": "speechft.corpora", "encoder": "speechft.encoders"}
"""What can be registered -> the group of its entry points."""
FORMS = "my_package.my_module (on PYTHONPATH) or path/to/file.py"
_SESSION = "this session"


@dataclass(frozen=True)
class _Provider:
    """Where a name comes from: the code that registered it, and the SHA-256 of all files that define it."""

    place: str
    files: Mapping[str, str]


_REGISTRIES: dict[str, Registry[Any]] = {}
_PROVIDERS: dict[tuple[str, str], _Provider] = {}
_LOADED: dict[str, str] = {}
"""Plug-in that was loaded -> its SHA-256."""


class Registry(dict[str, Entry]):
    """All things of one kind by name: those of this package, those that were registered, and, once asked for, those of entry points.

    Args:
        kind: a key of `KINDS`.
        accept: checks what is registered under a name, by code at a place; returns the entry and the modules and files that define it, or
            raises a ValueError that says what is wrong.
        entries: those of this package.
        check: looks at what was accepted, by its name, as `accept` does.
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
        """The entry of a name, or `default`."""
        return self[name] if name in self else default  # noqa: SIM401 (this is what defines it)


def register(name: str, *, task: Any = None, merge_method: Any = None, corpus: Any = None, encoder: Any = None) -> None:
    """Make a task, a merge method, a reader of corpora or an encoder known by name, wherever names of its kind are written.

    See docs/extend.md for one of each. Give exactly one of them:

    Args:
        name: letters, digits, `_`, `+` and `-`.
        task: a `TaskEntry`, or a class derived from `Task`.
        merge_method: a class derived from `MergeMethod`.
        corpus: a function that takes the folder of the corpus, and options as keyword arguments, and returns a `Listing`.
        encoder: `my_module:MyEncoder` or `file.py:MyEncoder`, or the class itself.

    Raises:
        ConfigError: the name is taken, or what is registered lacks something.
    """
    things = {"task": task, "merge_method": merge_method, "corpus": corpus, "encoder": encoder}
    given = {kind: thing for kind, thing in things.items() if thing is not None}
    if len(given) != 1:
        raise ConfigError(f"register({name!r}): give one of {', '.join(things)}, found {', '.join(given) or 'none'}.")
    ((kind, thing),) = given.items()
    _add(kind, name, thing, place_of(sys._getframe(1).f_globals.get("__name__", "__main__")) or _SESSION)


def load(place: str, sha256: str | None = None) -> None:
    """Run a plug-in, unless this content of it has run already, and print one line that says what it registered.

    Args:
        place: `path/to/file.py`, or `my_package.my_module` on PYTHONPATH.
        sha256: what its file has to have.

    Raises:
        ConfigError: there is no such file, it has another hash, its code fails, or what it registers cannot be.
    """
    path = find_code(place, "a plug-in", FORMS, sha256)
    source = path.read_bytes()
    digest = sha256_bytes(source)
    if sha256 not in (None, digest):
        raise ConfigError(
            f"{path}: has SHA-256 {digest[:12]}..., but the recipe was made with {str(sha256)[:12]}... Bring back that version of the "
            "plug-in, or make the recipe again, as the workflow does."
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
        hint = " Put what it imports on PYTHONPATH." if isinstance(error, ImportError) else ""
        where = f"{path}, line {line}" if line else path
        raise ConfigError(f"{place}: this plug-in cannot be loaded ({where}: {said(error)}).{hint}") from error
    _LOADED[place] = digest
    _announce(place, digest, [key for key, provider in _PROVIDERS.items() if key not in before or provider.place == place])


def load_recorded(recipe: object) -> None:
    """Run the plug-ins that a recipe records under `plugins`, and no other versions of them; see `load`."""
    recorded = recipe.get("plugins") if isinstance(recipe, dict) else None
    for place, sha256 in (recorded if isinstance(recorded, dict) else {}).items():
        load(str(place), str(sha256))


def files_of(kind: str, name: str) -> dict[str, str]:
    """SHA-256 of the files that define a name, by file or module; empty for what this package has itself, and for unknown names."""
    import_module(KINDS[kind])
    return dict(_PROVIDERS[kind, name].files) if name in _REGISTRIES[kind] and (kind, name) in _PROVIDERS else {}


def class_of(kind: str, name: str, path: str) -> Any:
    """The class that `path` names, `my_module:MyClass` or `file.py:MyClass`, for what is registered as `name`.

    Raises:
        ConfigError: there is none, its file changed since it was registered, or its code fails.
    """
    place, _, attribute = path.partition(":")
    expected = files_of(kind, name).get(place)
    if expected is None:  # of this package
        return attribute_of(import_module(place), attribute, path, place)
    if _LOADED.get(place) != expected:  # a recipe has loaded it, perhaps from a folder of its own
        load(place, expected)
    return attribute_of(module_at(place), attribute, path, place)


def registered_by(place: str) -> str:
    """What a plug-in that was loaded has registered, and the hash of its file, as text."""
    return f"SHA-256 {_LOADED[place][:12]}..., {_listed(key for key, provider in _PROVIDERS.items() if provider.place == place)}"


def forget(place: str) -> None:
    """Remove what a plug-in registered, so that it can be loaded again."""
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
        raise ConfigError(f"{what} is no name. Begin with a letter or digit, then letters, digits, _, + and -.")
    # The same code may register again what it registered before, as in a session.
    if dict.__contains__(registry, name) and (known is None or known.place != place):
        whose = "speechft has itself" if known is None else f"{known.place} has registered already"
        raise ConfigError(f"{what} {whose}. Choose another name.")
    if known is None and (point := _entry_point(kind, name)) is not None and re.split("[.:]", point.value)[0] != place.partition(".")[0]:
        raise ConfigError(f"{what} the installed package {_package(point)} has. Choose another name.")
    try:
        entry, homes = registry.accept(name, thing, place)
        _PROVIDERS[kind, name] = _Provider(place, {home: digest for home in (place, *homes) if home and (digest := _sha256(home))})
        dict.__setitem__(registry, name, entry)
        registry.check(name)
    except (ValueError, ConfigError) as error:
        _remove(kind, name)
        raise ConfigError(f"{place}: {_words(kind)} {name!r}: {str(error).rstrip('.')}.") from None


def _sha256(place: str) -> str | None:
    """Hash of the code at a place, as it ran if it ran; None for this package's own and for a session."""
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
        raise ConfigError(f"The {_words(kind)} {name!r} is in several installed packages: {packages}. Remove one of them.")
    return points[0] if points else None


@lru_cache(maxsize=1)
def installed_points(_: tuple[str, ...]) -> dict[tuple[str, str], list[EntryPoint]]:
    """The different entry points of each kind and name, of all packages on this path; looking at the packages takes a while."""
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
    """Say which foreign code ran."""
    print(terminal_text(f"plug-in {place} (SHA-256 {digest[:12]}...): {_listed(keys)}"), file=sys.stderr)


def _listed(keys: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{_words(kind)} {name}" for kind, name in keys) or "registers nothing itself"
