"""Make the demo speech: `python demo/make_speech.py [FOLDER]`.

Needs the Debian packages flite, festival and festvox-us-slt-hts. Every choice is seeded by the name of the utterance, so that the same
versions of the voices and of libsndfile give the same files; the ones in the repository are listed in speech/SHA256SUMS.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from effects import RATE, Samples, colour, level, noise, room, trim, warp

from speechft.corpora.containers import ogg_checksum

HERE = Path(__file__).parent
KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
TAKES = {"train": 2, "dev": 1, "test": 2}  # of each keyword by each speaker
SPEAKERS_OF_A_SENTENCE = {"train": 2, "dev": 2, "test": 3}
# Loud enough that mean filterbanks do not solve keyword spotting and speaker identification (see README.md).
SNR_DB = {"keyword": (0.0, 15.0), "sentence": (8.0, 22.0)}
OGG_SERIAL = (20250101).to_bytes(4, "little")  # libsndfile draws it from the clock, which would change every file every time
COMPRESSION = 0.945  # libsndfile's scale from 0 to 1


@dataclass(frozen=True)
class Speaker:
    """A synthetic speaker: a voice of an engine, made larger (size < 1) or smaller (size > 1) by warping."""

    name: str
    engine: str
    voice: str
    size: float = 1.0


SPEAKERS = (
    Speaker("kal", "flite", "kal16"),
    Speaker("awb", "flite", "awb"),
    Speaker("rms", "flite", "rms"),
    Speaker("slt", "flite", "slt"),
    Speaker("kal_large", "flite", "kal16", 0.9),
    Speaker("awb_small", "flite", "awb", 1.1),
    Speaker("rms_small", "flite", "rms", 1.12),
    Speaker("slt_hts_large", "festival", "cmu_us_slt_arctic_hts", 0.92),
)


@dataclass(frozen=True)
class Utterance:
    """One file to make."""

    path: str
    text: str
    speaker: Speaker
    kind: str
    split: str

    @property
    def label(self) -> str:
        """The class of keyword rows."""
        return self.text.lower() if self.kind == "keyword" else ""


def plan() -> Iterator[Utterance]:
    """All utterances, in the order of the tables."""
    for speaker in SPEAKERS:
        for word in KEYWORDS:
            splits = [split for split, count in TAKES.items() for _ in range(count)]
            for take, split in enumerate(splits, start=1):
                yield Utterance(f"keywords/{speaker.name}-{word}-{take}.opus", word.upper(), speaker, "keyword", split)
    with (HERE / "texts.csv").open(encoding="utf-8", newline="") as file:
        texts = list(csv.DictReader(file))
    for number, row in enumerate(texts):
        # Rounds of eight sentences differ in which speakers share a sentence; each speaks equally many.
        shift = 1 + (number // len(SPEAKERS)) % 3
        for turn in range(SPEAKERS_OF_A_SENTENCE[row["split"]]):
            speaker = SPEAKERS[(number + turn * shift) % len(SPEAKERS)]
            yield Utterance(f"sentences/{speaker.name}-{number + 1:03}.opus", row["text"], speaker, "sentence", row["split"])


def speak(speaker: Speaker, text: str, stretch: float, pitch: float) -> Samples:
    """Let the engine say `text`, `stretch` times as long and at `pitch` times the height that is the voice's own."""
    with tempfile.TemporaryDirectory() as folder:
        wav, txt = Path(folder, "out.wav"), Path(folder, "in.txt")
        txt.write_text(text.lower() + "\n", encoding="utf-8")
        if speaker.engine == "flite":  # rms has no pitch control and ignores f0_shift
            command = ["flite", "-voice", speaker.voice, "--setf", f"duration_stretch={stretch:.3f}", "--setf", f"f0_shift={pitch:.3f}"]
            command += ["-f", str(txt), "-o", str(wav)]
        else:  # HTS counts speed, and its pitch follows its model alone
            speed = f'(set! hts_engine_params (append hts_engine_params (list (list "-r" {1 / stretch:.3f}))))'
            command = ["text2wave", "-eval", f"(begin (voice_{speaker.voice}) {speed})", "-o", str(wav), str(txt)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        samples, rate = soundfile.read(wav)
    return samples if rate == RATE else soxr.resample(samples, rate, RATE, quality="HQ")


def make(utterance: Utterance) -> Samples:
    """The waveform of an utterance with its speaking style and recording conditions."""
    rng = np.random.default_rng(list(hashlib.sha256(utterance.path.encode()).digest()))
    stretch = rng.uniform(0.9, 1.25) if utterance.kind == "keyword" else rng.uniform(0.72, 0.98)
    size = utterance.speaker.size * rng.uniform(0.96, 1.04)
    samples = speak(utterance.speaker, utterance.text, stretch * size, rng.uniform(0.88, 1.14))
    samples = trim(warp(samples, size))
    return level(noise(room(colour(samples, rng), rng), rng, SNR_DB[utterance.kind]), rng)


def encode(samples: Samples) -> bytes:
    """Ogg/Opus at 16 kHz with a fixed serial number."""
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


def write_tables(folder: Path, utterances: list[Utterance]) -> None:
    """manifest.csv with everything, and one table a task."""
    rows = [
        {"path": u.path, "text": u.text, "speaker": u.speaker.name, "label": u.label, "kind": u.kind, "split": u.split} for u in utterances
    ]
    sentences = [row for row in rows if row["kind"] == "sentence"]
    tables = {
        "manifest.csv": (rows, ("path", "text", "speaker", "label", "kind", "split")),
        "keywords.csv": ([row for row in rows if row["kind"] == "keyword"], ("path", "text", "speaker", "label", "split")),
        "sentences.csv": (sentences, ("path", "text", "speaker", "split")),
        "speakers.csv": ([{**row, "label": row["speaker"]} for row in sentences], ("path", "speaker", "label", "split")),
        "all.csv": (rows, ("path",)),
        "pretrain.csv": ([row for row in rows if row["split"] == "train"], ("path",)),
    }
    for name, (content, columns) in tables.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(content)


def main(folder: Path) -> None:
    """Make everything into `folder`, replacing what was there."""
    for program in ("flite", "text2wave"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is missing. Install the Debian packages flite, festival and festvox-us-slt-hts.")
    utterances = list(plan())
    for kind in ("keywords", "sentences"):
        shutil.rmtree(folder / kind, ignore_errors=True)
        (folder / kind).mkdir(parents=True)
    seconds = 0.0
    with ThreadPoolExecutor(2) as pool:
        for utterance, samples in zip(utterances, pool.map(make, utterances), strict=True):
            (folder / utterance.path).write_bytes(encode(samples))
            seconds += len(samples) / RATE
    write_tables(folder, utterances)
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".opus", ".csv"))
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    size = sum(path.stat().st_size for path in files)
    print(f"{len(utterances)} utterances, {seconds / 60:.1f} minutes, {size / 1e6:.2f} MB in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "speech")
