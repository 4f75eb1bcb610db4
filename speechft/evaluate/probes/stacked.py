"""Probes for utterance-level heads: all learning rates as one stack of parameters, trained on mean vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from speechft.evaluate.data.features import MeanVectors
from speechft.evaluate.probes.bank import Batch, MeanProbe, ProbeBank, Setting, State
from speechft.tasks.heads import PooledHead


class StackedProbes(ProbeBank[MeanVectors]):
    """R probes as the rows of one matrix (R, P), so that a step takes a few batched operations instead of R times as many.

    Features are mean vectors (clips, num_states, D). A test compares them with separate modules and torch's optimizers.
    """

    frame_level = False

    def __init__(self, setting: Setting, num_states: int, head: PooledHead) -> None:
        super().__init__(setting)
        # A template for vmap; its own parameters are not trained.
        self.template = MeanProbe(num_states, head).to(setting.device).requires_grad_(False)
        first = dict(self.template.named_parameters())
        self.names = list(first)
        self.shapes = [value.shape for value in first.values()]
        rates = setting.recipe.learning_rates
        row = torch.cat([value.detach().flatten() for value in first.values()])
        self.parameters = row.repeat(len(rates), 1).requires_grad_()
        self.optimizer = StackedAdam(self.parameters, rates, setting.recipe.optimizer)

    def train_step(self, features: MeanVectors, batches: Sequence[Batch]) -> list[float]:
        """Take one optimizer step of every living probe; diverged probes are computed but not updated."""
        rows = torch.tensor([row for batch_rows, _ in batches for row in batch_rows], device=features.device)
        means = features[rows].to(self.setting.device).transpose(0, 1)
        targets = [torch.stack(list(batch_targets)).to(self.setting.device) for _, batch_targets in batches]

        def loss_of_one(parameters: dict[str, Tensor]) -> Tensor:
            logits = functional_call(self.template, parameters, (means,))
            ones = torch.ones(logits.shape[0], dtype=torch.long, device=logits.device)
            losses = [
                self.setting.task.loss(part, ones[: len(part)], list(target))
                for part, target in zip(torch.split(logits, [len(target) for target in targets]), targets, strict=True)
            ]
            return torch.stack(losses).mean()

        losses = vmap(loss_of_one)(self._unstack(self.parameters))
        (gradients,) = torch.autograd.grad(losses.sum(), self.parameters)
        values: list[float] = losses.detach().cpu().tolist()
        finite = torch.isfinite(losses.detach())
        norms = torch.linalg.vector_norm(gradients, dim=1)
        alive = torch.tensor([self.alive[index] for index in self.kept], device=finite.device) & finite
        for index, still in zip(self.kept, alive.tolist(), strict=True):
            self.alive[index] = still
        self.optimizer.step(gradients, norms, alive & ~torch.isnan(norms), self.setting.recipe.clip_norm)
        return values

    def keep(self, probes: Sequence[int]) -> None:
        """Drop the rows of the other probes."""
        rows = [self.kept.index(probe) for probe in probes]
        self.parameters = self.parameters.detach()[rows].requires_grad_()
        self.optimizer.keep(rows, self.parameters)
        super().keep(probes)

    def _unstack(self, stacked: Tensor) -> dict[str, Tensor]:
        """Return named parameters with a leading probe dimension, as views of (R, P)."""
        parts = torch.split(stacked, [shape.numel() for shape in self.shapes], dim=1)
        return {name: part.view(-1, *shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}

    def logits(self, features: MeanVectors, rows: Sequence[int], probes: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield logits (B, C) of each chosen probe and lengths (B,), all 1."""
        means = features[torch.tensor(list(rows), device=features.device)].to(self.setting.device).transpose(0, 1)
        ones = torch.ones(len(rows), dtype=torch.long, device=means.device)
        for index in probes:
            yield functional_call(self.template, self._row(index), (means,)), ones

    def _row(self, index: int) -> State:
        row = self.kept.index(index)
        return {name: value[0] for name, value in self._unstack(self.parameters.detach()[row : row + 1]).items()}

    def state(self, index: int) -> State:
        """Copy the parameters of one probe to the CPU."""
        return {name: value.cpu().clone() for name, value in self._row(index).items()}

    def load_state(self, index: int, state: State) -> None:
        """Set the parameters of one probe."""
        for name, value in self._row(index).items():
            value.copy_(state[name])

    def _trained_tensors(self) -> State:
        optimizer = self.optimizer
        return {"parameters": self.parameters.detach(), "first": optimizer.first, "second": optimizer.second, "steps": optimizer.steps}

    def training_state(self) -> State:
        """Return parameters, moments and step counts, on the CPU."""
        return {name: value.cpu().clone() for name, value in self._trained_tensors().items()}

    def load_training_state(self, state: State) -> None:
        """Restore the tensors of `training_state`."""
        for name, value in self._trained_tensors().items():
            value.copy_(state[name])


class StackedAdam:
    """Adam or AdamW on the rows of a matrix, each with its own learning rate, clipping and step count.

    torch.optim has one learning rate per tensor, and one parameter group per row would cost as much as separate optimizers.
    """

    betas = (0.9, 0.999)
    eps = 1e-8

    def __init__(self, parameters: nn.Parameter | Tensor, learning_rates: Sequence[float], kind: Literal["Adam", "AdamW"] = "Adam") -> None:
        self.parameters = parameters
        # Float64, because torch computes bias corrections in Python floats.
        self.rates = torch.tensor(learning_rates, dtype=torch.float64, device=parameters.device)
        self.weight_decay = 0.01 if kind == "AdamW" else 0.0
        self.first = torch.zeros_like(parameters, requires_grad=False)
        self.second = torch.zeros_like(parameters, requires_grad=False)
        self.steps = torch.zeros_like(self.rates)

    def keep(self, rows: Sequence[int], parameters: Tensor) -> None:
        """Keep only `rows`, whose parameters are now `parameters`."""
        self.parameters = parameters
        self.rates, self.first, self.second, self.steps = (
            tensor[list(rows)] for tensor in (self.rates, self.first, self.second, self.steps)
        )

    @torch.no_grad()
    def step(self, gradients: Tensor, norms: Tensor, active: Tensor, clip_norm: float) -> None:
        """Update the `active` rows (R,). Gradients (R, P) with norms `norms` (R,) are clipped in place."""
        gradients.mul_((clip_norm / (norms + 1e-6)).clamp(max=1.0)[:, None])
        everything = (self.parameters, self.first, self.second, self.steps)
        if bool(active.all()):
            self._update(gradients, self.rates, *everything)
        elif len(chosen := active.nonzero()[:, 0]):
            copies = [tensor.detach()[chosen] for tensor in everything]
            self._update(gradients[chosen], self.rates[chosen], *copies)
            for tensor, rows in zip(everything, copies, strict=True):
                tensor.detach()[chosen] = rows

    def _update(self, gradients: Tensor, rates: Tensor, parameters: Tensor, first: Tensor, second: Tensor, steps: Tensor) -> None:
        beta1, beta2 = self.betas
        steps.add_(1)
        if self.weight_decay:
            parameters.mul_((1 - rates * self.weight_decay)[:, None].to(parameters.dtype))
        first.lerp_(gradients, 1 - beta1)
        second.mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
        step_sizes = rates / (1 - beta1**steps)
        scale = 1 / ((1 - beta2**steps).sqrt() * step_sizes)
        # first / denominator = step size * first / (sqrt(second / correction) + eps), in two passes over the matrix.
        denominator = torch.addcmul((self.eps / step_sizes)[:, None].to(second.dtype), second.sqrt(), scale[:, None].to(second.dtype))
        parameters.addcdiv_(first, denominator, value=-1)
