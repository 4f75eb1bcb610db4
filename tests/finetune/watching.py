"""What tests of stage 1 see: the state of model and gradients at every update."""

import csv

import torch

from speechft.fairseq_plugin.trainer import import_fairseq


def clone(state):
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def read_log(out):
    with (out / "training.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Updates:
    """Stands in for `FinetuneTask.optimizer_step`: remembers parameters, gradients and scores of every update."""

    def __init__(self, monkeypatch):
        import_fairseq()
        from speechft.fairseq_plugin.task import FinetuneTask

        self.states, self.gradients, self.model = [], [], None
        original = FinetuneTask.optimizer_step

        def step(task, optimizer, model, update_num):
            self.model = model
            if not self.states:
                self.states.append(clone(dict(model.named_parameters())))
            self.gradients.append({name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None})
            original(task, optimizer, model, update_num)
            self.states.append(clone(dict(model.named_parameters())))

        monkeypatch.setattr(FinetuneTask, "optimizer_step", step)

    def moved(self, first, last):
        """Parameters that differ between the states after `first` and `last` updates."""
        return {name for name, before in self.states[first].items() if not torch.equal(before, self.states[last][name])}
