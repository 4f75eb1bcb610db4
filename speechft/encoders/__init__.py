"""Speech encoders: load, compute features, import from and export to other formats."""

from typing import TYPE_CHECKING

from speechft.lazy import lazy_names

if TYPE_CHECKING:
    from speechft.encoders.checking import check_encoder
    from speechft.encoders.checkpoints.exporting import export_checkpoint
    from speechft.encoders.checkpoints.importing import import_checkpoint
    from speechft.encoders.checkpoints.inspecting import inspect_checkpoint
    from speechft.encoders.checkpoints.storing import store_encoder
    from speechft.encoders.directory.random_encoders import random_encoder
    from speechft.encoders.fbank import fbank_encoder
    from speechft.encoders.interface import EncoderOutput, FeatureEncoder
    from speechft.encoders.model import Encoder, load_encoder

__all__ = [
    "Encoder",
    "EncoderOutput",
    "FeatureEncoder",
    "check_encoder",
    "export_checkpoint",
    "fbank_encoder",
    "import_checkpoint",
    "inspect_checkpoint",
    "load_encoder",
    "random_encoder",
    "store_encoder",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Encoder": "model",
        "EncoderOutput": "interface",
        "FeatureEncoder": "interface",
        "check_encoder": "checking",
        "export_checkpoint": "checkpoints.exporting",
        "fbank_encoder": "fbank",
        "import_checkpoint": "checkpoints.importing",
        "inspect_checkpoint": "checkpoints.inspecting",
        "load_encoder": "model",
        "random_encoder": "directory.random_encoders",
        "store_encoder": "checkpoints.storing",
    },
)
