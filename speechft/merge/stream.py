"""Reading and writing safetensors files one tensor at a time.

`safetensors.safe_open` maps the file, and every page that was read stays resident until it is closed: the peak is then the whole file.
Here the library still judges the header, but tensors are read with ordinary reads into memory that is freed with the tensor. The library
has no writer that takes tensors one after the other, so `TensorWriter` writes the format: the header's length (8 bytes, little endian),
the header (JSON: name -> dtype, shape, byte range), the bytes of the tensors.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from speechft.errors import MergeError, missing_file

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# safetensors' name of a dtype -> torch's name and bytes per element.
_DTYPES = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}
FLOATING = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class TensorInfo:
    """What the header says about a tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor takes in the file."""
        return _DTYPES[self.dtype][1] * math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


class TensorReader:
    """The tensors of one safetensors file, each read when asked for.

    Raises:
        MergeError: the file is missing, damaged, or holds a dtype that is not supported (the 8-bit floats).
    """

    def __init__(self, path: str | Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = Path(path)
        if not self.path.is_file():
            raise MergeError(missing_file(self.path, "as a model to merge", "Give the encoder directory or safetensors file of the model."))
        try:
            with safe_open(self.path, framework="pt"):  # refuses truncated files, overlapping ranges, malformed headers
                pass
            self._file: BinaryIO = self.path.open("rb")
        except (SafetensorError, OSError) as error:
            raise MergeError(f"{self.path}: can not be read as safetensors ({error}). Make or download the file again.") from None
        (header_bytes,) = struct.unpack("<Q", self._file.read(8))
        header = json.loads(self._file.read(header_bytes))
        header.pop("__metadata__", None)
        self._data_start = 8 + header_bytes
        self._starts = {name: int(entry["data_offsets"][0]) for name, entry in header.items()}
        self.tensors = {name: TensorInfo(entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}
        unsupported = sorted({info.dtype for info in self.tensors.values()} - set(_DTYPES))
        if unsupported:
            self._file.close()
            raise MergeError(f"{self.path}: holds tensors of dtype {', '.join(unsupported)}; supported are {', '.join(_DTYPES)}.")

    def read(self, name: str) -> Tensor:
        """The tensor called `name`, in memory of its own.

        Raises:
            MergeError: it holds NaN or Inf; the message names file, tensor and number of values.
        """
        import torch

        info = self.tensors[name]
        tensor = torch.empty(info.shape, dtype=_torch_dtype(info))
        if info.nbytes:
            self._file.seek(self._data_start + self._starts[name])
            if self._file.readinto(_bytes_of(tensor)) != info.nbytes:  # type: ignore[attr-defined]
                raise MergeError(f"{self.path}: ends inside tensor {name!r}; another program is writing it. Make the file again.")
        if info.dtype in FLOATING:
            _check_finite(tensor, name, str(self.path))
        return tensor

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TensorWriter:
    """Writes one safetensors file, tensor by tensor in the order of `order`; the same tensors always give the same bytes.

    Tensors with wide elements come first, then names in alphabetical order, as the safetensors library does: every tensor is then aligned
    to its element size. The metadata say `format: pt`, without which transformers refuses a file.
    """

    def __init__(self, path: str | Path, tensors: Mapping[str, TensorInfo]) -> None:
        self._tensors = dict(tensors)
        self.order = sorted(tensors, key=lambda name: (-_DTYPES[tensors[name].dtype][1], name))
        self._written = 0
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name in self.order:
            info = tensors[name]
            header[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [offset, offset + info.nbytes]}
            offset += info.nbytes
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        self._file = Path(path).open("wb")  # noqa: SIM115 - closed by __exit__
        self._file.write(struct.pack("<Q", len(text)) + text)

    def write(self, name: str, tensor: Tensor) -> None:
        """Append a tensor, converted to the dtype that was announced for it.

        Raises:
            MergeError: a value does not fit the dtype, or the result of the method holds NaN or Inf.
        """
        info = self._tensors[name]
        if self._written >= len(self.order) or self.order[self._written] != name or tuple(tensor.shape) != info.shape:
            raise ValueError(f"tensor {name!r} {list(tensor.shape)} is not the next one announced")
        stored = tensor.to(_torch_dtype(info)).contiguous()
        if info.dtype in FLOATING:
            _check_finite(stored, name, f"the merged model, stored as {info.dtype}")
        self._file.write(_bytes_of(stored))
        self._written += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._file.close()
        if kind is None and self._written != len(self.order):
            raise ValueError(f"{len(self.order) - self._written} announced tensors were not written")


def _torch_dtype(info: TensorInfo) -> torch.dtype:
    import torch

    dtype: torch.dtype = getattr(torch, _DTYPES[info.dtype][0])
    return dtype


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor, writable, without a copy (NumPy has no bfloat16, so the view is of bytes)."""
    import torch

    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _check_finite(tensor: Tensor, name: str, where: str) -> None:
    if not tensor.numel():
        return
    low, high = tensor.aminmax()  # both are NaN when any value is; no temporary of the tensor's size
    if not (math.isfinite(low) and math.isfinite(high)):
        count = int((~tensor.isfinite()).sum())
        raise MergeError(
            f"{where}: tensor {name!r} holds NaN or Inf in {count} of {tensor.numel()} values; its training diverged or the file is "
            "damaged. Use another checkpoint."
        )
