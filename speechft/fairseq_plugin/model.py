"""The model of stage 1: an encoder with a task head on its last hidden state."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model
from torch import Tensor, nn

from speechft.encoders import Encoder, load_encoder
from speechft.encoders.checkpoints.names import HALF_PRECISION
from speechft.encoders.model import Padding
from speechft.finetune.method import DistancePenalty, add_adapters, freeze, frozen_parameters
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.tasks.base import Head


@dataclass
class EncoderWithHeadConfig(FairseqDataclass):  # type: ignore[misc]
    """Options of `speechft_encoder_with_head`; everything else is in the task's job."""


@register_model("speechft_encoder_with_head", dataclass=EncoderWithHeadConfig)
class EncoderWithHead(BaseFairseqModel):  # type: ignore[misc]
    """Encoder with task heads: waveforms or features of `extract` -> encoder -> last hidden state -> head -> logits.

    Parameters always stay in float32; the forward pass runs under autocast. (fairseq's `fp16` and `bf16` options would convert waveforms
    and weights to half precision, and give frozen parameters a zero gradient instead of none.)

    Args:
        encoder: theta0.
        heads: task name -> head.
        recipe: recipe of the fine-tuning.
    """

    def __init__(self, encoder: Encoder, heads: Mapping[str, Head], recipe: FinetuneRecipe) -> None:
        super().__init__()
        self.encoder = encoder
        # The head itself for a single task, because ModuleDict refuses names of its own methods.
        self.head: nn.Module = (
            next(iter(heads.values())) if len(heads) == 1 else nn.ModuleDict({f"head_{name}": head for name, head in heads.items()})
        )
        self.precision = recipe.precision
        self.padding: Padding = recipe.padding
        self.freeze_extractor = recipe.freeze_extractor
        encoder.train_extractor = not recipe.freeze_extractor
        self.extracts = recipe.freeze_extractor and recipe.padding == "alone" and encoder.extracts
        own = self._names()
        self.extractor = frozenset(encoder.extractor_parameter_names())
        self.adapters = add_adapters(encoder.backbone, recipe.adapters) if recipe.adapters else frozenset()
        # With adapters, the encoder's own parameters, some of which are then renamed, are never trained.
        self.never = frozenset(set(self._names()) - self.adapters) if self.adapters else frozenset()
        learning = set(own) - (self.extractor if recipe.freeze_extractor else set())
        self.penalty: DistancePenalty | None = None
        if recipe.l2:
            named = encoder.backbone.named_parameters()
            self.penalty = DistancePenalty((parameter for name, parameter in named if name in learning), recipe.l2)
        for layer in getattr(getattr(encoder.backbone, "encoder", None), "layers", ()):
            layer.register_forward_hook(_let_signals_in)
        # fairseq passes parameters that require a gradient now to the optimizer, so all that will ever be trained must.
        self.freeze_for(completed_updates=0, head_only=0)

    @classmethod
    def build_model(cls, cfg: EncoderWithHeadConfig, task: Any) -> EncoderWithHead:  # noqa: ARG003
        """Load theta0 and build the heads of the tasks, initialized from torch's seeded generator."""
        encoder = load_encoder(task.job.encoder)
        heads = {name: part.build_head(encoder.hidden_size, task.labels[name]) for name, part in task.parts.tasks.items()}
        return cls(encoder, heads, task.job.recipe)

    def _names(self) -> list[str]:
        return [name for name, _ in self.encoder.backbone.named_parameters()]

    def freeze_for(self, completed_updates: int, head_only: int) -> None:
        """Freeze the parameters that the next update must not change."""
        frozen = frozen_parameters(self._names(), self.extractor, completed_updates, head_only, self.freeze_extractor)
        freeze(self.encoder.backbone, frozen | self.never)

    def extract(self, speech: Sequence[Tensor]) -> list[Tensor]:
        """Compute features (T, C) of the frozen extractor for each waveform; features in `speech` are returned unchanged.

        Utterances are processed one at a time, so that features are bit-equal in every batch and can be cached.
        """
        waveforms = [given for given in speech if given.dim() == 1]
        with self._autocast():
            extracted = iter(self.encoder.extract(waveforms) if waveforms else ())
        return [next(extracted) if given.dim() == 1 else given for given in speech]

    def forward(self, speech: Sequence[Tensor], part: str) -> tuple[Tensor, Tensor]:
        """Compute float32 logits of the head of task `part` and their lengths."""
        head = self.head[f"head_{part}"] if isinstance(self.head, nn.ModuleDict) else self.head
        features = self.extract(speech) if self.extracts else None
        with self._autocast():
            states = self.encoder.encode(speech, self.padding) if features is None else self.encoder.encode_features(features)
            logits, lengths = head(states.hidden_states[-1], states.lengths)
        return logits.float(), lengths

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        half = HALF_PRECISION.get(self.precision)
        return contextlib.nullcontext() if half is None else torch.autocast(self.encoder.device.type, dtype=half)


def _let_signals_in(_module: nn.Module, _inputs: Any, output: Any) -> None:
    """Run Python code during the backward pass, so that signals are handled before its end."""
    states = output[0] if isinstance(output, tuple) else output
    if states.requires_grad:
        states.register_hook(lambda _gradient: None)


def unwrapped(model: Any) -> EncoderWithHead:
    """Return the model without fairseq's wrappers for distributed training."""
    while not isinstance(model, EncoderWithHead):
        model = model.module
    return model
