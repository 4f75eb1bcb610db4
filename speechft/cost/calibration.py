"""Measure how fast this machine is at what experiments do: the encoder forwards and backwards, heads, the search of QbE, writing files.

Weights are random and audio is noise: speed does not depend on either. Everything runs through the code that trains and evaluates.
"""

from __future__ import annotations

import datetime
import logging
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from speechft.conventions import SAMPLE_RATE
from speechft.cost.shapes import HEAD_SIZES, EncoderShape, base_shape, shape_of_directory
from speechft.cost.throughput import HEAD_TASKS, DeviceSpeeds, EncoderSpeed
from speechft.cost.writing import write_speed
from speechft.encoders.directory.layout import empty_backbone, read_config
from speechft.encoders.directory.random_encoders import base_sizes
from speechft.encoders.families import LEARNED_FAMILIES, transformers_config
from speechft.encoders.model import Encoder
from speechft.errors import ConfigError, TrainingError
from speechft.evaluate.data.features import batch_samples, encoder_autocast, exact_fp32
from speechft.evaluate.probes.bank import ProbeBank, Setting, new_head
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.evaluate.probes.stacked import StackedProbes
from speechft.evaluate.protocols.dtw import raw_scores
from speechft.recipes.evaluation import evaluation_recipe
from speechft.recipes.values import FeaturePrecision
from speechft.tasks import get_task
from speechft.tasks.base import LabelSet
from speechft.tasks.heads import PooledHead

logger = logging.getLogger(__name__)

SECONDS_OF_UTTERANCES = (9, 14, 6, 16, 11, 4, 15, 12)
"""Lengths as LibriSpeech has them, so that the speed holds what padding and long attention cost."""
DEFAULT_ENCODERS = ("hubert", "wavlm", "decoar2")
"""wav2vec 2.0 has the sizes of HuBERT."""
BUDGET = 100.0
"""Seconds for everything; the rest of two minutes is for starting."""
MAX_REPETITIONS = 10
SHORTEST_SECONDS = 4.0
HEAD_SECONDS = 8.0
POOLED_CLASSES = {"ks": 12, "sid": 1251}


def calibrate(
    device: str | None = None,
    encoders: Sequence[str] = DEFAULT_ENCODERS,
    *,
    folder: str | Path = "results",
    seconds: float = BUDGET,
) -> DeviceSpeeds:
    """Measure a device; nothing is kept but the numbers that are returned.

    Args:
        device: "cpu" or "cuda"; default: a GPU where there is one.
        encoders: families, of which the base size with random weights is measured, and encoder directories.
        folder: where the workflow writes; a file of 256 MB is written there and removed.
        seconds: about how long to measure; at least one repetition of everything is made.

    Raises:
        ConfigError: unknown device or encoder, or there is no GPU.
        CheckpointError: an encoder directory is damaged.
        TrainingError: the memory of the device does not hold four seconds of audio.
        SpeechFTError: `folder` cannot be written.
    """
    chosen = _device(device)
    named = {_name(encoder): encoder for encoder in encoders}
    # Forward, update and step of each encoder; heads; search; writing. Half of the time is for backward passes.
    share = seconds / (5 * len(named) + 3)
    for encoder in named.values():
        _check(encoder)
    written = write_speed(Path(folder))
    with (
        torch.random.fork_rng(devices=[]),
        tqdm(total=len(named) + 3, desc=f"measuring {chosen.type}", unit="part", disable=None) as progress,
    ):
        speeds = {}
        for name, encoder in named.items():
            progress.set_postfix_str(name)
            speeds[name] = _encoder_speed(encoder, chosen, share)
            progress.update()
        progress.set_postfix_str("heads on frames")
        with exact_fp32():
            heads = {task: _head_speed(task, chosen, 1.5 * share / len(HEAD_TASKS)) for task in HEAD_TASKS}
        progress.update()
        progress.set_postfix_str("heads on mean vectors")
        pooled = {task: _pooled_speed(task, chosen, share / 2) for task in POOLED_CLASSES}
        progress.update()
        progress.set_postfix_str("search")
        search = _search_speed(chosen, share / 2)
        progress.update()
    return DeviceSpeeds(
        kind="cuda" if chosen.type == "cuda" else "cpu",
        name=torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else cpu_name(),
        threads=torch.get_num_threads(),
        measured=datetime.datetime.now(datetime.UTC).date().isoformat(),
        clock=_clock_name(chosen),
        software={"python": platform.python_version(), "torch": str(torch.__version__), "transformers": version("transformers")},
        encoders=speeds,
        heads=heads,
        pooled_steps=pooled,
        search_frames=search,
        write_mb=written,
    )


def _device(name: str | None) -> torch.device:
    if name not in (None, "cpu", "cuda"):
        raise ConfigError(f"--device {name}: is unknown; there are cpu and cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no GPU here. Run this on a node with one; `speechft doctor` says what is missing.")
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def cpu_name() -> str:
    """Name of the processor as the kernel gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith(("model name", "hardware"))]
    return named[0] if named else platform.processor() or platform.machine()


def _name(encoder: str) -> str:
    """What a measured encoder is called: FAMILY_base, or the name of its folder."""
    return f"{encoder}_base" if encoder in LEARNED_FAMILIES else Path(encoder).resolve().name


def _clock_name(device: torch.device) -> str:
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return "CPU time of the thread, which other work on the machine hardly changes" if alone else "wall time"


def _time(device: torch.device) -> float:
    """Seconds on the clock. With one thread on a CPU it is CPU time: waiting for other programs does not count."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def _fastest(work: Callable[[], Any], device: torch.device, budget: float) -> float:
    """Seconds of the fastest repetition within a budget: whatever else a machine does only makes it slower."""
    times: list[float] = []
    ends = time.perf_counter() + budget
    while not times or (len(times) < MAX_REPETITIONS and time.perf_counter() + times[-1] < ends):
        started = _time(device)
        work()
        times.append(_time(device) - started)
    return max(1e-9, min(times))


def _check(encoder: str) -> None:
    if encoder not in LEARNED_FAMILIES and not (Path(encoder) / "config.json").is_file():
        raise ConfigError(f"--encoder {encoder}: is no family ({', '.join(LEARNED_FAMILIES)}) and no encoder directory.")


def _speed(work: Callable[[Sequence[Tensor]], None], total: float, device: torch.device, budget: float) -> float:
    """Hours of audio an hour of `work` on about `total` seconds, or on as much as the memory of the device holds.

    Raises:
        TrainingError: not even the shortest batch fits.
    """
    while True:
        waveforms = _utterances(total)
        heard = sum(map(len, waveforms)) / SAMPLE_RATE
        try:
            return heard / _fastest(lambda: work(waveforms), device, budget)  # noqa: B023
        except torch.OutOfMemoryError:
            if heard <= SHORTEST_SECONDS:
                raise TrainingError(f"{device}: its memory does not hold a batch of {heard:g} s. End what else runs on it.") from None
            total = heard / 2
            torch.cuda.empty_cache()


def _load(encoder: str) -> tuple[Encoder, EncoderShape]:
    if encoder in LEARNED_FAMILIES:
        sizes = base_sizes(encoder)
        config = transformers_config(encoder, sizes, normalize=False, mask_embedding=False)
        backbone, shape = empty_backbone(config), base_shape(encoder)
    else:
        backbone, shape = empty_backbone(read_config(Path(encoder))), shape_of_directory(Path(encoder))
    backbone = backbone.to_empty(device="cpu")
    with torch.no_grad():
        for name, tensor in backbone.state_dict().items():
            # Small weights keep activations finite; norms and the gains of weight norm must not be 0.
            tensor.normal_(std=0.02) if tensor.is_floating_point() and tensor.dim() > 1 and "original0" not in name else tensor.fill_(1)
    return Encoder(backbone), shape


def _encoder_speed(name: str, device: torch.device, share: float) -> EncoderSpeed:
    encoder, shape = _load(name)
    encoder = encoder.to(device)
    precisions: tuple[FeaturePrecision, ...] = ("fp32", "bf16") if device.type == "cuda" else ("fp32",)
    parameters = [value for key, value in encoder.backbone.named_parameters() if not key.startswith("feature_extractor.")]

    def forward(waveforms: Sequence[Tensor], precision: FeaturePrecision) -> None:
        with torch.inference_mode(), encoder_autocast(device, precision), exact_fp32():
            encoder.encode(waveforms)

    def update(waveforms: Sequence[Tensor], precision: FeaturePrecision) -> None:
        with encoder_autocast(device, precision):
            output = encoder.encode(waveforms).hidden_states[-1]
        output.float().square().mean().backward()  # type: ignore[no-untyped-call]
        encoder.zero_grad(set_to_none=True)

    encoder.eval()
    first = _noise([2.0])
    forward(first, "fp32")
    second = 2.0 / _fastest(lambda: forward(first, "fp32"), device, 0.0)
    longest = batch_samples(device) / SAMPLE_RATE
    speeds: dict[FeaturePrecision, float] = {}
    for precision in precisions:
        forward(first, precision)
        speeds[precision] = _speed(partial(forward, precision=precision), min(longest, share * second / 2), device, share / len(precisions))
    encoder.train()
    for parameter in encoder.backbone.parameters():
        parameter.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_()
    updates: dict[FeaturePrecision, float] = {}
    for precision in precisions:
        update(first, precision)
        # A backward pass takes twice as long as a forward one.
        updates[precision] = _speed(partial(update, precision=precision), min(longest, share * second / 3), device, 3 * share)
    return EncoderSpeed(shape=shape, forward=speeds, update=updates, step_seconds=_step_seconds(parameters, device, share / 2))


def _step_seconds(parameters: Sequence[Tensor], device: torch.device, budget: float) -> float:
    optimizer = torch.optim.Adam(parameters, lr=1e-9)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return _fastest(optimizer.step, device, budget)


def _noise(seconds: Sequence[float]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(round(length * SAMPLE_RATE), generator=generator) for length in seconds]


def _utterances(total: float) -> list[Tensor]:
    """Noise of about `total` seconds: at least one utterance of four seconds."""
    lengths: list[float] = []
    while not lengths or sum(lengths) < total:
        lengths.append(SECONDS_OF_UTTERANCES[len(lengths) % len(SECONDS_OF_UTTERANCES)])
    return _noise([max(SHORTEST_SECONDS, min(lengths[0], total))] if len(lengths) == 1 else lengths[:-1])


class _Frames:
    """In place of the features of an encoder of base size: noise, so that only the head is measured."""

    def __init__(self, utterances: int, seconds: float, device: torch.device) -> None:
        shape = base_shape("hubert")
        frames = round(seconds * shape.frames_per_second) - 1
        generator = torch.Generator().manual_seed(0)
        self.states = torch.randn(shape.states, utterances, frames, shape.width, generator=generator).to(device)
        self.lengths = torch.full((utterances,), frames, device=device)

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self.states, self.lengths


def _head_speed(name: str, device: torch.device, budget: float) -> float:
    """Hours of audio an hour of training a head on frames, at one learning rate."""
    utterances = 8 if device.type == "cuda" else 1
    frames = _Frames(utterances, HEAD_SECONDS, device)
    recipe = evaluation_recipe(name).model_copy(update={"learning_rates": (1e-6,), "accumulate": 1})
    task, shape = get_task(name), base_shape("hubert")
    labels = LabelSet(tuple(str(index) for index in range(HEAD_SIZES[name]["outputs"])))
    bank = SeparateProbes(Setting(task, labels, recipe, device), shape.states, new_head(task, shape.width, labels, 0))
    length = int(frames.lengths[0])
    targets = {
        "sd": [torch.zeros(length, 2).index_fill_(1, torch.tensor([0]), 1.0)] * utterances,
        "asv": [torch.tensor(0)] * utterances,
    }.get(name, [torch.arange(3, 3 + length // 8) % 20 + 3] * utterances)
    batch = (tuple(range(utterances)), targets)
    features: Any = frames
    bank.train_step(features, [batch])
    return utterances * HEAD_SECONDS / _fastest(lambda: bank.train_step(features, [batch]), device, budget)


def _pooled_speed(name: str, device: torch.device, budget: float) -> float:
    """Steps a second of a head on mean vectors, at all learning rates of the recipe."""
    recipe, shape = evaluation_recipe(name), base_shape("hubert")
    task = get_task(name)
    labels = LabelSet(tuple(str(index) for index in range(POOLED_CLASSES[name])))
    head = new_head(task, shape.width, labels, 0)
    assert isinstance(head, PooledHead)
    bank: ProbeBank[Any] = StackedProbes(Setting(task, labels, recipe, device), shape.states, head)
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(1024, shape.states, shape.width, generator=generator)
    rows = torch.randint(len(means), (recipe.accumulate, recipe.batch_size), generator=generator).tolist()
    targets = [torch.tensor(row % len(labels)) for row in range(recipe.batch_size)]
    batches = [(chosen, targets) for chosen in rows]
    bank.train_step(means, batches)
    steps = 5

    def some() -> None:
        for _ in range(steps):
            bank.train_step(means, batches)

    return steps / _fastest(some, device, budget)


def _search_speed(device: torch.device, budget: float) -> float:
    """Pairs of frames a second in the search of QbE."""
    generator = torch.Generator().manual_seed(0)
    width, queries, documents = base_shape("hubert").width, 4, 16
    query_frames, document_frames = 50, 300
    asked = [torch.randn(query_frames, width, generator=generator).to(device) for _ in range(queries)]
    searched = [torch.randn(document_frames, width, generator=generator).to(device) for _ in range(documents)]
    raw_scores(asked[:1], searched[:1])
    pairs = queries * query_frames * documents * document_frames
    return pairs / _fastest(lambda: raw_scores(asked, searched), device, budget)
