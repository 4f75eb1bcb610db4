"""Damage that decoders do not report, found from the metadata of WAV, FLAC and Ogg files."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from speechft.corpora.wav import wav_damage

_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_OGG_HEADER = 27


def container_damage(path: Path) -> str | None:
    """Describe the damage to the container of `path`; None if it is intact or its format has nothing to check."""
    if (damage := wav_damage(path)) is not None:
        return damage
    with path.open("rb") as file:
        is_ogg = file.read(4) == b"OggS"
    return _ogg_damage(path.read_bytes()) if is_ogg else None


def _ogg_damage(content: bytes) -> str | None:
    """Walk the pages: libogg skips damaged ones, which shortens the audio or fills the gap."""
    position, last_page = 0, False
    expected: dict[bytes, int] = {}  # stream -> number of its next page
    while position < len(content):
        header = content[position : position + _OGG_HEADER]
        if len(header) < _OGG_HEADER or header[:4] != b"OggS":
            return f"has no valid Ogg page at byte {position}"
        table_end = position + _OGG_HEADER + header[26]
        end = table_end + sum(content[position + _OGG_HEADER : table_end])
        if end > len(content):
            return "is cut off within an Ogg page"
        page = content[position : position + 22] + bytes(4) + content[position + 26 : end]
        if ogg_checksum(page) != int.from_bytes(header[22:26], "little"):
            return f"has a wrong checksum in the Ogg page at byte {position}"
        stream, number = header[14:18], int.from_bytes(header[18:22], "little")
        if number != expected.get(stream, number):
            return f"is missing Ogg pages before byte {position}"
        expected[stream] = number + 1
        last_page = bool(header[5] & 4)
        position = end
    return None if last_page else "is cut off: its last Ogg page does not end the stream"


def ogg_checksum(page: bytes) -> int:
    """Return Ogg's CRC-32: zlib's polynomial with reversed bit order and without the inversions."""
    reflected = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)


class FlacChecksum:
    """Compare the MD5 of decoded samples with the one in the FLAC header, which covers every sample of the original."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            head = file.read(10)
            if head[:3] == b"ID3":  # a tag before the stream; its size has 7 bits per byte
                size = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
                file.seek(10 + size)
            else:
                file.seek(0)
            stream_info = file.read(42)[8:]
        self._bits = (((stream_info[12] & 1) << 4) | (stream_info[13] >> 4)) + 1
        self._stated = stream_info[18:34]
        self._found = hashlib.md5(usedforsecurity=False)

    def update(self, samples: np.ndarray[Any, np.dtype[np.int32]]) -> None:
        """Add decoded samples (frames, channels), left-justified in 32 bits as libsndfile gives them."""
        octets = (samples >> (32 - self._bits)).astype("<i4").reshape(-1, 1).view(np.uint8)
        self._found.update(np.ascontiguousarray(octets[:, : (self._bits + 7) // 8]).tobytes())

    def matches(self) -> bool:
        """Whether the MD5 agrees; true if the encoder left the field zero."""
        return self._stated == bytes(16) or self._found.digest() == self._stated
