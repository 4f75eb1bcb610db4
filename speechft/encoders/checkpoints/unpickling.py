"""Safe unpickling of checkpoints: torch's weights-only loader with an allowlist.

This is the only module that opens pickles. fairseq's classes are replaced by inert stand-ins that only keep their state, so reading does
not need fairseq, and no code named in a checkpoint runs.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechft.errors import CheckpointError, missing_file


class StandIn:
    """Replacement for an object whose class is not loaded: its constructor arguments and state."""

    def __new__(cls, *arguments: Any, **options: Any) -> StandIn:
        """Accept any constructor arguments in the pickle."""
        self = super().__new__(cls)
        self.__dict__.update(arguments=arguments, **options)
        return self

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {"state": state})


_OMEGACONF_NODES = ("AnyNode", "BooleanNode", "EnumNode", "FloatNode", "IntegerNode", "StringNode")
_ALLOWED = (
    "argparse.Namespace",
    "fairseq.data.dictionary.Dictionary",
    "fairseq.distributed.utils._TensorPlaceholder",
    "fairseq.meters.AverageMeter",
    "fairseq.meters.TimeMeter",
    "fairseq.meters.StopwatchMeter",
    "fairseq.logging.meters.AverageMeter",
    "fairseq.logging.meters.TimeMeter",
    "fairseq.logging.meters.StopwatchMeter",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.base.Node",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    *(f"omegaconf.nodes.{node}" for node in _OMEGACONF_NODES),
    # Types that omegaconf stores with its values.
    "typing.Any",
    "collections.defaultdict",
    *(f"builtins.{kind}" for kind in ("dict", "list", "tuple", "str", "int", "float", "bool")),
    # Constructors of NumPy scalars and arrays (losses, counts); only their bytes are kept.
    "_codecs.encode",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
)
_CLASSES = {name: type(name.rsplit(".", 1)[1], (StandIn,), {"qualified_name": name}) for name in _ALLOWED}
_DAMAGED = (
    RuntimeError, EOFError, OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, AssertionError,
)  # fmt: skip
"""Errors that torch raises for files that are not checkpoints."""
_MOST_ENTRIES = 1_000_000
_ISOLATED = (
    "If you trust its origin, rewrite it in a container without network and credentials: "
    "`import torch; c = torch.load(FILE, map_location='cpu', weights_only=False)`, then torch.save only tensors, dicts, lists, "
    "strings and numbers of `c` to a new file and import that."
)


def load_pickle(path: str | Path) -> Any:
    """Load the content of a torch checkpoint file on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged or not a checkpoint, or names code that is not on the allowlist.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(missing_file(path, "to import", "Name an existing checkpoint."))
    is_zip = _checked_zip(path)
    allowed: list[Any] = [(stand_in, name) for name, stand_in in _CLASSES.items()]
    with warnings.catch_warnings(), _only_allowed(allowed):
        warnings.simplefilter("ignore")  # about pickle protocols, irrelevant to users
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
        except pickle.UnpicklingError as error:
            raise CheckpointError(_explain(path, str(error))) from None
        except _DAMAGED as error:
            raise CheckpointError(f"{path}: damaged or not a torch checkpoint ({_first_line(error)}). Download it again.") from None


@contextlib.contextmanager
def _only_allowed(classes: list[Any]) -> Iterator[None]:
    """Allow torch exactly these classes for the duration of the block.

    Otherwise fairseq's own classes, allowed for its trainer in the same process, would be used instead of their stand-ins.
    """
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(classes)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(others)


def _checked_zip(path: Path) -> bool:
    """Whether the file is a zip archive (torch's format since 1.6); checks all its checksums."""
    with path.open("rb") as file:
        starts_like_zip = file.read(4) == b"PK\x03\x04"
    if not starts_like_zip:
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, ValueError) as error:
        raise CheckpointError(f"{path}: truncated or damaged ({_first_line(error)}). Download it again.") from None
    if damaged is not None:
        raise CheckpointError(f"{path}: damaged, the checksum of {damaged} is wrong. Download it again.")
    return True


def _explain(path: Path, message: str) -> str:
    match = re.search(r"GLOBAL ([\w.]+)|class ([\w.]+)|global ([\w.]+)", message)
    if match is None:
        return f"{path}: not a torch checkpoint, or damaged. Download it again."
    name = next(group for group in match.groups() if group)
    return f"{path}: refused, its pickle names {name}, which is not on the allowlist of harmless classes. {_ISOLATED}"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def plain(value: Any) -> Any:
    """Convert `value` to plain JSON: stand-ins unwrapped, tuples as lists, paths of other machines reduced to their last part.

    NaN and Inf become strings; tensors and objects without a plain form become None.

    Raises:
        CheckpointError: `value` contains itself or is nested too deeply for a configuration.
    """
    try:
        return _plain(value, itertools.count(1))
    except RecursionError:
        raise CheckpointError("The checkpoint's configuration contains itself or is nested too deeply. Use the original file.") from None


def _plain(value: Any, counted: Iterator[int]) -> Any:
    # Shared values can expand to more entries than fit in memory.
    if next(counted) > _MOST_ENTRIES:
        raise CheckpointError(f"The checkpoint's configuration has more than {_MOST_ENTRIES} entries. Use the original file.")
    if isinstance(value, bool | int | None):
        return value
    if isinstance(value, str):
        return Path(value).name if value.startswith("/") else value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, counted) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item, counted) for item in value]
    return _plain(_content(value), counted) if isinstance(value, StandIn) else None


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of a Namespace stand-in or the items of a dict; empty for anything else."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, StandIn):
        content = _content(value)
        return dict(content) if isinstance(content, Mapping) else {}
    return {}


def _content(value: StandIn) -> Any:
    kind = type(value).__name__
    state = {key: item for key, item in value.__dict__.items() if key != "arguments"}
    if kind in ("DictConfig", "ListConfig"):
        return state.get("_content")
    if kind.endswith("Node"):
        return state.get("_val")
    return state if kind in ("Namespace", "Dictionary") else None


def is_state_dict(value: Any) -> bool:
    """Whether `value` is a non-empty dict from names to tensors."""
    return isinstance(value, Mapping) and bool(value) and all(isinstance(k, str) and isinstance(t, Tensor) for k, t in value.items())
