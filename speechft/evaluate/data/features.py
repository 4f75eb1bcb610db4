"""Features of a frozen encoder: mean vectors of clips, kept on disk; or all frames, kept in memory as far as a budget goes."""

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
    """Compute fp32 as fp32 on every device, whatever the process allows otherwise; usable as a decorator too.

    PyTorch allows TF32 (10 bits of mantissa) in the convolutions and recurrent layers of a GPU by default.
    """
    backends: Any = torch.backends
    if not hasattr(backends.cudnn, "conv"):  # PyTorch up to 2.8: one switch for matrix products, of the CPU too, and one for cuDNN
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
    """An encoder for features only: eval mode, no gradient. It counts its passes.

    Args:
        encoder: the encoder, which is moved to `device`.
        device: where it runs.
        gain: factor of the waveforms.
        precision: fp32, or bf16 by autocast, on a GPU and on the CPU alike. fp32 on a GPU is exact within `exact_fp32`.
    """

    def __init__(self, encoder: FeatureEncoder, device: torch.device, gain: float = 1.0, precision: FeaturePrecision = "fp32") -> None:
        self.encoder = encoder.to(device).eval().requires_grad_(False)
        self.device = device
        self.gain = gain
        self.precision = precision
        self.batch_samples = batch_samples(device)
        self.passes = 0

    def __call__(self, clips: Sequence[Clip]) -> tuple[Tensor, Tensor]:
        """Hidden states (num_states, B, T, D), float32, and valid frames (B,), on the device.

        An utterance's features do not depend on its batch.

        Raises:
            CheckpointError: features are NaN or Inf.
        """
        # Reading waits for disks and decoders, and neither holds the GIL.
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            waveforms = [waveform * self.gain for waveform in pool.map(lambda clip: clip.load(), clips)]
        with torch.inference_mode(), encoder_autocast(self.device, self.precision):
            output = self.encoder.encode(waveforms)
        # Stacked outside of inference mode, so that heads can be trained on the copy.
        hidden_states = torch.stack([state.float() for state in output.hidden_states])
        self.passes += len(clips)
        if not bool(torch.isfinite(hidden_states).all()):
            names = ", ".join(clip.cut.id for clip in clips[:5])
            raise CheckpointError(f"The encoder gives NaN or Inf features for a batch with {names}. Its weights are damaged or too large.")
        return hidden_states, output.lengths.clone()


def encoder_autocast(device: torch.device, precision: FeaturePrecision) -> torch.autocast:
    """Autocast context of a precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def batch_samples(device: torch.device) -> int:
    """Samples in a batch that goes through the encoder, padding included."""
    return BATCH_SECONDS.get(device.type, BATCH_SECONDS["cpu"]) * SAMPLE_RATE


def vector_bytes(encoder: FeatureEncoder) -> int:
    """Size of one frame or one mean of all hidden states. Float32 on disk too: in fp16 scores move (docs/superb-deviations.md)."""
    return torch.float32.itemsize * encoder.num_states * encoder.hidden_size


def read_tensor(path: Path, name: str) -> Tensor | None:
    """The tensor `name` of a file that `write_tensor` wrote; None without such a file or, with a warning, if it is damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            value: Tensor = file.get_tensor(name)
            if tensors_sha256({name: value}) != (file.metadata() or {}).get("sha256"):
                raise ValueError("its SHA-256 has changed")
            return value
    except (SafetensorError, OSError, ValueError) as error:
        logger.warning("%s: damaged %s (%s), computed again", path, name, error)
        return None


def write_tensor(path: Path, name: str, value: Tensor) -> None:
    """Keep a tensor, so that an evaluation that is killed need not compute it again."""
    tensors = {name: value.contiguous()}
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, {"sha256": tensors_sha256(tensors)})


def clips_on_disk(num_clips: int, clip_bytes: int, budget_bytes: float) -> int:
    """Clips in the whole shards that fit into a budget."""
    if num_clips * clip_bytes <= budget_bytes:
        return num_clips
    return int(budget_bytes // (SHARD_CLIPS * clip_bytes)) * SHARD_CLIPS


def mean_vectors(encoder: FrozenEncoder, clips: Sequence[Clip], folder: Path, name: str, disk_bytes: float = math.inf) -> Tensor:
    """Mean over the frames of each hidden state of each clip: float32 (clips, num_states, D), on the CPU.

    Shards of `SHARD_CLIPS` clips of similar lengths are written to `folder` as they are done, as far as `disk_bytes` goes, and read back
    by an evaluation that was interrupted; the caller makes `folder` unique for the model, the clips and the precision.
    """
    order = sorted(range(len(clips)), key=lambda index: clips[index].num_samples)
    written = clips_on_disk(len(clips), vector_bytes(encoder.encoder), disk_bytes)
    if written < len(clips):
        logger.info("%s: mean vectors of %d of %d clips are kept on disk (`disk_gb`)", name, written, len(clips))
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
    """Mean vectors of a split whose long utterances are cropped anew at every visit: `kept` ones of whole utterances, others on demand."""

    def __init__(self, encoder: FrozenEncoder, clips: CropTable, kept: Tensor) -> None:
        self.encoder, self.clips, self.kept = encoder, clips, kept
        self.device = kept.device

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Vectors (N, num_states, D) of rows (N,) of the table."""
        vectors = torch.empty(len(rows), *self.kept.shape[1:])
        whole = rows < len(self.kept)
        vectors[whole] = self.kept[rows[whole]]
        if not bool(whole.all()):
            vectors[~whole] = _means(self.encoder, [self.clips[row] for row in rows[~whole].tolist()])
        return vectors


MeanVectors = Tensor | CroppedMeans
"""Indexed by a tensor of rows; on the CPU."""


def _means(encoder: FrozenEncoder, clips: Sequence[Clip]) -> Tensor:
    means = torch.empty(len(clips), encoder.encoder.num_states, encoder.encoder.hidden_size)
    for batch in length_batches([clip.num_samples for clip in clips], encoder.batch_samples):
        hidden_states, lengths = encoder([clips[index] for index in batch])
        means[batch] = masked_mean(hidden_states, lengths).transpose(0, 1).cpu()
    return means


class FrameFeatures:
    """All frames of the clips of one split: those that `keep` has kept in memory, the others computed at every access."""

    def __init__(self, encoder: FrozenEncoder, clips: Sequence[Clip]) -> None:
        self.encoder = encoder
        self.clips = clips
        self._kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def batches(self) -> Iterator[list[int]]:
        """All clips once, in batches of similar lengths."""
        return length_batches([clip.num_samples for clip in self.clips], self.encoder.batch_samples)

    def keep(self, budget_bytes: float, name: str) -> float:
        """Compute and keep features, shortest clips first, until they fill `budget_bytes`; returns what is left of it."""
        encoder, batches = self.encoder.encoder, []
        for batch in self.batches():
            needed = vector_bytes(encoder) * sum(encoder.frame_count(self.clips[row].num_samples) for row in batch)
            if needed > budget_bytes:
                break
            budget_bytes -= needed
            batches.append(batch)
        if (count := sum(map(len, batches))) < len(self.clips):
            logger.info("%s: features of %d of %d clips are kept, the others recomputed", name, count, len(self.clips))
        with tqdm(total=count, desc=f"features of {name}", unit="clip", disable=None) as progress:
            for batch in batches:
                hidden_states, lengths = self.encoder([self.clips[row] for row in batch])
                for position, (row, length) in enumerate(zip(batch, lengths.tolist(), strict=True)):
                    self._kept[row] = hidden_states[:, position, :length].cpu().clone()
                progress.update(len(batch))
        return budget_bytes

    def count(self, rows: Sequence[int]) -> None:
        """Count the passes of rows whose results an interrupted evaluation kept elsewhere."""
        self.encoder.passes += len(set(rows) - self._kept.keys())

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Hidden states (num_states, B, T, D), zero past the lengths, and valid frames (B,) of some clips, on the device."""
        missing = [row for row in dict.fromkeys(rows) if row not in self._kept]
        computed: dict[int, Tensor] = {}
        if missing:
            hidden_states, lengths = self.encoder([self.clips[row] for row in missing])
            if missing == list(rows):
                return hidden_states, lengths
            computed = {row: hidden_states[:, i, : int(lengths[i])] for i, row in enumerate(missing)}
        # Clips are padded where they are kept, so that one copy goes to the device.
        parts = [computed[row].cpu() if row in computed else self._kept[row] for row in rows]
        longest = max(part.shape[1] for part in parts)
        padded = torch.stack([F.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts], dim=1)
        return padded.to(self.encoder.device), torch.tensor([part.shape[1] for part in parts], device=self.encoder.device)


def keep_frames(features: Mapping[str, FrameFeatures], cache_gb: float) -> None:
    """Keep frames of train and dev, which are used repeatedly, as far as the budget goes; test is used once."""
    budget = cache_gb * 1e9
    for name in ("train", "dev"):
        budget = features[name].keep(budget, name)
