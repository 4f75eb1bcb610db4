"""Safetensors files, read and written piece by piece.

`safetensors.safe_open` maps a file, and every page that was read stays resident; `save_file` takes all tensors at once. Here pieces are
read with ordinary reads, and the format is written directly: length of the header (8 bytes, little endian), header (JSON: name -> dtype,
shape, byte range), bytes of the tensors.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
    """Dtype and shape of a tensor, as the header of its file says."""

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
    def torch_dtype(self) -> torch.dtype:
        """The dtype in torch."""
        import torch

        dtype: torch.dtype = getattr(torch, _DTYPES[self.dtype][0])
        return dtype

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


class TensorReader:
    """Tensors of one safetensors file, read from disk on request; `label` is what messages call it, by default the path.

    A file that is missing or damaged, or holds a dtype that is not supported (8-bit floats), is a MergeError.
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
            with self.path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(length))
        except (SafetensorError, OSError) as error:
            raise MergeError(f"{self.label}: cannot be read as safetensors ({error}). Make or download the file again.") from None
        header.pop("__metadata__", None)
        self._starts = {name: 8 + length + int(entry["data_offsets"][0]) for name, entry in header.items()}
        self.tensors = {name: TensorInfo(entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}
        if unsupported := sorted({info.dtype for info in self.tensors.values()} - set(_DTYPES)):
            raise MergeError(f"{self.label}: holds tensors of dtype {', '.join(unsupported)}; supported are {', '.join(_DTYPES)}.")

    def piece(self, name: str, start: int, stop: int) -> Tensor:
        """Elements `start` to `stop` of the flattened tensor, in memory of their own; MergeError if they hold NaN or Inf."""
        import torch

        info = self.tensors[name]
        piece = torch.empty(stop - start, dtype=info.torch_dtype)
        buffer = _bytes_of(piece)
        with self.path.open("rb") as file:
            file.seek(self._starts[name] + start * info.element_bytes)
            if file.readinto(buffer) != len(buffer):
                raise MergeError(f"{self.label}: ends inside tensor {name!r}; another program is writing it. Make the file again.")
        _check_finite(piece, name, self.label)
        return piece


class TensorWriter:
    """Writer of one safetensors file, tensor after tensor in the order of `order`; equal tensors give equal bytes.

    Tensors with wide elements come first, then names in alphabetical order, as the safetensors library does: every tensor is then aligned
    to its element size. The metadata say `format: pt`, without which transformers refuses a file.
    """

    def __init__(self, path: str | Path, tensors: Mapping[str, TensorInfo]) -> None:
        self._tensors = dict(tensors)
        self.order = sorted(tensors, key=lambda name: (-tensors[name].element_bytes, name))
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name in self.order:
            info = tensors[name]
            start, offset = offset, offset + info.size * info.element_bytes
            header[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [start, offset]}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        self._file = Path(path).open("wb")  # noqa: SIM115 - closed by close()
        self._file.write(struct.pack("<Q", len(text)) + text)

    def append(self, name: str, values: Tensor) -> None:
        """Append the next elements of the flattened tensor `name`, in its dtype; MergeError if one does not fit, or is NaN or Inf."""
        info = self._tensors[name]
        stored = values.to(info.torch_dtype).contiguous()
        _check_finite(stored, name, f"the merged model, stored as {info.dtype}")
        self._file.write(_bytes_of(stored))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _bytes_of(tensor: Tensor) -> memoryview:
    """Memory of a contiguous tensor, writable, without a copy (NumPy has no bfloat16, so the view is of bytes)."""
    import torch

    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _check_finite(tensor: Tensor, name: str, where: str) -> None:
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise MergeError(
            f"{where}: tensor {name!r} holds NaN or Inf; its training diverged or the file is damaged. Use another checkpoint."
        )
