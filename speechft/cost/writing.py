"""How fast a folder takes what is written. No torch here."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from speechft.errors import SpeechFTError
from speechft.files.atomic import explain_unwritable

WRITTEN_MB = 256


def write_speed(folder: Path, megabytes: int | None = None) -> float:
    """Megabytes a second that `folder` takes, until they are on the disk; the file is removed, and a folder that was made for it.

    Raises:
        SpeechFTError: nothing can be written there.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    megabytes = megabytes or WRITTEN_MB
    block = os.urandom(1 << 20)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".speechft-speed-") as file:
            started = time.perf_counter()
            for _ in range(megabytes):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            return megabytes * 1.048576 / max(1e-9, time.perf_counter() - started)
    except OSError as error:
        raise explain_unwritable(error, folder) or SpeechFTError(f"{folder}: cannot be written ({error}).") from None
    finally:
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
