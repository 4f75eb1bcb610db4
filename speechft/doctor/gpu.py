"""Compare a GPU with the CPU: features, cells, stage-1 updates, a restart, and two claims of one device.

Encoders are small and random and recordings are tones, because only arithmetic and infrastructure are tested. Nothing is downloaded, and
all files are in a temporary folder. With `cpu` the CPU is compared with itself, which is how these checks are tested.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from speechft.conventions import SAMPLE_RATE
from speechft.doctor.findings import Finding, careful, verdict
from speechft.errors import SpeechFTError

Device = Literal["cpu", "cuda"]
FP32_TOLERANCE = 1e-3
"""Maximum difference of fp32 features from the CPU's, relative to their standard deviation."""
BF16_TOLERANCE = 0.3
UPDATES = 50
WEIGHTS_TOLERANCE = 0.05
"""Maximum distance of fine-tuned weights from the CPU's, relative to the distance of the CPU's from theta0."""
_SPLITS = {"train": 24, "dev": 12, "test": 24}
_WORDS = ("AB", "CD", "EF")
_TASKS: dict[str, dict[str, Any]] = {
    "sid": {"steps": 60, "batch_size": 8, "accumulate": 1, "eval_every": 20, "learning_rates": [1e-1, 1e-2]},
    "asr": {"steps": 60, "batch_size": 8, "eval_every": 30, "learning_rates": [1e-2], "task_options": {"hidden": 16, "projected": 16}},
}
_REMEDY = "Do not trust results of this device. Report this with `speechft doctor --gpu --json`."


def check_results(device: Device = "cuda") -> Iterator[Finding]:
    """Compare `device` with the CPU, one finding per check; about a minute on a GPU."""
    with tempfile.TemporaryDirectory(prefix="speechft-gpu-") as name:
        folder = Path(name)
        _prepare(folder)
        yield from careful("features", partial(_features, folder, device))
        yield from careful("cells", partial(_cells, folder, device))
        yield from careful("stage 1", partial(_updates, folder, device))
        yield from careful("restart", partial(_restart, folder, device))
        yield from careful("claims", partial(_claims, folder))


def _prepare(folder: Path) -> None:
    from speechft.encoders.directory.random_encoders import random_encoder

    random_encoder("hubert", folder / "encoder", seed=0)
    tones(folder, _SPLITS, (0.5, 1.0))


def tones(folder: Path, splits: Mapping[str, int], seconds: tuple[float, float]) -> Path:
    """Write a corpus of noisy tones whose speaker and text depend on the pitch, and return the folder of its manifests.

    Args:
        folder: receives the corpus.
        splits: split -> number of utterances.
        seconds: shortest and longest duration.
    """
    import numpy as np
    import soundfile

    from speechft.corpora import prepare_corpus
    from speechft.files.csv_tables import write_table
    from speechft.recipes.corpora import CorpusRecipe

    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    rows = [["path", "text", "speaker", "split"]]
    for split, count in splits.items():
        for index in range(count):
            kind, path = index % len(_WORDS), f"{split}{index}.wav"
            times = np.arange(int(generator.uniform(*seconds) * SAMPLE_RATE)) / SAMPLE_RATE
            wave = 0.3 * np.sin(2 * np.pi * 220 * 2**kind * times) + 0.02 * generator.standard_normal(len(times))
            soundfile.write(folder / path, wave.astype(np.float32), SAMPLE_RATE, subtype="FLOAT")
            rows.append([path, _WORDS[kind], f"s{kind}", split])
    write_table(folder / "corpus.csv", rows)
    prepare_corpus(CorpusRecipe(path=folder / "corpus.csv"), folder / "manifests")
    return folder / "manifests"


def _features(folder: Path, device: Device) -> Iterator[Finding]:
    import torch

    from speechft.encoders import load_encoder
    from speechft.evaluate.data.features import encoder_autocast, exact_fp32

    encoder = load_encoder(folder / "encoder")
    generator = torch.Generator().manual_seed(0)
    waveforms = [0.1 * torch.randn(samples, generator=generator) for samples in (16_000, 9_000, 24_000, 15_999)]

    def states(place: str, precision: Any) -> torch.Tensor:
        with torch.inference_mode(), encoder_autocast(torch.device(place), precision), exact_fp32():
            return torch.stack(encoder.to(place).encode(waveforms).hidden_states).float().cpu()

    expected = states("cpu", "fp32")
    for precision, tolerance in (("fp32", FP32_TOLERANCE), ("bf16", BF16_TOLERANCE)):
        found = states(device, precision)
        difference = float((found - expected).abs().max() / expected.std())
        good = bool(torch.isfinite(found).all()) and difference <= tolerance
        yield verdict(f"features, {precision}", good, f"differ from the CPU's by {difference:.1g} (at most {tolerance:g})", _REMEDY)


def _cells(folder: Path, device: Device) -> Iterator[Finding]:
    from speechft.evaluate import evaluate

    def metrics(task: str, place: str, precision: str) -> dict[str, float]:
        recipe = {**_TASKS[task], "protocol": "quick", "seeds": [1], "precision": precision}
        out = folder / f"{task}-{place}-{precision}.json"
        scores: dict[str, float] = evaluate(folder / "encoder", task, folder / "manifests", out, recipe, device=place)["metrics"]
        return scores

    # One test item may flip; with bf16, whose features differ, a few.
    for task in _TASKS:
        expected = metrics(task, "cpu", "fp32")
        for precision, items in (("fp32", 1), ("bf16", 3)):
            found = metrics(task, device, precision)
            tolerance = 100.0 * items / (_SPLITS["test"] if task == "sid" else _SPLITS["test"] / 4)
            good = all(abs(found[key] - value) <= tolerance for key, value in expected.items())
            shown = ", ".join(f"{key} {found[key]:.2f}, CPU {value:.2f}" for key, value in expected.items())
            yield verdict(f"cell of {task}, {precision}", good, shown, _REMEDY)


def _finetuning(folder: Path, out: str, device: Device) -> tuple[list[str], dict[str, str]]:
    """Build command and environment of a fine-tuning on `device`."""
    recipe = folder / "finetune.json"
    settings = f'"updates": {UPDATES}, "batch_size": 8, "validate_every": {UPDATES}, "peak_lr": 1e-3, "head_only": 0.1'
    recipe.write_text(f'{{"task": "sid", {settings}}}', encoding="utf-8")
    command = [sys.executable, "-m", "speechft.cli", "finetune", str(folder / "encoder"), str(folder / "manifests")]
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})}
    return [*command, "--recipe", str(recipe), "--out", str(folder / out), "--work-dir", str(folder / f"{out}-work")], environment


def _finetune(folder: Path, out: str, device: Device) -> None:
    command, environment = _finetuning(folder, out, device)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SpeechFTError(f"fine-tuning on {device} failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")


def _distance(folder: Path, first: str, second: str) -> float:
    """Distance between two fine-tuned encoders, relative to the distance of the second from theta0."""
    from safetensors.torch import load_file

    one, other, start = (load_file(folder / name / "model.safetensors") for name in (first, second, "encoder"))

    def norm(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
        return float(sum((a[key].double() - b[key].double()).square().sum() for key in a) ** 0.5)

    return norm(one, other) / norm(other, start)


def _updates(folder: Path, device: Device) -> Iterator[Finding]:
    _finetune(folder, "tuned-cpu", "cpu")
    _finetune(folder, "tuned", device)
    distance = _distance(folder, "tuned", "tuned-cpu")
    found = f"relative distance from the CPU's weights after {UPDATES} updates {distance:.1g} (at most {WEIGHTS_TOLERANCE:g})"
    yield verdict("stage 1", distance <= WEIGHTS_TOLERANCE, found, _REMEDY)


def _restart(folder: Path, device: Device) -> Iterator[Finding]:
    """Stop a fine-tuning by SIGTERM, then run the same command again."""
    command, environment = _finetuning(folder, "resumed", device)
    log = folder / "resumed-work/training.csv"
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and (not log.exists() or len(log.read_text(encoding="utf-8").splitlines()) < UPDATES // 4):
        time.sleep(0.05)
    stopped = process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.wait()
    _finetune(folder, "resumed", device)
    distance = _distance(folder, "resumed", "tuned")
    when = "stopped by SIGTERM and resumed" if stopped else "ended before it could be stopped"
    good = distance == 0 if device == "cpu" else distance <= WEIGHTS_TOLERANCE
    yield verdict("restart", good, f"{when}: relative distance {distance:.1g} from the uninterrupted run", _REMEDY)


def _claims(folder: Path) -> Iterator[Finding]:
    """Check that of two processes claiming one device, the second gets it when the first ends."""
    code = "import sys, time; from pathlib import Path; from speechft.runtime.gpus import claim_gpus; claim_gpus(1, Path(sys.argv[1]));"
    code += "print(time.time(), flush=True); time.sleep(1.5); print(time.time(), flush=True)"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"}
    command = [sys.executable, "-c", code, str(folder / "claims")]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    (began, ended), (other_began, _) = sorted([float(line) for line in process.communicate()[0].split()] for process in processes)
    good = other_began >= ended > began
    yield verdict("claims", good, "two jobs used one GPU in turn" if good else "two jobs used one GPU at the same time", _REMEDY)
