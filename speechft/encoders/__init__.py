"""Speech encoders: loading, features, import from and export to the formats that users have.

Importing this package is cheap; torch and transformers are loaded when one of its functions is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechft.encoders.exporting import export_checkpoint
    from speechft.encoders.fbank_directory import fbank_encoder
    from speechft.encoders.importing import import_checkpoint
    from speechft.encoders.inspecting import inspect_checkpoint
    from speechft.encoders.model import Encoder, EncoderOutput, load_encoder
    from speechft.encoders.random_encoders import random_encoder
    from speechft.encoders.storing import store_encoder

__all__ = [
    "Encoder",
    "EncoderOutput",
    "export_checkpoint",
    "fbank_encoder",
    "import_checkpoint",
    "inspect_checkpoint",
    "load_encoder",
    "random_encoder",
    "store_encoder",
]

_HOME = {
    "Encoder": "model",
    "EncoderOutput": "model",
    "load_encoder": "model",
    "import_checkpoint": "importing",
    "export_checkpoint": "exporting",
    "inspect_checkpoint": "inspecting",
    "random_encoder": "random_encoders",
    "fbank_encoder": "fbank_directory",
    "store_encoder": "storing",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"speechft.encoders.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
