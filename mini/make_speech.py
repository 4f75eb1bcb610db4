"""Create the corpus from clean speech: `python mini/make_speech.py RAW [FOLDER]`, where RAW is the output of synthesise.py.

Every random choice is seeded by the name of the recording, so that equal versions of the libraries give equal files; those in the
repository are listed in speech/SHA256SUMS.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from effects import RATE, Samples, color, hiss, level, noise, room, voiced_extent, warp
from plan import Phones, Recording, Utterance, plan
from styles import restyle
from tables import write_changed, write_tables

from speechft.corpora.containers import ogg_checksum

HERE = Path(__file__).parent
# Noisy enough that mean filterbanks do not solve the tasks (see README.md).
SNR_DB = {
    "sentence": (8.0, 22.0),
    "speaker": (8.0, 22.0),
    "keyword": (6.0, 20.0),
    "unknown": (6.0, 20.0),
    "command": (8.0, 22.0),
    "style": (8.0, 22.0),
    "query": (12.0, 25.0),
}
SILENCE_DB = (-50.0, -24.0)
SIZE = (0.96, 1.04)  # variation of a voice between recordings
MARGIN = 0.08  # seconds kept before and after speech
SHORTEST = 0.3
FAINT = 0.05  # seconds of a last phone that is not loud enough to be in the extent of speech
OGG_SERIAL = (20250101).to_bytes(4, "little")  # fixed; libsndfile's own is from the clock and would change every file
COMPRESSION = 0.945  # libsndfile's scale from 0 to 1


def make(utterance: Utterance, raw: Path) -> tuple[Samples, float, float, Phones]:
    """Return the waveform of an utterance under its recording conditions, start and end of its speech, and its phones."""
    rng = np.random.default_rng(list(hashlib.sha256(utterance.path.encode()).digest()))
    if utterance.kind == "silence":
        samples = hiss(round(rng.uniform(1.0, 1.6) * RATE), rng)
        return level(color(samples, rng), rng, rng.uniform(*SILENCE_DB), 0.0), 0.0, 0.0, []
    samples, _ = soundfile.read(raw / f"{utterance.name}.flac")
    spoken = json.loads((raw / f"{utterance.name}.json").read_text(encoding="utf-8"))["phones"]
    length = len(samples)
    if utterance.kind == "style":
        samples, _ = restyle(samples, utterance.label, rng)
    samples = warp(samples, rng.uniform(*SIZE))
    stretch = len(samples) / length
    first, last = voiced_extent(samples)
    reach = round(max(MARGIN, (SHORTEST - (last - first) / RATE) / 2) * RATE)
    offset = max(0, first - reach)
    samples = samples[offset : last + reach]
    start, end = (first - offset) / RATE, (last - offset) / RATE
    times = [(phone, a * stretch - offset / RATE, b * stretch - offset / RATE) for phone, a, b, _ in spoken]
    # The model's last phone extends into the silence; a faint one starts after the loud part, and may be cut off.
    phones = [(phone, max(a, 0.0), min(b, max(end, a + FAINT), len(samples) / RATE)) for phone, a, b in times]
    return level(noise(room(color(samples, rng), rng), rng, SNR_DB[utterance.kind]), rng), start, end, phones


def encode(samples: Samples) -> bytes:
    """Encode as Ogg/Opus at 16 kHz with a fixed serial number."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="OGG", subtype="OPUS", compression_level=COMPRESSION)
    content, position = bytearray(buffer.getvalue()), 0
    while position < len(content):
        table_end = position + 27 + content[position + 26]
        end = table_end + sum(content[position + 27 : table_end])
        content[position + 14 : position + 18] = OGG_SERIAL
        content[position + 22 : position + 26] = bytes(4)
        content[position + 22 : position + 26] = ogg_checksum(bytes(content[position:end])).to_bytes(4, "little")
        position = end
    return bytes(content)


def write(utterance: Utterance, raw: Path, folder: Path) -> Recording:
    """Render an utterance and write its file."""
    samples, start, end, phones = make(utterance, raw)
    write_changed(folder / utterance.path, encode(samples))
    return Recording(utterance, len(samples) / RATE, start, end, phones)


def main(raw: Path, folder: Path) -> None:
    """Write everything to `folder`, and remove recordings that are not in the plan."""
    utterances = plan()
    missing = [u.name for u in utterances if u.voice and not (raw / f"{u.name}.json").exists()]
    if missing:
        sys.exit(f"{raw} lacks {len(missing)} of the {len(utterances)} utterances, e.g. {missing[0]}: run synthesise.py to its end first.")
    for path in set(folder.rglob("*.opus")) - {folder / utterance.path for utterance in utterances}:
        path.unlink()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        recordings = list(pool.map(partial(write, raw=raw, folder=folder), utterances, chunksize=20))
    write_tables(folder, recordings)
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".opus", ".csv"))
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    size, seconds = sum(path.stat().st_size for path in files), sum(recording.seconds for recording in recordings)
    print(f"{len(recordings)} recordings, {seconds / 60:.1f} minutes, {size / 1e6:.2f} MB in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "speech")
