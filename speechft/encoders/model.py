"""`Encoder`: a loaded speech encoder that computes the hidden states of all its layers from waveforms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from speechft.encoders.checkpoints.on_the_fly import encoder_directory
from speechft.encoders.directory.layout import load_backbone
from speechft.encoders.families import check_padding, get_family
from speechft.encoders.forward import transformer_states
from speechft.encoders.frontends import ConvolutionalFrontend, FilterbankFrontend, Frontend, WhisperFrontend, frontend_of
from speechft.encoders.interface import EncoderOutput, FeatureEncoder
from speechft.encoders.waveforms import check_waveforms, join_groups, length_groups, prepare_waveforms
from speechft.errors import ConfigError

Padding = Literal["alone", "reference"]


class Encoder(FeatureEncoder):
    """Speech encoder around a transformers model (`backbone`).

    `train()` enables dropout, but never layerdrop or time masking. The convolutional extractor runs without gradient unless
    `train_extractor` is set, as in s3prl 0.4.18. Batch normalization (of conformers) always uses the statistics of pre-training. Gradient
    checkpointing is not supported.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        model: Any = backbone
        self.config = model.config
        self.family = str(self.config.model_type)
        self.normalize = bool(getattr(self.config, "speechft_normalize", False))
        self.train_extractor = False

    def train(self, mode: bool = True) -> Encoder:
        """Turn dropout on or off; batch normalization keeps the statistics of pre-training."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()
        return self

    @property
    def _frontend(self) -> Frontend:
        return frontend_of(self.backbone)

    @property
    def hidden_size(self) -> int:
        """Width D of the hidden states."""
        return int(self.config.hidden_size)

    @property
    def num_states(self) -> int:
        """Number of hidden states: layers + 1, and 1 for filterbanks."""
        return int(self.config.num_hidden_layers) + 1

    @property
    def frame_shift(self) -> int:
        """Samples between frames: 320 for all published models."""
        return self._frontend.frame_shift

    @property
    def min_samples(self) -> int:
        """Length of the shortest waveform that can be encoded, in samples."""
        return self._frontend.min_samples

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return next(chain(self.backbone.parameters(), self.backbone.buffers())).device

    def frame_count(self, num_samples: int) -> int:
        """Return the number of frames of a waveform of `num_samples`."""
        return max(0, int(self._frontend.frame_counts(torch.tensor(num_samples))))

    def extractor_parameter_names(self) -> tuple[str, ...]:
        """Names, relative to `backbone`, of the extractor's parameters; for Whisper its convolutions and fixed positions."""
        frontend = get_family(self.family).frontend
        return tuple(name for name, _ in self.backbone.named_parameters() if name.startswith(frontend))

    def encode(self, waveforms: Sequence[Tensor], padding: Padding = "alone") -> EncoderOutput:
        """Compute hidden states of a list of 1-D floating-point waveforms at 16 kHz, of any lengths.

        Gradients are recorded unless the caller disables them.

        Args:
            waveforms: B waveforms on any device; they are moved to the backbone's.
            padding: "alone": each utterance has the same features as if encoded alone, to 1e-4 in fp32; frames past its length are zero.
                Utterances of similar length are computed together, which limits padding.
                "reference": as in s3prl 0.4.18, where features depend on the batch: GroupNorm over the zero padding, s3prl's frame masks,
                round(samples / 320) frames kept, frames past the lengths not zeroed. Only for families that exist as checkpoint files.

        Raises:
            AudioError: a waveform is not 1-D, not floating point, not finite, empty, or shorter than `min_samples`.
            ConfigError: the padding is unknown or not available for the family.
        """
        if padding not in get_args(Padding):
            raise ConfigError(f"padding={padding!r} is unknown. Allowed: {', '.join(get_args(Padding))}.")
        check_padding(self.family, padding)
        check_waveforms(waveforms, self.min_samples)
        samples = torch.tensor([len(waveform) for waveform in waveforms])
        prepared = prepare_waveforms(waveforms, normalize=self.normalize, device=self.device)
        return self._encode_alone(prepared, samples) if padding == "alone" else self._encode_reference(prepared, samples)

    forward = encode

    @property
    def extracts(self) -> bool:
        """Whether `extract` is available; not for Whisper, whose features are of fixed windows, not of utterances."""
        return not isinstance(self._frontend, WhisperFrontend)

    @torch.no_grad()
    def extract(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Compute frontend features (T, C), float32, of each waveform separately, so that they are bit-independent of the others.

        Raises:
            AudioError: a waveform is not 1-D, not floating point, not finite, empty or shorter than `min_samples`.
        """
        check_waveforms(waveforms, self.min_samples)
        prepared = prepare_waveforms(waveforms, normalize=self.normalize, device=self.device)
        return [self._frontend.features([waveform], alone=True)[0].float().contiguous() for waveform in prepared]

    def encode_features(self, features: Sequence[Tensor]) -> EncoderOutput:
        """Compute the last hidden state of B utterances from the features of `extract`; zero past their lengths."""
        lengths = torch.tensor([len(own) for own in features])
        groups = length_groups(lengths.tolist())
        states = []
        for group in groups:
            padded = pad_sequence([features[index] for index in group], batch_first=True)
            states.append(self._alone_states(padded, lengths[group], last_only=True))
        return self._joined(groups, states, lengths)

    def _encode_alone(self, waveforms: list[Tensor], samples: Tensor) -> EncoderOutput:
        frontend = self._frontend
        groups = frontend.groups(samples.tolist()) if isinstance(frontend, WhisperFrontend) else length_groups(samples.tolist())
        states = [self._group_states([waveforms[index] for index in group], samples[group]) for group in groups]
        return self._joined(groups, states, frontend.frame_counts(samples))

    def _group_states(self, waveforms: list[Tensor], samples: Tensor) -> tuple[Tensor, ...]:
        features = self._features(waveforms, alone=True)
        lengths = self._frontend.frame_counts(samples)
        if isinstance(self._frontend, WhisperFrontend):
            return self._frontend.join(transformer_states(self.backbone, features, None), lengths.tolist())
        return self._alone_states(features, lengths)

    def _alone_states(self, features: Tensor, lengths: Tensor, *, last_only: bool = False) -> tuple[Tensor, ...]:
        """Compute hidden states of utterances of similar length, as if encoded alone; zero past `lengths` (B,), which is on the CPU."""
        wanted = slice(-1 if last_only else 0, None)
        if bool((lengths == features.shape[1]).all()):
            return transformer_states(self.backbone, features, None)[wanted]
        valid = (torch.arange(features.shape[1])[None, :] < lengths[:, None]).to(features.device)
        states = transformer_states(self.backbone, features, valid)
        return tuple(state.masked_fill(~valid[..., None], 0.0) for state in states[wanted])

    def _joined(self, groups: list[list[int]], states: list[tuple[Tensor, ...]], lengths: Tensor) -> EncoderOutput:
        in_order = len(groups) == 1 and groups[0] == list(range(len(lengths)))
        joined = states[0] if in_order else join_groups(groups, states)
        return EncoderOutput(joined, lengths.to(joined[0].device))

    def _encode_reference(self, waveforms: list[Tensor], samples: Tensor) -> EncoderOutput:
        features = self._features(waveforms, alone=False)
        frames = features.shape[1]
        frontend = cast(ConvolutionalFrontend | FilterbankFrontend, self._frontend)
        valid = frontend.reference_valid(samples, frames).to(features.device)
        states = transformer_states(self.backbone, features, valid)
        # Python's round: ties to even, as in s3prl.
        lengths = torch.tensor([min(round(n / self.frame_shift), frames) for n in samples.tolist()])
        return EncoderOutput(states, lengths.to(features.device))

    def _features(self, waveforms: list[Tensor], *, alone: bool) -> Tensor:
        with torch.set_grad_enabled(self.train_extractor and torch.is_grad_enabled()):
            return self._frontend.features(waveforms, alone=alone)


def load_encoder(model_dir: str | Path) -> Encoder:
    """Load an encoder directory, or a transformers directory, in float32, in eval mode, on the CPU.

    Raises:
        CheckpointError: the directory is missing, incomplete or damaged, or its weights do not fit its configuration.
    """
    with encoder_directory(model_dir) as directory:
        return Encoder(load_backbone(directory)).eval()
