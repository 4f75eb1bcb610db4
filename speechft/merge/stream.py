"""Reading and writing safetensors files piece by piece.

`safetensors.safe_open` maps the file, and every page that was read stays resident until it is closed: the peak is then the whole file.
Here the library still judges the header, but tensors are read, whole or in pieces, with ordinary reads into memory that is freed with
them. The library has no writer that takes tensors one after the other, so `TensorWriter` writes the format: the header's length (8 bytes,
little endian), the header (JSON: name -> dtype, shape, byte range), the bytes of the tensors.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from speechft.errors import MergeError, missing_file
from speechft.merge.output import OutputFile

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
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def element_bytes(self) -> int:
        """Bytes of one element."""
        return _DTYPES[self.dtype][1]

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor takes in the file."""
        return self.element_bytes * self.size

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


class TensorReader:
    """The tensors of one safetensors file, read when asked for.

    Args:
        path: the file.
        label: what messages call it; default: the path.

    Raises:
        MergeError: the file is missing, damaged, or holds a dtype that is not supported (the 8-bit floats).
    """

    def __init__(self, path: str | Path, label: str | None = None) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = Path(path)
        self.label = label or str(path)
        if not self.path.is_file():
            raise MergeError(missing_file(self.path, "as a model to merge", "Give the encoder directory or safetensors file of the model."))
        try:
            with safe_open(self.path, framework="pt"):  # refuses truncated files, overlapping ranges, malformed headers
                pass
            self._file: BinaryIO = self.path.open("rb", buffering=0)  # pieces are large: a buffer only copies
        except (SafetensorError, OSError) as error:
            raise MergeError(f"{self.label}: cannot be read as safetensors ({error}). Make or download the file again.") from None
        (header_bytes,) = struct.unpack("<Q", self._file.read(8))
        header = json.loads(self._file.read(header_bytes))
        header.pop("__metadata__", None)
        self._data_start = 8 + header_bytes
        self._starts = {name: int(entry["data_offsets"][0]) for name, entry in header.items()}
        self.tensors = {name: TensorInfo(entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}
        unsupported = sorted({info.dtype for info in self.tensors.values()} - set(_DTYPES))
        if unsupported:
            self._file.close()
            raise MergeError(f"{self.label}: holds tensors of dtype {', '.join(unsupported)}; supported are {', '.join(_DTYPES)}.")

    def read(self, name: str) -> Tensor:
        """The tensor called `name`, in memory of its own.

        Raises:
            MergeError: it holds NaN or Inf; the message names file, tensor and number of values.
        """
        info = self.tensors[name]
        return self.piece(name, 0, info.size).reshape(info.shape)

    def piece(self, name: str, start: int, stop: int) -> Tensor:
        """Elements `start` to `stop` of the flattened tensor, in memory of their own.

        Raises:
            MergeError: they hold NaN or Inf; see `read`.
        """
        piece = self._raw(name, start, stop)
        if self.tensors[name].dtype in FLOATING and not _is_finite(piece):
            raise MergeError(_not_finite(self.label, name, self._raw(name, 0, self.tensors[name].size)))
        return piece

    def _raw(self, name: str, start: int, stop: int) -> Tensor:
        import torch

        info = self.tensors[name]
        tensor = torch.empty(stop - start, dtype=_torch_dtype(info))
        if stop > start:
            self._fill(_bytes_of(tensor), self._data_start + self._starts[name] + start * info.element_bytes, name)
        return tensor

    def _fill(self, buffer: memoryview, offset: int, name: str) -> None:
        done = 0
        while done < len(buffer):  # the system hands out at most 2 GiB at once
            count = os.preadv(self._file.fileno(), [buffer[done:]], offset + done)
            if not count:
                raise MergeError(f"{self.label}: ends inside tensor {name!r}; another program is writing it. Make the file again.")
            done += count

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TensorWriter:
    """Writes one safetensors file in the order of `order`; the same tensors always give the same bytes.

    Tensors with wide elements come first, then names in alphabetical order, as the safetensors library does: every tensor is then aligned
    to its element size. The metadata say `format: pt`, without which transformers refuses a file.
    """

    def __init__(self, path: str | Path, tensors: Mapping[str, TensorInfo]) -> None:
        self._tensors = dict(tensors)
        self.order = sorted(tensors, key=lambda name: (-tensors[name].element_bytes, name))
        self._written = 0
        self._elements = 0
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name in self.order:
            info = tensors[name]
            header[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [offset, offset + info.nbytes]}
            offset += info.nbytes
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        head = struct.pack("<Q", len(text)) + text
        self._output = OutputFile(path, len(head) + offset)
        self._output.write(memoryview(head))

    def write(self, name: str, tensor: Tensor) -> None:
        """Append a whole tensor; see `append`."""
        if self._elements or tuple(tensor.shape) != self._tensors[name].shape:
            raise ValueError(f"tensor {name!r} {list(tensor.shape)} is not the next one announced")
        self.append(name, tensor.reshape(-1))

    def append(self, name: str, values: Tensor) -> None:
        """Append the next elements of the flattened tensor `name`, converted to the dtype that was announced for it.

        Raises:
            MergeError: a value does not fit the dtype, or the result of the method holds NaN or Inf.
        """
        info = self._tensors[name]
        if self._written >= len(self.order) or self.order[self._written] != name or self._elements + len(values) > info.size:
            raise ValueError(f"tensor {name!r} is not the next one announced")
        stored = values.to(_torch_dtype(info)).contiguous()
        if info.dtype in FLOATING and not _is_finite(stored):
            raise MergeError(_not_finite(f"the merged model, stored as {info.dtype}", name, stored))
        self._output.write(_bytes_of(stored))
        self._elements += len(values)
        if self._elements == info.size:
            self._written, self._elements = self._written + 1, 0

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of what was written."""
        return self._output.sha256

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._output.close()
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


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.numel():
        return True
    # A sum is finite only if all values are, and three times as fast; it may overflow for finite values, so it cannot say that one is not.
    if tensor.element_size() > 2 and math.isfinite(tensor.sum()):
        return True
    low, high = tensor.aminmax()  # both are NaN when any value is; no temporary of the tensor's size
    return math.isfinite(low) and math.isfinite(high)


def _not_finite(where: str, name: str, tensor: Tensor) -> str:
    count = int((~tensor.isfinite()).sum())
    return (
        f"{where}: tensor {name!r} holds NaN or Inf in {count} of {tensor.numel()} values; its training diverged or the file is damaged. "
        "Use another checkpoint."
    )
