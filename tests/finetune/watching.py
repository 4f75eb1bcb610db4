"""What tests of stage 1 see and do: the state of model and gradients at every update, interruptions, the log."""

import contextlib
import csv

import pytest
import torch

from speechft.fairseq_plugin.trainer import import_fairseq


def clone(parameters):
    return {name: parameter.detach().clone() for name, parameter in parameters}


def read_log(out):
    with (out / "training.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def differing(before, after):
    """Names of the tensors that differ."""
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def watch_steps(monkeypatch, before=None, after=None):
    """Calls `before` and `after` around the optimizer step of every update, with the updates done before it, optimizer and model."""
    import_fairseq()
    from speechft.fairseq_plugin.task import FinetuneTask

    original = FinetuneTask.optimizer_step

    def step(task, optimizer, model, update_num):
        if before is not None:
            before(update_num, optimizer, model)
        original(task, optimizer, model, update_num)
        if after is not None:
            after(update_num, optimizer, model)

    monkeypatch.setattr(FinetuneTask, "optimizer_step", step)


@contextlib.contextmanager
def interrupted_after(updates):
    """Inside the block a training dies in the update after so many."""

    def interrupt(done, _optimizer, _model):
        if done == updates:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        watch_steps(patch, interrupt)
        yield


class Updates:
    """Remembers parameters (first those of the start), gradients and learning rates of every update."""

    def __init__(self, monkeypatch):
        self.states, self.gradients, self.rates, self.model = [], [], [], None
        watch_steps(monkeypatch, self._before, self._after)

    def _before(self, _done, optimizer, model):
        self.model = model
        self.states = self.states or [clone(model.named_parameters())]
        self.gradients.append(clone((name, p.grad) for name, p in model.named_parameters() if p.grad is not None))
        self.rates.append(optimizer.param_groups[0]["lr"])

    def _after(self, _done, _optimizer, model):
        self.states.append(clone(model.named_parameters()))

    def moved(self, first, last):
        """Parameters that differ between the states after `first` and `last` updates."""
        return differing(self.states[first], self.states[last])

    def part(self, updates, prefix):
        """Parameters after so many updates of the module whose names begin with `prefix`, under its own names."""
        return {name.removeprefix(prefix): tensor for name, tensor in self.states[updates].items() if name.startswith(prefix)}

    def encoder(self, updates):
        """Parameters of the encoder after so many updates."""
        return self.part(updates, "encoder.backbone.")
