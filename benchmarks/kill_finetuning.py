"""Kill a fine-tuning with SIGKILL at random instants, start it again each time, and compare its end with that of an undisturbed run.

    python benchmarks/kill_finetuning.py --kills 20          # prints a log; status 1 if anything differs

A tiny encoder and half a minute of tones, on the CPU with one thread. Instants are drawn uniformly from the life of the process: a part
falls into its start, when Python loads, and a part into updates, validations and saves, which come every few updates. After the last kill
the run is left alone. Compared are the weights of the best encoder and of the early checkpoint, byte for byte, and the training log.
"""

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from machine import describe

SAMPLING_RATE = 16_000
COMPARED = ("model.safetensors", "early/0.20/model.safetensors", "training.csv")


def make_corpus(folder: Path, utterances: int = 60) -> Path:
    """Manifests of tones of three pitches, whose names are the speakers."""
    from speechft.corpora import prepare_corpus
    from speechft.recipes import CorpusRecipe

    folder.mkdir()
    generator = np.random.default_rng(0)
    rows = []
    for index in range(utterances):
        samples = int(generator.uniform(0.3, 0.7) * SAMPLING_RATE)
        pitch = index % 3
        wave = 0.3 * np.sin(2 * np.pi * 220 * 2**pitch * np.arange(samples) / SAMPLING_RATE) + 0.02 * generator.standard_normal(samples)
        soundfile.write(folder / f"{index}.wav", wave.astype(np.float32), SAMPLING_RATE)
        rows.append({"path": f"{index}.wav", "speaker": f"s{pitch}", "split": "dev" if index >= utterances - 12 else "train"})
    with (folder / "corpus.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    prepare_corpus(CorpusRecipe(path=folder / "corpus.csv"), folder / "manifests")
    return folder / "manifests"


class Job:
    """One fine-tuning as a command, started as often as it takes."""

    def __init__(self, folder: Path, model: Path, manifests: Path, recipe: Path) -> None:
        self.out, self.work, self.log = folder / "out", folder / "work", folder / "log.txt"
        folder.mkdir()
        self.command = [sys.executable, "-m", "speechft.cli", "finetune", str(model), str(manifests), "--recipe", str(recipe)]
        self.command += ["--out", str(self.out), "--work-dir", str(self.work), "--threads", "1"]

    def start(self) -> subprocess.Popen[bytes]:
        """A process group of its own."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        with self.log.open("a") as file:
            return subprocess.Popen(self.command, stdout=file, stderr=file, env=environment, start_new_session=True)

    def finish(self) -> float:
        """Run to the end; seconds that it took."""
        started = time.monotonic()
        status = self.start().wait()
        if status:
            raise SystemExit(f"status {status}:\n{self.log.read_text()[-3000:]}")
        return time.monotonic() - started

    def updates(self) -> int:
        """Updates in the log of the work directory."""
        path = self.work / "training.csv"
        return max(0, len(path.read_text(encoding="utf-8").splitlines()) - 1) if path.is_file() else 0


def kill_at(job: Job, seconds: float) -> bool:
    """Kill the job `seconds` after its start; False if it was done before."""
    process = job.start()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    if process.returncode:
        raise SystemExit(f"status {process.returncode}:\n{job.log.read_text()[-3000:]}")
    return False


def parse() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    return parser.parse_args()


def main() -> None:
    options = parse()
    from speechft.encoders import random_encoder
    from speechft.recipes import FinetuneRecipe

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model, manifests = random_encoder("hubert", folder / "model"), make_corpus(folder / "corpus")
        recipe = FinetuneRecipe(task="sid", updates=options.updates, batch_size=4, accumulate=2, validate_every=5, peak_lr=1e-3)
        (folder / "recipe.json").write_text(recipe.model_dump_json())
        whole = Job(folder / "whole", model, manifests, folder / "recipe.json")
        seconds = whole.finish()
        print(describe())
        print(f"{options.updates} updates of 2 batches, a checkpoint every 5; undisturbed {seconds:.1f} s.", flush=True)
        job, draws, killed = Job(folder / "killed", model, manifests, folder / "recipe.json"), random.Random(options.seed), 0
        while killed < options.kills:
            instant = draws.uniform(0.0, seconds / 2)
            if not kill_at(job, instant):
                raise SystemExit(f"done after {killed} kills; give more --updates")
            killed += 1
            print(f"kill {killed:2}: {instant:5.1f} s after the start, {job.updates():4} updates in the log", flush=True)
        print(f"then left alone: {job.finish():.1f} s")
        differing = [name for name in COMPARED if (job.out / name).read_bytes() != (whole.out / name).read_bytes()]
        for name in COMPARED:
            print(f"{name}: {'DIFFERS' if name in differing else 'equal, byte for byte'}")
        if differing:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
