"""The merge methods by name. No torch here."""

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
from speechft.recipes.values import validate

METHODS: dict[str, type[MergeMethod]] = {
    method.name: method
    for method in (
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
}


def get_method(name: str, parameters: Mapping[str, Any] | None = None) -> MergeMethod:
    """The merge method called `name`, with its parameters checked; an unknown name, parameter or value is a MergeError."""
    if name not in METHODS:
        raise MergeError(unknown_name("merge method", name, METHODS))
    method = METHODS[name]
    try:
        return method(validate(method.Parameters, dict(parameters or {}), f"parameters of merge method {name!r}"))
    except ConfigError as error:
        raise MergeError(str(error)) from None
