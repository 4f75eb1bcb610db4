"""Compare our encoder with the expert of s3prl 0.4.18: same random HuBERT-base weights, waveforms and machine, alternating.

    bash benchmarks/make_s3prl_env.sh          # once
    python benchmarks/encoder.py               # prints Markdown

Workload A: utterances of equal length. Workload B: utterances of 1 to 15 s in one batch. Both sides return all hidden states. Each runs in
its own process with the same number of threads; only one computes at a time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from machine import describe, median_and_range
from peer import add_peer_options, check_peer, hubert_base

HERE = Path(__file__).parent
SAMPLE_RATE = 16_000
PAUSE = 0.3
"""Seconds between turns, so that idle threads of the other side sleep."""
TOLERANCE = 1e-4


@dataclass
class Workload:
    """A batch of waveforms on disk."""

    name: str
    path: Path
    seconds: list[float]

    @classmethod
    def make(cls, name: str, seconds: Sequence[float], folder: Path, seed: int) -> Self:
        """Create noise of the given durations."""
        generator = np.random.default_rng(seed)
        path = folder / f"{name}.npz"
        waveforms = [0.1 * generator.standard_normal(round(duration * SAMPLE_RATE), dtype=np.float32) for duration in seconds]
        np.savez(path, **{f"{index:03d}": waveform for index, waveform in enumerate(waveforms)})
        return cls(name, path, list(seconds))

    def __str__(self) -> str:
        padded = len(self.seconds) * max(self.seconds)
        return f"{self.name}: {len(self.seconds)} utterances, {sum(self.seconds):.1f} s of audio, {padded:.1f} s when padded"


class Worker:
    """One side of the comparison in its own process."""

    def __init__(self, python: Path, side: str, model: Path, device: str, threads: int) -> None:
        command = [str(python), str(HERE / "encoder_worker.py"), side, str(model), device, str(threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.side = side
        self.torch = str(self._answer()["torch"])

    def run(self, workload: Workload, features: Path | None = None) -> float:
        """Run one pass and return its seconds."""
        return float(self._ask(json.dumps({"waveforms": str(workload.path), "features": str(features) if features else None}))["seconds"])

    def peak_bytes(self) -> int:
        """Return the peak memory of the process, or on a GPU of its tensors."""
        return int(self._ask("")["peak_bytes"])

    def close(self) -> None:
        """End the process."""
        self.process.communicate()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the {self.side} side ended with status {self.process.wait()}; its message is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def largest_difference(workers: Sequence[Worker], workload: Workload, folder: Path) -> float:
    """Return the largest absolute difference of any hidden state between the two sides."""
    paths = [folder / f"{worker.side}.npy" for worker in workers]
    for worker, path in zip(workers, paths, strict=True):
        worker.run(workload, path)
    first, second = (np.load(path) for path in paths)
    if first.shape != second.shape:
        raise SystemExit(f"{workload.name}: hidden states have shapes {first.shape} and {second.shape}")
    return float(np.abs(first - second).max())


def take_turns(workers: Sequence[Worker], workload: Workload, warmup: int, repetitions: int) -> list[list[float]]:
    """Time the workers alternately, with the order changing at every repetition, and return the seconds of each."""
    times: list[list[float]] = [[] for _ in workers]
    for repetition in range(warmup + repetitions):
        order = list(range(len(workers)))[:: 1 if repetition % 2 else -1]
        for index in order:
            time.sleep(PAUSE)
            seconds = workers[index].run(workload)
            if repetition >= warmup:
                times[index].append(seconds)
    return times


def make_models(folder: Path, small: bool) -> tuple[Path, Path]:
    """Write the same random encoder as encoder directory and in s3prl's converted layout."""
    from speechft.encoders import export_checkpoint

    ours = hubert_base(folder / "speechft", small=small)
    export_checkpoint(ours, folder / "s3prl.pt", format="s3prl")
    return ours, folder / "s3prl.pt"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--utterances", type=int, default=8, help="utterances per workload")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the utterances of workload A")
    parser.add_argument("--longest", type=float, default=15.0, help="longest utterance of workload B; the shortest has at least 1 s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devices", nargs="+", choices=["cpu", "cuda"], help="default: the CPU, and CUDA if available")
    add_peer_options(parser)
    return parser.parse_args()


def main() -> None:
    import torch

    options = parse()
    check_peer(options)
    devices = options.devices or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    gpu = torch.cuda.get_device_name() if "cuda" in devices else None
    durations = np.random.default_rng(options.seed).uniform(1.0, options.longest, options.utterances)
    rows, wrong = [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        equal = Workload.make("A", [options.seconds] * options.utterances, folder, options.seed)
        mixed = Workload.make("B", [float(duration) for duration in durations], folder, options.seed + 1)
        ours, theirs = make_models(folder, options.small)
        for device in devices:
            workers = [
                Worker(options.s3prl_python, "s3prl", theirs, device, options.threads),
                Worker(Path(sys.executable), "speechft", ours, device, options.threads),
            ]
            versions = {worker.torch for worker in workers}
            difference = largest_difference(workers, equal, folder)
            if device == "cpu" and difference > TOLERANCE:
                wrong.append(f"hidden states differ by {difference:.1e} on the CPU, more than {TOLERANCE}")
            for workload in (equal, mixed):
                reference, own = take_turns(workers, workload, options.warmup, options.repetitions)
                ratios = [slow / fast for slow, fast in zip(reference, own, strict=True)]
                agreement = f"{difference:.1e}" if workload is equal else ""
                rows.append(
                    f"| {'GPU' if device == 'cuda' else 'CPU'}, fp32 | {workload.name} | {median_and_range(reference)} "
                    f"| {median_and_range(own)} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {agreement} |"
                )
            peaks = " and ".join(f"{worker.side} {worker.peak_bytes() / 2**30:.2f} GiB" for worker in workers)
            rows.append(f"| {device} | peak memory | {peaks} | | | |")
            for worker in workers:
                worker.close()
    print(describe(gpu))
    print(f"{'A tiny model, not HuBERT base' if options.small else 'HuBERT base, random weights'}; {options.threads} threads;", end=" ")
    print(f"{options.repetitions} repetitions after {options.warmup}, taking turns; median (range). torch of both: {', '.join(versions)}.")
    print(f"{equal}. {mixed} (seed {options.seed}).\n")
    print("| device | workload | s3prl 0.4.18 | speechft | s3prl / speechft | max abs difference of hidden states |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))
    if wrong:
        raise SystemExit("; ".join(wrong))


if __name__ == "__main__":
    main()
