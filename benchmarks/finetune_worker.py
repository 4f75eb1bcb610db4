"""One side of benchmarks/finetune.py: a short fine-tuning with timed updates. s3prl's side runs in benchmarks/.venv-s3prl.

    python finetune_worker.py {speechft,s3prl} JOB.json REPORT.json

The report has wall time, CPU time and utterances of every update, and the peak memory.
"""

import argparse
import json
import random
import sys
import time
from itertools import pairwise
from pathlib import Path

import torch
from measured import peak_megabytes


class Clock:
    """Times of optimizer steps; an update lasts from one step to the next."""

    def __init__(self):
        self.wall, self.cpu, self.utterances, self.peak = [], [], [], 0
        self.heard = 0

    def hear(self, count):
        """Count utterances encoded in training."""
        self.heard += count

    def step(self):
        """Record an optimizer step."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            self.peak = torch.cuda.max_memory_allocated()
        else:
            self.peak = peak_megabytes() * 2**20
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())
        self.utterances.append(self.heard)
        self.heard = 0

    def report(self):
        """Return the records of all updates except the first, whose start is unknown."""
        between = [[later - earlier for earlier, later in pairwise(times)] for times in (self.wall, self.cpu)]
        return {"wall": between[0], "cpu": between[1], "utterances": self.utterances[1:], "peak": self.peak, "torch": torch.__version__}


def run_speechft(job, clock):
    """Run `speechft.finetune.finetune`, as the command line does."""
    from speechft.fairseq_plugin.trainer import import_fairseq
    from speechft.finetune import finetune
    from speechft.recipes.finetuning import FinetuneRecipe

    import_fairseq()
    from speechft.fairseq_plugin.criterion import TaskLoss
    from speechft.fairseq_plugin.task import FinetuneTask

    step, forward = FinetuneTask.optimizer_step, TaskLoss.forward

    def stepped(task, optimizer, model, update_num):
        step(task, optimizer, model, update_num)
        clock.step()

    def heard(criterion, model, sample, reduce=True):
        if model.training:
            clock.hear(len(sample["ids"]))
        return forward(criterion, model, sample, reduce)

    FinetuneTask.optimizer_step, TaskLoss.forward = stepped, heard
    finetune(job["model"], FinetuneRecipe.model_validate(job["recipe"]), job["manifests"], job["out"], **job.get("options", {}))


def run_s3prl(job, clock):
    """Run s3prl's downstream runner with `--upstream_trainable -s last_hidden_state`, as `run_downstream.py` does."""
    import numpy as np
    import s3prl_stand_ins

    s3prl_stand_ins.install()
    s3prl_stand_ins.load_in_one_process()
    from s3prl.downstream.runner import Runner

    seed = job["arguments"]["seed"]
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    runner = Runner(argparse.Namespace(**job["arguments"]), job["config"])
    make_optimizer = runner._get_optimizer

    def make_timed_optimizer(models):
        optimizer = make_optimizer(models)
        optimizer.register_step_post_hook(lambda *_: clock.step())
        return optimizer

    runner._get_optimizer = make_timed_optimizer
    runner.upstream.model.register_forward_pre_hook(lambda _, arguments: clock.hear(len(arguments[0])))
    runner.train()


def main():
    side, job = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    clock = Clock()
    {"speechft": run_speechft, "s3prl": run_s3prl}[side](job, clock)
    Path(sys.argv[3]).write_text(json.dumps(clock.report()), encoding="utf-8")


main()
