"""Files of a stand-in: recordings, lists, and what archives hold beside them."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import numpy as np
import soundfile

from speechft.conventions import SAMPLE_RATE
from speechft.rehearsal.stand_ins.speech import Samples

_SPHERE_HEADER_BYTES = 1024
# AppleDouble: magic number, version, and the name of the file system that it was written for.
_APPLE_DOUBLE = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(58)


class Layout:
    """A folder that is filled with a corpus; names are relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def audio(self, name: str, samples: Samples, rate: int = SAMPLE_RATE) -> None:
        """A recording of 16 bits; its suffix says the container."""
        soundfile.write(self._place(name), samples, rate, subtype="PCM_16")

    def sphere(self, name: str, samples: Samples, **fields: str | int) -> None:
        """A recording with a header of NIST SPHERE, in which `fields` come first, little-endian as the corpora have it."""
        whole = np.round(np.clip(samples, -1, 1) * 32_767).astype("<i2")
        entries: dict[str, str | int] = {**fields, "channel_count": 1, "sample_count": len(whole), "sample_rate": SAMPLE_RATE}
        entries |= {"sample_n_bytes": 2, "sample_byte_format": "01", "sample_sig_bits": 16}
        lines = ["NIST_1A", f"{_SPHERE_HEADER_BYTES:7}", *(_sphere_field(*entry) for entry in entries.items()), "end_head"]
        header = "".join(f"{line}\n" for line in lines).encode("ascii")
        self._place(name).write_bytes(header.ljust(_SPHERE_HEADER_BYTES) + whole.tobytes())

    def text(self, name: str, *lines: str) -> None:
        """A text file in UTF-8."""
        self._place(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def resource_fork(self, name: str) -> None:
        """The file `._NAME` that macOS puts beside `name` when it packs an archive: no audio and no text."""
        path = self._place(name)
        path.with_name(f"._{path.name}").write_bytes(_APPLE_DOUBLE)

    def _place(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _sphere_field(name: str, value: str | int) -> str:
    return f"{name} -i {value}" if isinstance(value, int) else f"{name} -s{len(value)} {value}"


def made_up_name(seed: str, length: int) -> str:
    """A name of letters, digits, - and _, such as platforms give; equal seeds give equal names."""
    return base64.urlsafe_b64encode(hashlib.sha256(seed.encode()).digest()).decode()[:length]
