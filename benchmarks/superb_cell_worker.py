"""One run of s3prl 0.4.18's downstream runner for benchmarks/superb_cell.py: one task, one learning rate. Runs in benchmarks/.venv-s3prl.

    python superb_cell_worker.py JOB.json REPORT.json

The job has the runner's configuration and arguments. The report has counts (optimizer steps, batches, encoded utterances), scores, and the
CPU time before and during training.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

import numpy as np
import s3prl_stand_ins
import torch


def main():
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    s3prl_stand_ins.install()
    s3prl_stand_ins.load_in_one_process()
    # s3prl's checkpoints contain the arguments, which torch's weights-only loader must be allowed to load.
    torch.serialization.add_safe_globals([argparse.Namespace])
    from s3prl.downstream.runner import Runner

    seed = job["arguments"]["seed"]
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    runner = Runner(argparse.Namespace(**job["arguments"]), job["config"])
    counts = count(runner)
    ready = time.process_time()
    if job["mode"] == "train":
        runner.train()
    else:
        runner.evaluate()
    finished = time.process_time()
    report = {**counts, "scalars": s3prl_stand_ins.scalars, "cpu_before": ready, "cpu": finished - ready, "torch": torch.__version__}
    Path(sys.argv[2]).write_text(json.dumps(report), encoding="utf-8")


def count(runner):
    """Count steps, training batch sizes, scored utterances by split, and evaluations while the runner works."""
    counts = {"steps": 0, "batches": [], "scored": {}, "evaluations": {}}
    split = None

    def encoding(_, arguments):
        waveforms = arguments[0]
        if split is None:
            counts["batches"].append(len(waveforms))
        else:
            counts["scored"][split] = counts["scored"].get(split, 0) + len(waveforms)

    def stepped(*_):
        counts["steps"] += 1

    make_optimizer, evaluate = runner._get_optimizer, runner.evaluate

    def make_counting_optimizer(models):
        optimizer = make_optimizer(models)
        optimizer.register_step_post_hook(stepped)
        return optimizer

    def counting_evaluate(*arguments):
        nonlocal split
        split = arguments[0] if arguments else runner.args.evaluate_split
        counts["evaluations"][split] = counts["evaluations"].get(split, 0) + 1
        try:
            return evaluate(*arguments)
        finally:
            split = None

    runner.upstream.model.register_forward_pre_hook(encoding)
    runner._get_optimizer, runner.evaluate = make_counting_optimizer, counting_evaluate
    return counts


main()
