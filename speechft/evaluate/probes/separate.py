"""Probes for frame-level heads: separate modules that share each batch of features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from speechft.evaluate.data.features import FrameFeatures
from speechft.evaluate.probes.bank import Batch, Probe, ProbeBank, Setting, State, isolated_rng, under
from speechft.tasks.base import Head


class SeparateProbes(ProbeBank[FrameFeatures]):
    """Probes with separate modules and torch optimizers; the encoder runs once per batch for all learning rates."""

    frame_level = True

    def __init__(self, setting: Setting, num_states: int, head: Head) -> None:
        super().__init__(setting)
        first = Probe(num_states, head)
        self.probes = [deepcopy(first).to(setting.device) for _ in setting.recipe.learning_rates]
        optimizer = getattr(torch.optim, setting.recipe.optimizer)
        rates = setting.recipe.learning_rates
        self.optimizers = [optimizer(probe.parameters(), lr=rate) for probe, rate in zip(self.probes, rates, strict=True)]

    def train_step(self, features: FrameFeatures, batches: Sequence[Batch]) -> list[float]:
        """Take one optimizer step of every living probe."""
        losses: list[Tensor | None] = [None] * len(self.probes)
        for rows, targets in batches:
            hidden_states, lengths = features[rows]
            # Every probe gets the same dropout and augmentation in a batch, independent of the other learning rates.
            draw = int(torch.randint(2**62, ()))
            for index in self.living:
                with isolated_rng(draw, self.setting.device):
                    logits, logit_lengths = self.probes[index].train()(hidden_states, lengths)
                loss = self.setting.task.loss(logits, logit_lengths, targets) / len(batches)
                loss.backward()  # type: ignore[no-untyped-call]
                earlier = losses[index]
                losses[index] = loss.detach() if earlier is None else earlier + loss.detach()
        values = [float("nan") if loss is None else float(loss) for loss in losses]
        for index in self.living:
            self.alive[index] = bool(torch.isfinite(torch.tensor(values[index])))
            norm = nn.utils.clip_grad_norm_(self.probes[index].parameters(), self.setting.recipe.clip_norm)
            if self.alive[index] and not bool(torch.isnan(norm)):
                self.optimizers[index].step()
            self.optimizers[index].zero_grad(set_to_none=True)
        return [values[index] for index in self.kept]

    def logits(self, features: FrameFeatures, rows: Sequence[int], probes: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield logits and lengths of each chosen probe: (B, C) with ones, or (B, T, C) with the frames of each clip."""
        hidden_states, lengths = features[rows]
        for index in probes:
            yield self.probes[index].eval()(hidden_states, lengths)

    def state(self, index: int) -> State:
        """Copy the parameters of one probe to the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.probes[index].state_dict().items()}

    def load_state(self, index: int, state: State) -> None:
        """Set the parameters of one probe."""
        self.probes[index].load_state_dict(state)

    def training_state(self) -> State:
        """Return the parameters of the kept probes and their optimizer states (empty before the first step)."""
        state: State = {}
        for index in self.kept:
            optimizer = self.optimizers[index]
            state |= {f"{index}.probe.{name}": value for name, value in self.state(index).items()}
            for parameter, kept in optimizer.state_dict()["state"].items():
                state |= {f"{index}.optimizer.{parameter}.{name}": value.cpu().clone() for name, value in kept.items()}
        return state

    def load_training_state(self, state: State) -> None:
        """Restore the tensors of `training_state`."""
        for index in self.kept:
            optimizer = self.optimizers[index]
            self.load_state(index, under(state, f"{index}.probe."))
            kept: dict[int, State] = {}
            for name, value in under(state, f"{index}.optimizer.").items():
                parameter, field = name.split(".")
                kept.setdefault(int(parameter), {})[field] = value
            optimizer.load_state_dict({"state": kept, "param_groups": optimizer.state_dict()["param_groups"]})
