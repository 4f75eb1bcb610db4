"""Read and write safetensors files piece by piece.

`safetensors.safe_open` maps a file, and every page read stays resident; `save_file` needs all tensors at once. This module uses ordinary
reads and writes the format directly: length of the header (8 bytes, little endian), header (JSON: name -> dtype, shape, byte range), bytes
of the tensors.
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

# safetensors dtype -> torch name and bytes per element.
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
    """Dtype and shape of a tensor from the header of its file."""

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
        """Dtype in torch."""
        import torch

        dtype: torch.dtype = getattr(torch, _DTYPES[self.dtype][0])
        return dtype

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


class TensorReader:
    """Reader of a safetensors file that loads tensors on request; `label` names the file in messages, by default its path.

    Raises:
        MergeError: the file is missing or damaged, or has an unsupported dtype (8-bit floats).
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
            raise MergeError(f"{self.label}: cannot be read as safetensors ({error}). Create or download the file again.") from None
        header.pop("__metadata__", None)
        self._starts = {name: 8 + length + int(entry["data_offsets"][0]) for name, entry in header.items()}
        self.tensors = {name: TensorInfo(entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}
        if unsupported := sorted({info.dtype for info in self.tensors.values()} - set(_DTYPES)):
            raise MergeError(f"{self.label}: has tensors of dtype {', '.join(unsupported)}; supported are {', '.join(_DTYPES)}.")

    def piece(self, name: str, start: int, stop: int) -> Tensor:
        """Read elements `start` to `stop` of the flattened tensor into their own memory; raise MergeError for NaN or Inf."""
        import torch

        info = self.tensors[name]
        piece = torch.empty(stop - start, dtype=info.torch_dtype)
        buffer = _bytes_of(piece)
        with self.path.open("rb") as file:
            file.seek(self._starts[name] + start * info.element_bytes)
            if file.readinto(buffer) != len(buffer):
                raise MergeError(f"{self.label}: ends inside tensor {name!r}; another program is writing it. Create the file again.")
        _check_finite(piece, name, self.label)
        return piece


class TensorWriter:
    """Writer of a safetensors file, tensor by tensor in the order of `order`; equal tensors give equal bytes.

    As in the safetensors library, tensors are sorted by decreasing element size, then by name, which aligns every tensor to its element
    size. The metadata contain `format: pt`, without which transformers refuses a file.
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
        """Append the next elements of the flattened tensor `name` in its dtype; raise MergeError for NaN, Inf or overflow."""
        info = self._tensors[name]
        stored = values.to(info.torch_dtype).contiguous()
        _check_finite(stored, name, f"the merged model, stored as {info.dtype}")
        self._file.write(_bytes_of(stored))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _bytes_of(tensor: Tensor) -> memoryview:
    """View the memory of a contiguous tensor as writable bytes, without a copy (NumPy has no bfloat16)."""
    import torch

    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _check_finite(tensor: Tensor, name: str, where: str) -> None:
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise MergeError(
            f"{where}: tensor {name!r} contains NaN or Inf; its training diverged or the file is damaged. Use another checkpoint."
        )
