"""Features of a frozen encoder: mean vectors of clips, cached on disk, or all frames, cached in memory up to a budget."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from speechft.conventions import SAMPLE_RATE
from speechft.encoders import FeatureEncoder
from speechft.errors import CheckpointError
from speechft.evaluate.data.clips import Clip, CropTable
from speechft.evaluate.data.sampling import length_batches
from speechft.files.atomic import atomic_file
from speechft.files.tensor_hash import tensors_sha256
from speechft.recipes.values import FeaturePrecision
from speechft.tasks.heads import masked_mean

logger = logging.getLogger(__name__)

SHARD_CLIPS = 1024
BATCH_SECONDS = {"cpu": 60, "cuda": 320}


@contextmanager
def exact_fp32() -> Iterator[None]:
    """Disable TF32 inside the block, so that fp32 is exact on every device; also usable as a decorator.

    By default, PyTorch allows TF32 (10 bits of mantissa) in convolutions and recurrent layers on a GPU.
    """
    backends: Any = torch.backends
    if not hasattr(backends.cudnn, "conv"):  # PyTorch up to 2.8 has one switch for matrix products (also on the CPU) and one for cuDNN
        products, cudnn = torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32
        try:
            torch.set_float32_matmul_precision("highest")
            backends.cudnn.allow_tf32 = False
            yield
        finally:
            torch.set_float32_matmul_precision(products)
            backends.cudnn.allow_tf32 = cudnn
        return
    libraries = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    libraries += [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
    before = [library.fp32_precision for library in libraries]
    try:
        for library in libraries:
            library.fp32_precision = "ieee"
        yield
    finally:
        for library, precision in zip(libraries, before, strict=True):
            library.fp32_precision = precision


class FrozenEncoder:
    """An encoder in eval mode without gradients, which counts its passes.

    Args:
        encoder: the encoder, moved to `device`.
        device: device to run on.
        gain: factor applied to the waveforms.
        precision: fp32, or bf16 by autocast, on GPU and CPU. fp32 on a GPU is exact only within `exact_fp32`.
    """

    def __init__(self, encoder: FeatureEncoder, device: torch.device, gain: float = 1.0, precision: FeaturePrecision = "fp32") -> None:
        self.encoder = encoder.to(device).eval().requires_grad_(False)
        self.device = device
        self.gain = gain
        self.precision = precision
        self.batch_samples = batch_samples(device)
        self.passes = 0

    def __call__(self, clips: Sequence[Clip]) -> tuple[Tensor, Tensor]:
        """Encode clips; return hidden states (num_states, B, T, D), float32, and valid frames (B,), on the device.

        An utterance's features do not depend on its batch.

        Raises:
            CheckpointError: features are NaN or Inf.
        """
        # Threads suffice: disk access and decoding release the GIL.
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            waveforms = [waveform * self.gain for waveform in pool.map(lambda clip: clip.load(), clips)]
        with torch.inference_mode(), encoder_autocast(self.device, self.precision):
            output = self.encoder.encode(waveforms)
        # Stacked outside inference mode, so that heads can be trained on the copy.
        hidden_states = torch.stack([state.float() for state in output.hidden_states])
        self.passes += len(clips)
        if not bool(torch.isfinite(hidden_states).all()):
            names = ", ".join(clip.cut.id for clip in clips[:5])
            raise CheckpointError(
                f"The encoder returns NaN or Inf features for a batch with {names}. Its weights are damaged or too large."
            )
        return hidden_states, output.lengths.clone()


def encoder_autocast(device: torch.device, precision: FeaturePrecision) -> torch.autocast:
    """Return the autocast context of a precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def batch_samples(device: torch.device) -> int:
    """Return the most samples in an encoder batch, including padding."""
    return BATCH_SECONDS.get(device.type, BATCH_SECONDS["cpu"]) * SAMPLE_RATE


def vector_bytes(encoder: FeatureEncoder) -> int:
    """Return the bytes of one frame (or mean) of all hidden states; float32, since fp16 changes scores (docs/superb-deviations.md)."""
    return torch.float32.itemsize * encoder.num_states * encoder.hidden_size


def read_tensor(path: Path, name: str) -> Tensor | None:
    """Read tensor `name` from a file written by `write_tensor`; None if the file is missing or, with a warning, damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            value: Tensor = file.get_tensor(name)
            if tensors_sha256({name: value}) != (file.metadata() or {}).get("sha256"):
                raise ValueError("its SHA-256 has changed")
            return value
    except (SafetensorError, OSError, ValueError) as error:
        logger.warning("%s: damaged %s (%s); recomputing", path, name, error)
        return None


def write_tensor(path: Path, name: str, value: Tensor) -> None:
    """Write a tensor atomically, so that an interrupted evaluation can reuse it."""
    tensors = {name: value.contiguous()}
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, {"sha256": tensors_sha256(tensors)})


def clips_on_disk(num_clips: int, clip_bytes: int, budget_bytes: float) -> int:
    """Return the number of clips in the complete shards that fit into a budget."""
    if num_clips * clip_bytes <= budget_bytes:
        return num_clips
    return int(budget_bytes // (SHARD_CLIPS * clip_bytes)) * SHARD_CLIPS


def mean_vectors(encoder: FrozenEncoder, clips: Sequence[Clip], folder: Path, name: str, disk_bytes: float = math.inf) -> Tensor:
    """Compute the mean over frames of each hidden state of each clip: float32 (clips, num_states, D), on the CPU.

    Shards of `SHARD_CLIPS` clips of similar length are written to `folder`, up to `disk_bytes`, and reused by an interrupted evaluation.
    `folder` must be unique for model, clips and precision.
    """
    order = sorted(range(len(clips)), key=lambda index: clips[index].num_samples)
    written = clips_on_disk(len(clips), vector_bytes(encoder.encoder), disk_bytes)
    if written < len(clips):
        logger.info("%s: mean vectors of %d of %d clips are cached on disk (`disk_gb`)", name, written, len(clips))
    vectors = torch.empty(len(clips), encoder.encoder.num_states, encoder.encoder.hidden_size)
    with tqdm(total=len(clips), desc=f"features of {name}", unit="clip", disable=None) as progress:
        for start in range(0, len(order), SHARD_CLIPS):
            rows = order[start : start + SHARD_CLIPS]
            path = folder / f"{name}-{start // SHARD_CLIPS:05d}.safetensors"
            means = read_tensor(path, "means")
            if means is None or means.shape != vectors[rows].shape:
                means = _means(encoder, [clips[row] for row in rows])
                if start < written:
                    write_tensor(path, "means", means)
            else:
                encoder.passes += len(rows)
            vectors[rows] = means
            progress.update(len(rows))
    return vectors


class CroppedMeans:
    """Mean vectors of a split whose long utterances are cropped at every visit: `kept` for whole utterances, others computed on demand."""

    def __init__(self, encoder: FrozenEncoder, clips: CropTable, kept: Tensor) -> None:
        self.encoder, self.clips, self.kept = encoder, clips, kept
        self.device = kept.device

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the vectors (N, num_states, D) of rows (N,) of the table."""
        vectors = torch.empty(len(rows), *self.kept.shape[1:])
        whole = rows < len(self.kept)
        vectors[whole] = self.kept[rows[whole]]
        if not bool(whole.all()):
            vectors[~whole] = _means(self.encoder, [self.clips[row] for row in rows[~whole].tolist()])
        return vectors


MeanVectors = Tensor | CroppedMeans
"""Mean vectors on the CPU, indexed by a tensor of rows."""


def _means(encoder: FrozenEncoder, clips: Sequence[Clip]) -> Tensor:
    means = torch.empty(len(clips), encoder.encoder.num_states, encoder.encoder.hidden_size)
    for batch in length_batches([clip.num_samples for clip in clips], encoder.batch_samples):
        hidden_states, lengths = encoder([clips[index] for index in batch])
        means[batch] = masked_mean(hidden_states, lengths).transpose(0, 1).cpu()
    return means


class FrameFeatures:
    """All frames of the clips of a split: in memory after `keep`, otherwise computed at every access."""

    def __init__(self, encoder: FrozenEncoder, clips: Sequence[Clip]) -> None:
        self.encoder = encoder
        self.clips = clips
        self._kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def batches(self) -> Iterator[list[int]]:
        """Yield all clips once, in batches of similar lengths."""
        return length_batches([clip.num_samples for clip in self.clips], self.encoder.batch_samples)

    def keep(self, budget_bytes: float, name: str) -> float:
        """Compute and keep features, shortest clips first, up to `budget_bytes`; return the rest of the budget."""
        encoder, batches = self.encoder.encoder, []
        for batch in self.batches():
            needed = vector_bytes(encoder) * sum(encoder.frame_count(self.clips[row].num_samples) for row in batch)
            if needed > budget_bytes:
                break
            budget_bytes -= needed
            batches.append(batch)
        if (count := sum(map(len, batches))) < len(self.clips):
            logger.info("%s: features of %d of %d clips are cached in memory, the others recomputed", name, count, len(self.clips))
        with tqdm(total=count, desc=f"features of {name}", unit="clip", disable=None) as progress:
            for batch in batches:
                hidden_states, lengths = self.encoder([self.clips[row] for row in batch])
                for position, (row, length) in enumerate(zip(batch, lengths.tolist(), strict=True)):
                    self._kept[row] = hidden_states[:, position, :length].cpu().clone()
                progress.update(len(batch))
        return budget_bytes

    def count(self, rows: Sequence[int]) -> None:
        """Count the passes of rows whose results were restored from an interrupted evaluation."""
        self.encoder.passes += len(set(rows) - self._kept.keys())

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return hidden states (num_states, B, T, D), zero past the lengths, and valid frames (B,) of clips, on the device."""
        missing = [row for row in dict.fromkeys(rows) if row not in self._kept]
        computed: dict[int, Tensor] = {}
        if missing:
            hidden_states, lengths = self.encoder([self.clips[row] for row in missing])
            if missing == list(rows):
                return hidden_states, lengths
            computed = {row: hidden_states[:, i, : int(lengths[i])] for i, row in enumerate(missing)}
        # Padded on the CPU, so that one copy goes to the device.
        parts = [computed[row].cpu() if row in computed else self._kept[row] for row in rows]
        longest = max(part.shape[1] for part in parts)
        padded = torch.stack([F.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts], dim=1)
        return padded.to(self.encoder.device), torch.tensor([part.shape[1] for part in parts], device=self.encoder.device)


def keep_frames(features: Mapping[str, FrameFeatures], cache_gb: float) -> None:
    """Keep frames of train and dev, which are used repeatedly, up to the budget; test is used once."""
    budget = cache_gb * 1e9
    for name in ("train", "dev"):
        budget = features[name].keep(budget, name)
