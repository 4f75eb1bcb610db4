"""The merge methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from speechft.errors import ConfigError, MergeError, unknown_name
from speechft.merge.methods.base import MergeMethod
from speechft.merge.methods.breadcrumbs import BreadcrumbsMerge
from speechft.merge.methods.dare import DareMerge
from speechft.merge.methods.della import DellaMerge
from speechft.merge.methods.iso_c import IsoCMerge
from speechft.merge.methods.karcher import KarcherMerge
from speechft.merge.methods.knots import KnotsMerge
from speechft.merge.methods.linear import LinearMerge
from speechft.merge.methods.model_stock import ModelStockMerge
from speechft.merge.methods.multislerp import MultiSlerpMerge
from speechft.merge.methods.nuslerp import NuslerpMerge
from speechft.merge.methods.regmean import RegMeanMerge
from speechft.merge.methods.slerp import SlerpMerge
from speechft.merge.methods.task_arithmetic import TaskArithmeticMerge
from speechft.merge.methods.ties import TiesMerge
from speechft.merge.methods.tsv_m import TsvMMerge
from speechft.own_code import place_of
from speechft.plugins import Registry
from speechft.recipes.values import Strict, validate

_OURS: tuple[type[MergeMethod], ...] = (
    LinearMerge,
    TaskArithmeticMerge,
    TiesMerge,
    DareMerge,
    BreadcrumbsMerge,
    DellaMerge,
    SlerpMerge,
    NuslerpMerge,
    MultiSlerpMerge,
    KarcherMerge,
    ModelStockMerge,
    TsvMMerge,
    IsoCMerge,
    KnotsMerge,
    RegMeanMerge,
)


def _accepted(name: str, method: Any, _: str) -> tuple[type[MergeMethod], list[str | None]]:
    """Check a merge method of a plug-in, and return it with its name."""
    if not (isinstance(method, type) and issubclass(method, MergeMethod)):
        raise ValueError("is not a class derived from speechft.merge.methods.base.MergeMethod")
    lacks = [key for key in ("reference", "summary") if not isinstance(getattr(method, key, None), str)]
    if lacks := [*lacks, *sorted(method.__abstractmethods__)]:
        raise ValueError(f"its class {method.__name__} has no {', '.join(lacks)}")
    if not issubclass(method.Parameters, Strict):
        raise ValueError("its Parameters are not derived from speechft.recipes.values.Strict")
    if getattr(method, "name", name) != name:
        raise ValueError(f"its class has the name {method.name!r}; leave `name` out, or register it under that name")
    method.name = name
    return method, [place_of(method.__module__)]


METHODS: Registry[type[MergeMethod]] = Registry("merge_method", _accepted, {method.name: method for method in _OURS})
"""Name -> merge method, ours and those of plug-ins."""


def get_method(name: str, parameters: Mapping[str, Any] | None = None) -> MergeMethod:
    """Create merge method `name` with checked parameters; raise MergeError for an unknown name, parameter or value."""
    if name not in METHODS:
        raise MergeError(unknown_name("merge method", name, METHODS))
    method = METHODS[name]
    try:
        return method(validate(method.Parameters, dict(parameters or {}), f"parameters of merge method {name!r}"))
    except ConfigError as error:
        raise MergeError(str(error)) from None
