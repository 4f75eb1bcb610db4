"""Measure the speed of encoders, heads and the QbE search on this machine, with the code that trains and evaluates.

Weights are random and audio is noise, because speed depends on neither.
"""

from __future__ import annotations

import datetime
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
from speechft.encoders.directory.layout import empty_backbone, fill_positions, read_config
from speechft.encoders.directory.random_encoders import base_sizes
from speechft.encoders.families import FILE_FAMILIES, transformers_config
from speechft.encoders.model import Encoder
from speechft.errors import ConfigError, TrainingError
from speechft.evaluate.data.features import batch_samples, encoder_autocast, exact_fp32
from speechft.evaluate.probes.bank import ProbeBank, Setting, new_head
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.evaluate.probes.stacked import StackedProbes
from speechft.evaluate.protocols.dtw import raw_scores
from speechft.planning.shapes import HEAD_SIZES, base_shape, shape_of_directory
from speechft.planning.speeds import MEASURED_ON, DeviceSpeeds, EncoderSpeed
from speechft.recipes.evaluation import evaluation_recipe
from speechft.recipes.values import FeaturePrecision
from speechft.runtime.devices import device_name, resolve_device
from speechft.tasks import get_task
from speechft.tasks.base import LabelSet
from speechft.tasks.catalog import HEAD_TASKS

SECONDS_OF_UTTERANCES = (9, 14, 6, 16, 11, 4, 15, 12)
"""Lengths as in LibriSpeech, so that speeds include the cost of padding and of attention over long utterances."""
DEFAULT_ENCODERS = ("hubert", "wavlm", "decoar2")
"""Without wav2vec 2.0, which has the same network as HuBERT."""
MAX_REPETITIONS = 10
SHORTEST_SECONDS = 4.0
HEAD_SECONDS = 8.0
POOLED_CLASSES = {"ks": 12, "sid": 1251}


def calibrate(device: str | None = None, encoders: Sequence[str] = DEFAULT_ENCODERS, *, seconds: float = 100.0) -> DeviceSpeeds:
    """Measure speeds for about `seconds`, each at least once.

    Args:
        device: "cpu" or "cuda"; default: a GPU if available.
        encoders: families (base size, random weights), or encoder directories.
        seconds: approximate duration.

    Raises:
        ConfigError: unknown device or encoder, or no GPU available.
        CheckpointError: an encoder directory is damaged.
        TrainingError: four seconds of audio do not fit into the device's memory.
    """
    if device not in (None, "cpu", "cuda"):
        raise ConfigError(f"--device {device}: unknown device. Choose cpu or cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no GPU here. Run this on a node with one; `speechft doctor` says what is missing.")
    chosen = resolve_device(device)
    for encoder in encoders:
        if encoder not in FILE_FAMILIES and not (Path(encoder) / "config.json").is_file():
            raise ConfigError(f"--encoder {encoder}: neither a family ({', '.join(FILE_FAMILIES)}) nor an encoder directory.")
    # Five shares per encoder (half of the time is for backward passes), three for heads and search.
    share = seconds / (5 * len(encoders) + 3)
    speeds = {}
    with torch.random.fork_rng(devices=[]), tqdm(total=len(encoders) + 1, desc=f"measuring {chosen.type}", disable=None) as progress:
        for encoder in encoders:
            name = f"{encoder}_base" if encoder in FILE_FAMILIES else Path(encoder).resolve().name
            speeds[name] = _encoder_speed(encoder, chosen, share)
            progress.update()
        with exact_fp32():
            heads = {task: _head_speed(task, chosen, 1.5 * share / len(HEAD_TASKS)) for task in HEAD_TASKS}
        pooled = {task: _pooled_speed(task, chosen, share / 2) for task in POOLED_CLASSES}
        search = _search_speed(chosen, share / 2)
        progress.update()
    return DeviceSpeeds(
        kind="cuda" if chosen.type == "cuda" else "cpu",
        name=device_name(chosen) if chosen.type == "cuda" else cpu_name(),
        threads=torch.get_num_threads(),
        measured=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        clock="CPU time of the thread, which other work on the machine hardly changes" if _alone(chosen) else "wall time",
        software={"python": platform.python_version(), "torch": str(torch.__version__), "transformers": version("transformers")},
        encoders=speeds,
        heads=heads,
        pooled_steps=pooled,
        search_frames=search,
    )


def cpu_name() -> str:
    """Name of the processor according to the kernel."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith(("model name", "hardware"))]
    return named[0] if named else platform.processor() or platform.machine()


def _alone(device: torch.device) -> bool:
    """Whether to measure CPU time, which excludes waiting for other programs: on a CPU with one thread."""
    return device.type == "cpu" and torch.get_num_threads() == 1


def _time(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if _alone(device) else time.perf_counter()


def _fastest(work: Callable[[], Any], device: torch.device, budget: float) -> float:
    """Seconds of the fastest repetition within a budget: other load can only slow it down."""
    times: list[float] = []
    ends = time.perf_counter() + budget
    while not times or (len(times) < MAX_REPETITIONS and time.perf_counter() + times[-1] < ends):
        started = _time(device)
        work()
        times.append(_time(device) - started)
    return max(1e-9, min(times))


def _noise(*seconds: float) -> list[Tensor]:
    return [0.1 * torch.randn(round(length * SAMPLE_RATE)) for length in seconds]


def _utterances(total: float) -> list[Tensor]:
    """Noise of about `total` seconds, at least one utterance of four seconds."""
    lengths: list[float] = []
    while not lengths or sum(lengths) < total:
        lengths.append(SECONDS_OF_UTTERANCES[len(lengths) % len(SECONDS_OF_UTTERANCES)])
    return _noise(*lengths[:-1]) or _noise(max(SHORTEST_SECONDS, min(lengths[0], total)))


def _speed(work: Callable[[Sequence[Tensor]], None], total: float, device: torch.device, budget: float) -> float:
    """Hours of audio per hour of `work` on about `total` seconds, or on as much as fits into the device's memory."""
    while True:
        waveforms = _utterances(total)
        heard = sum(map(len, waveforms)) / SAMPLE_RATE
        try:
            return heard / _fastest(lambda: work(waveforms), device, budget)  # noqa: B023
        except torch.OutOfMemoryError:
            if heard <= SHORTEST_SECONDS:
                raise TrainingError(f"{device}: a batch of {heard:g} s does not fit into its memory. Stop other programs on it.") from None
            total = heard / 2
            torch.cuda.empty_cache()


def _load(encoder: str) -> Encoder:
    """Create an encoder with small random weights, which keep activations finite; norms and gains of weight norm must not be 0."""
    family = encoder in FILE_FAMILIES
    config = (
        transformers_config(encoder, base_sizes(encoder), normalize=False, mask_embedding=False) if family else read_config(Path(encoder))
    )
    backbone = empty_backbone(config).to_empty(device="cpu")
    fill_positions(backbone)
    with torch.no_grad():
        for name, tensor in backbone.state_dict().items():
            tensor.normal_(std=0.02) if tensor.is_floating_point() and tensor.dim() > 1 and "original0" not in name else tensor.fill_(1)
    return Encoder(backbone)


def _encoder_speed(name: str, device: torch.device, share: float) -> EncoderSpeed:
    encoder = _load(name).to(device)
    precisions: tuple[FeaturePrecision, ...] = ("fp32", "bf16") if device.type == "cuda" else ("fp32",)

    def forward(waveforms: Sequence[Tensor], precision: FeaturePrecision) -> None:
        with torch.inference_mode(), encoder_autocast(device, precision), exact_fp32():
            encoder.encode(waveforms)

    def update(waveforms: Sequence[Tensor], precision: FeaturePrecision) -> None:
        with encoder_autocast(device, precision):
            output = encoder.encode(waveforms).hidden_states[-1]
        output.float().square().mean().backward()  # type: ignore[no-untyped-call]
        encoder.zero_grad(set_to_none=True)

    encoder.eval()
    two_seconds = _noise(2.0)
    forward(two_seconds, "fp32")
    second = 2.0 / _fastest(lambda: forward(two_seconds, "fp32"), device, 0.0)
    longest = batch_samples(device) / SAMPLE_RATE
    speeds: dict[FeaturePrecision, float] = {}
    updates: dict[FeaturePrecision, float] = {}
    for precision in precisions:
        forward(two_seconds, precision)
        speeds[precision] = _speed(partial(forward, precision=precision), min(longest, share * second / 2), device, share / len(precisions))
    encoder.train()
    frozen = set(encoder.extractor_parameter_names())
    parameters = [value for key, value in encoder.backbone.named_parameters() if key not in frozen]
    encoder.backbone.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_()
    for precision in precisions:
        update(two_seconds, precision)
        # A backward pass takes twice as long as a forward one.
        updates[precision] = _speed(partial(update, precision=precision), min(longest, share * second / 3), device, 3 * share)
    optimizer = torch.optim.Adam(parameters, lr=1e-9)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    shape = base_shape(name) if name in FILE_FAMILIES else shape_of_directory(Path(name))
    return EncoderSpeed(shape=shape, forward=speeds, update=updates, step_seconds=_fastest(optimizer.step, device, share / 2))


class _Frames:
    """Noise instead of features of a base-size encoder, so that only the head is measured."""

    def __init__(self, utterances: int, seconds: float, device: torch.device) -> None:
        frames = round(seconds * MEASURED_ON.frames_per_second) - 1
        self.states = torch.randn(MEASURED_ON.states, utterances, frames, MEASURED_ON.width).to(device)
        self.lengths = torch.full((utterances,), frames, device=device)

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self.states, self.lengths


def _labels(count: int) -> LabelSet:
    return LabelSet(tuple(map(str, range(count))))


def _head_speed(name: str, device: torch.device, budget: float) -> float:
    """Hours of audio per hour of training a head on frames with one learning rate."""
    utterances = 8 if device.type == "cuda" else 1
    features: Any = _Frames(utterances, HEAD_SECONDS, device)
    recipe = evaluation_recipe(name).model_copy(update={"learning_rates": (1e-6,), "accumulate": 1})
    task, labels, length = get_task(name), _labels(HEAD_SIZES[name]["outputs"]), int(features.lengths[0])
    head = new_head(task, MEASURED_ON.width, labels, 0)
    bank = SeparateProbes(Setting(task, labels, recipe, device), MEASURED_ON.states, head)
    targets = {
        "sd": [torch.zeros(length, 2).index_fill_(1, torch.tensor([0]), 1.0)] * utterances,
        "asv": [torch.tensor(0)] * utterances,
    }.get(name, [torch.arange(3, 3 + length // 8) % 20 + 3] * utterances)
    batch = (tuple(range(utterances)), targets)
    bank.train_step(features, [batch])
    return utterances * HEAD_SECONDS / _fastest(lambda: bank.train_step(features, [batch]), device, budget)


def _pooled_speed(name: str, device: torch.device, budget: float) -> float:
    """Steps per second of a head on mean vectors with all learning rates of the recipe."""
    recipe, task, labels = evaluation_recipe(name), get_task(name), _labels(POOLED_CLASSES[name])
    head: Any = new_head(task, MEASURED_ON.width, labels, 0)
    bank: ProbeBank[Any] = StackedProbes(Setting(task, labels, recipe, device), MEASURED_ON.states, head)
    means = torch.randn(1024, MEASURED_ON.states, MEASURED_ON.width)
    targets = [torch.tensor(row % len(labels)) for row in range(recipe.batch_size)]
    batches = [(rows, targets) for rows in torch.randint(len(means), (recipe.accumulate, recipe.batch_size)).tolist()]
    bank.train_step(means, batches)
    return 5 / _fastest(lambda: [bank.train_step(means, batches) for _ in range(5)], device, budget)


def _search_speed(device: torch.device, budget: float) -> float:
    """Frame pairs per second in the QbE search: 4 queries of 1 s in 16 documents of 6 s."""
    queries = [torch.randn(50, MEASURED_ON.width).to(device) for _ in range(4)]
    documents = [torch.randn(300, MEASURED_ON.width).to(device) for _ in range(16)]
    raw_scores(queries[:1], documents[:1])
    return 4 * 50 * 16 * 300 / _fastest(lambda: raw_scores(queries, documents), device, budget)
