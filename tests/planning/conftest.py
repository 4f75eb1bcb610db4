import pytest

from speechft.planning.shapes import base_shape
from speechft.planning.speeds import DeviceSpeeds, EncoderSpeed


def speeds(kind="cpu", name="Toy", forward=10.0, **changes):
    """A device on which everything has a round number."""
    encoder = EncoderSpeed(shape=base_shape("hubert"), forward={"fp32": forward}, update={"fp32": forward / 4}, step_seconds=0.5)
    values = {
        "kind": kind, "name": name, "threads": 1, "measured": "2026-01-02", "clock": "wall time", "software": {},
        "encoders": {"hubert_base": encoder}, "heads": {"pr": 100.0, "asr": 5.0, "sd": 50.0, "asv": 50.0},
        "pooled_steps": {"ks": 100.0, "sid": 50.0}, "search_frames": 1e6, **changes,
    }  # fmt: skip
    return DeviceSpeeds(**values)


@pytest.fixture
def toy():
    return speeds()
