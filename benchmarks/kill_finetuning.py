"""Kill a fine-tuning with SIGKILL at random times, restart it each time, and compare its result with an undisturbed run.

    python benchmarks/kill_finetuning.py --kills 20          # prints a log; status 1 if anything differs

Uses a tiny encoder and half a minute of tones, on the CPU with one thread. A process is killed at a random time after a random number of
updates, including none, and thus while it reads checkpoints, updates, validates or saves. After the last kill, the run finishes. The
weights of the best encoder and of the early checkpoint are compared byte for byte, as is the training log.
"""

import argparse
import csv
import multiprocessing
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from machine import describe

SAMPLING_RATE = 16_000
JITTER = 0.2
"""Largest delay in seconds between the last update of a process and its kill."""
COMPARED = ("model.safetensors", "early/0.20/model.safetensors", "training.csv")


def make_corpus(folder: Path, utterances: int = 60) -> Path:
    """Create a corpus of tones with three pitches, which are the speakers, and return its manifests."""
    from speechft.corpora import prepare_corpus
    from speechft.recipes.corpora import CorpusRecipe

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
    """A fine-tuning that is restarted as often as necessary, each time in a new process.

    Processes are forked from this one, which has loaded everything but has no threads, so that they start working at once.
    """

    def __init__(self, folder: Path, model: Path, manifests: Path, recipe: Any) -> None:
        self.out, self.work, self.log = folder / "out", folder / "work", folder / "log.txt"
        folder.mkdir()
        self.arguments = (model, recipe, manifests, self.out, self.work)

    def _run(self) -> None:
        from speechft.finetune import finetune

        with self.log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        finetune(*self.arguments)

    def start(self) -> Any:
        """Start a process."""
        process = multiprocessing.get_context("fork").Process(target=self._run)
        process.start()
        return process

    def finish(self) -> float:
        """Run to the end and return the seconds."""
        started = time.monotonic()
        process = self.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"status {process.exitcode}:\n{self.log.read_text()[-3000:]}")
        return time.monotonic() - started

    def rows(self) -> int:
        """Return the number of updates in the log."""
        table = self.work / "training.csv"
        return max(0, table.read_bytes().count(b"\n") - 1) if table.is_file() else 0

    def kill_after(self, updates: int, seconds: float) -> bool:
        """Start a process and kill it `seconds` after the log has `updates` more rows; return False if the job finished before."""
        goal = self.rows() + updates
        process = self.start()
        while updates and self.rows() < goal and process.is_alive():
            time.sleep(0.002)
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
        if process.exitcode not in (0, -signal.SIGKILL):
            raise SystemExit(f"status {process.exitcode}:\n{self.log.read_text()[-3000:]}")
        return bool(process.exitcode)

    def left(self) -> str:
        """Describe what the killed process left behind."""
        unfinished = [path.name for path in self.work.rglob("*.tmp")]
        return f"{self.rows():4} updates in the log" + (f", unfinished files {', '.join(unfinished)}" if unfinished else "")


def parse() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0, help="seed of the times")
    return parser.parse_args()


def main() -> None:
    options = parse()
    import torch

    from speechft.encoders import random_encoder
    from speechft.fairseq_plugin.trainer import import_fairseq
    from speechft.recipes.finetuning import FinetuneRecipe

    torch.set_num_threads(1)
    import_fairseq()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model, manifests = random_encoder("hubert", folder / "model"), make_corpus(folder / "corpus")
        recipe = FinetuneRecipe(task="sid", updates=options.updates, batch_size=4, accumulate=2, validate_every=5, peak_lr=1e-3)
        whole = Job(folder / "whole", model, manifests, recipe)
        seconds = whole.finish()
        print(describe())
        print(f"{options.updates} updates of 2 batches, a checkpoint every 5; undisturbed {seconds:.1f} s.", flush=True)
        job, draws = Job(folder / "killed", model, manifests, recipe), random.Random(options.seed)
        for number in range(1, options.kills + 1):
            # The speed of a busy machine varies, so part of the time is drawn as updates; kills share three fifths of the run.
            updates, instant = draws.randint(0, round(1.2 * options.updates / options.kills)), draws.uniform(0.0, JITTER)
            if not job.kill_after(updates, instant):
                raise SystemExit(f"finished before kill {number}; increase --updates")
            print(f"kill {number:2}: {updates:2} updates and {1000 * instant:3.0f} ms after the start, {job.left()}", flush=True)
        print(f"then left alone: {job.finish():.1f} s")
        differing = [name for name in COMPARED if (job.out / name).read_bytes() != (whole.out / name).read_bytes()]
        for name in COMPARED:
            print(f"{name}: {'DIFFERS' if name in differing else 'equal, byte for byte'}")
        if differing:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
