"""Several processes under torchrun, and what a run leaves for TensorBoard."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from finetune.watching import interrupted_after, read_log
from safetensors.torch import load_file

from speechft.encoders.directory.random_encoders import random_encoder
from speechft.fairseq_plugin.resuming import newest_checkpoint
from speechft.files.hashes import sha256_file
from speechft.finetune import finetune
from speechft.recipes.finetuning import FinetuneRecipe

RECIPE = FinetuneRecipe(task="sid", updates=6, batch_size=8, validate_every=3, peak_lr=1e-3, seed=3, head_only=0.2, early=())


CPU_ONLY = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


SCRIPT = """\
import sys

import torch
from speechft.cli import _run

status = _run(sys.argv[1:])
assert status or not torch.distributed.is_initialized(), "the process group is open"
raise SystemExit(status)
"""


def torchrun_command(processes, folder, recipe, *arguments):
    """`speechft finetune` in several processes; output in `folder`/out. Training that ends closes their process group."""
    (folder / "recipe.json").write_text(recipe.model_dump_json())
    (folder / "run.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", folder / "run.py"]
    command += ["finetune", *map(str, arguments), "--recipe", str(folder / "recipe.json")]
    return [*command, "--out", str(folder / "out"), "--threads", "1"]


def torchrun(processes, folder, recipe, *arguments):
    """Runs it to its end; returns the output."""
    command = torchrun_command(processes, folder, recipe, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=CPU_ONLY)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out"


def workers(parent):
    """Process ids of what torchrun has started, by rank."""
    found = {}
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        ranks = [int(variable.removeprefix(b"RANK=")) for variable in variables if variable.startswith(b"RANK=")]
        found |= {rank: int(child) for rank in ranks}
    return [found[rank] for rank in sorted(found)]


def wait_until(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def even(make_corpus, tmp_path_factory):
    """Eight training utterances of one length: each update of eight hears all, in one batch or in two halves."""
    return make_corpus(tmp_path_factory.mktemp("even"), {"train": 8, "dev": 6}, seconds=(0.4, 0.4), classes=2)


def test_two_processes_do_what_one_does_with_the_doubled_batch(even, tmp_path):
    base = random_encoder("hubert", tmp_path / "base", seed=1, dropout=0.0, attention_dropout=0.0)
    finetune(base, RECIPE, even, tmp_path / "one")
    half = RECIPE.model_copy(update={"batch_size": 4})
    two_out = torchrun(2, tmp_path, half, base, even)
    finetune(base, half.model_copy(update={"accumulate": 2}), even, tmp_path / "accumulated")
    one, two, accumulated = (read_log(out) for out in (tmp_path / "one", two_out, tmp_path / "accumulated"))
    assert len(one) == len(two) == len(accumulated) == 6
    for column in ("loss", "lr", "dev_loss", "dev_SID"):
        expected = [float(row[column]) for row in one if row[column]]
        for other in (two, accumulated):
            assert [float(row[column]) for row in other if row[column]] == pytest.approx(expected, abs=1e-4), column
    weights = [load_file(out / "model.safetensors") for out in (tmp_path / "one", two_out, tmp_path / "accumulated")]
    start = load_file(base / "model.safetensors")
    for name, tensor in weights[0].items():
        if not name.endswith("k_proj.bias"):  # whose gradient is rounding noise
            for other in weights[1:]:
                torch.testing.assert_close(other[name], tensor, atol=1e-5, rtol=0)
    assert any(not torch.equal(weights[1][name], tensor) for name, tensor in start.items())


@pytest.mark.parametrize("receiver", ["torchrun", "a process"])
def test_sigterm_ends_all_processes_after_the_same_update(receiver, even, tmp_path):
    base = random_encoder("hubert", tmp_path / "base", seed=1)
    recipe = RECIPE.model_copy(update={"updates": 200, "validate_every": 100, "batch_size": 2})
    work = tmp_path / "work"
    for name in ("stopped", "whole"):
        (tmp_path / name).mkdir()
    command = torchrun_command(2, tmp_path / "stopped", recipe, base, even, "--work-dir", work)
    with (tmp_path / "printed").open("w+") as printed:
        process = subprocess.Popen(command, env=CPU_ONLY, stdout=printed, stderr=printed)
        try:
            wait_until(lambda: (work / "training.csv").is_file() and len(read_log(work)) > 10)
            os.kill(process.pid if receiver == "torchrun" else workers(process.pid)[1], signal.SIGTERM)
            assert process.wait(200) != 0
        finally:
            for pid in [*(workers(process.pid) if process.poll() is None else []), process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        printed.seek(0)
        assert "Stopped by SIGTERM after writing a checkpoint" in printed.read()
    _, completed = newest_checkpoint(work / "checkpoints")
    assert 10 < completed < 100
    stopped = torchrun(2, tmp_path / "stopped", recipe, base, even, "--work-dir", work)
    whole = torchrun(2, tmp_path / "whole", recipe, base, even)
    for file in ("model.safetensors", "training.csv"):
        assert sha256_file(stopped / file) == sha256_file(whole / file)


def test_several_tasks_on_two_gpus(corpus, theta0, tmp_path):
    """The command itself claims two GPUs, which are pretended here, and goes on as two processes."""
    values = {"updates": 4, "batch_size": 4, "accumulate": 1, "validate_every": 2, "jointly": {"pr": {"task": "pr", "batch_size": 4}}}
    recipe = FinetuneRecipe.model_validate({**RECIPE.model_dump(), **values})
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    command = [sys.executable, "-m", "speechft.cli", "finetune", theta0, corpus, "--jointly", f"pr={corpus}"]
    command += ["--recipe", tmp_path / "recipe.json", "--out", tmp_path / "out", "--threads", "2", "--gpus", "2"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "0,1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "GPUs: 0,1" in done.stderr
    assert len(list(tmp_path.glob("speechft-gpus-*/*"))) == 2
    rows = read_log(tmp_path / "out")
    assert [bool(row["dev_MEAN_ERROR"]) for row in rows] == [False, True] * 2
    assert json.loads((tmp_path / "out/provenance.json").read_text())["recipe"]["selected_by"] == "dev MEAN_ERROR"


def test_tensorboard_has_the_numbers_of_the_log_once_whatever_was_interrupted(even, theta0, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folders = {"work_dir": tmp_path / "work", "tensorboard": tmp_path / "scalars"}
    with interrupted_after(4):
        finetune(theta0, RECIPE, even, tmp_path / "out", **folders)
    finetune(theta0, RECIPE, even, tmp_path / "out", **folders)
    found = EventAccumulator(str(tmp_path / "scalars"))
    found.Reload()
    rows = read_log(tmp_path / "out")
    assert [event.step for event in found.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    for tag, column in (("train/loss", "loss"), ("train/lr", "lr"), ("train/grad_norm", "grad_norm"), ("dev/SID", "dev_SID")):
        expected = {int(row["update"]): float(row[column]) for row in rows if row[column]}
        assert {event.step: event.value for event in found.Scalars(tag)} == pytest.approx(expected, rel=1e-5), tag
