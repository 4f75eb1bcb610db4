"""Lengths in the headers of WAV files (RIFF, RIFX, RF64, BW64), which may be correct, unknown or too short."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

_ORDERS: dict[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"RIFX": "big", b"RF64": "little", b"BW64": "little"}
_LONG = (b"RF64", b"BW64")
"""Kinds with 64-bit lengths in the chunk `ds64`; the 32-bit length of `data` is then all ones."""
_FULL = 0xFFFFFFFF
_DS64_BYTES = 16
"""Size of the two lengths at the start of `ds64`: of the file, then of `data`."""
_PADDING = 4096
"""Zeros after the audio, up to this many bytes, are block padding."""
_TAGS = (b"ID3\x02", b"ID3\x03", b"ID3\x04", b"TAG", b"APETAGEX")
"""Tags that programs append after the chunks."""
_LONGEST_HEADER = 1000
"""Most chunks before `data`; a file with more is not treated as WAV."""


@dataclass(frozen=True)
class WavLengths:
    """Position and length of the audio in a WAV file; `stated` is the header's length in bytes, None if the writer did not know it."""

    kind: bytes
    file_bytes: int
    riff: int | None
    """Stated length of the file without its first 8 bytes; None if not known."""
    start: int
    stated: int | None
    ds64: int | None
    """Position of the content of `ds64`, if present."""

    @property
    def present(self) -> int:
        """Bytes from the start of the audio to the end of the file."""
        return self.file_bytes - self.start

    def corrections(self) -> dict[int, bytes]:
        """Return position -> bytes that make libsndfile read the whole recording; empty if it needs none."""
        if self.stated is not None and self.kind != b"BW64":
            return {}
        order = _ORDERS[self.kind]
        length = self.present if self.stated is None else self.stated
        if self.kind not in _LONG:
            return {4: _bytes(self.file_bytes - 8, 4, order), self.start - 4: _bytes(length, 4, order)}
        corrected = {0: b"RF64"}
        if self.ds64 is not None:
            corrected[self.ds64] = _bytes(self.file_bytes - 8, 8, order) + _bytes(length, 8, order)
        return corrected


def _bytes(value: int, width: int, order: Literal["little", "big"]) -> bytes:
    return min(value, (1 << 8 * width) - 1).to_bytes(width, order)


def wav_lengths(path: Path) -> WavLengths | None:
    """Read the lengths in the header of a WAV file; None for another file or one without `data`."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] not in _ORDERS or head[8:] != b"WAVE":
            return None
        order = _ORDERS[head[:4]]
        file_bytes = os.fstat(file.fileno()).st_size
        long_riff = long_data = ds64 = None
        for _ in range(_LONGEST_HEADER):
            position = file.tell()
            name, size = _chunk(file, order)
            if name == b"data":
                break
            if size is None or position + 8 + size > file_bytes:
                return None
            if name == b"ds64" and size >= _DS64_BYTES:
                ds64 = position + 8
                sizes = file.read(_DS64_BYTES)
                long_riff, long_data = int.from_bytes(sizes[:8], order), int.from_bytes(sizes[8:], order)
            file.seek(position + 8 + size + size % 2)
        else:
            return None
        if size is None:
            return None
        start = position + 8
        riff: int | None = int.from_bytes(head[4:8], order)
        stated: int | None = size
        if head[:4] in _LONG:
            riff = long_riff if riff == _FULL else riff
            stated = long_data if size == _FULL else size
        if stated is None or _unknown(stated, start, file_bytes) or (stated == 0 and not _only_chunks(file, start, file_bytes, order)):
            stated = None
        if riff is None or _unknown(riff, 8, file_bytes) or riff == 0:
            riff = None
        return WavLengths(head[:4], file_bytes, riff, start, stated, ds64)


def _unknown(size: int, start: int, file_bytes: int) -> bool:
    """Whether a length is a placeholder, or close to one: 0x7FFFF000 (SoX), 0x7FFFFF00 (arecord), 0xFFFFFFFF (FFmpeg)."""
    placeholder = 0x7FFFF000 <= size <= 0x80000FFF or 0xFFFFF000 <= size <= _FULL or size >= 2**63
    return placeholder and start + size > file_bytes


def _chunk(file: BinaryIO, order: Literal["little", "big"]) -> tuple[bytes, int | None]:
    """Read the name and length of the chunk at this position; the length is None if no chunk can begin here."""
    head = file.read(8)
    name = head[:4]
    printable = len(head) == 8 and all(0x20 <= byte < 0x7F for byte in name)
    return name, int.from_bytes(head[4:], order) if printable else None


def _only_chunks(file: BinaryIO, position: int, end: int, order: Literal["little", "big"]) -> bool:
    """Whether nothing but chunks, tags or padding lies between `position` and `end`."""
    while end - position >= 8:
        file.seek(position)
        rest = file.read(min(end - position, _PADDING + 1))
        if len(rest) <= _PADDING and not rest.strip(b"\0"):
            return True
        if rest.startswith(_TAGS):
            return True
        file.seek(position)
        _, size = _chunk(file, order)
        if size is None or position + 8 + size > end:
            return False
        position += 8 + size + size % 2
    return True


def wav_damage(path: Path) -> str | None:
    """Describe what is wrong with the lengths in the header of a WAV file; None if the whole recording can be read, or for another file."""
    lengths = wav_lengths(path)
    if lengths is None:
        return None
    if lengths.stated is None:
        if lengths.kind not in _LONG and lengths.present > _FULL:
            return "is a stream of more than 4 GiB, whose length its header cannot hold; convert it to FLAC or RF64"
        return None
    end = lengths.start + lengths.stated
    if end > lengths.file_bytes:
        return f"is cut off: {lengths.file_bytes} bytes, but its header says {end}"
    if lengths.riff is not None and lengths.riff + 8 > lengths.file_bytes:
        return f"is cut off: {lengths.file_bytes} bytes, but its header says {lengths.riff + 8}"
    order = _ORDERS[lengths.kind]
    with path.open("rb") as file:
        # Some writers omit the padding byte after an odd length.
        if any(_only_chunks(file, begin, lengths.file_bytes, order) for begin in sorted({end, end + end % 2})):
            return None
    behind = lengths.file_bytes - end
    return (
        f"has {behind} bytes that are not a chunk after the {lengths.stated} bytes of audio stated in its header, left by a recorder that "
        "stopped early; rewrite the header (for example with `sox --ignore-length`), or leave the recording out"
    )
