"""Stage 1 that has to end in the middle of things: SIGTERM in a slow update or validation, a full disk."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from finetune.watching import read_log

from speechft.errors import TrainingError
from speechft.fairseq_plugin.resuming import newest_checkpoint
from speechft.fairseq_plugin.stopping import UNVALIDATED
from speechft.fairseq_plugin.trainer import import_fairseq
from speechft.files.hashes import sha256_file
from speechft.finetune import finetune
from speechft.recipes.finetuning import FinetuneRecipe

RECIPE = FinetuneRecipe(task="sid", updates=8, batch_size=4, accumulate=3, validate_every=4, peak_lr=2e-3, seed=3)


@pytest.fixture(scope="module")
def whole(theta0, corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    finetune(theta0, RECIPE, corpus, out)
    return out


@pytest.mark.parametrize(
    ("step", "call", "completed"), [("train_step", 14, 4), ("train_step", 13, 4), ("valid_step", 2, 4), ("train_step", 2, 0)]
)
def test_sigterm_gives_up_a_slow_step_and_writes_a_checkpoint_within_ten_seconds(
    step, call, completed, whole, theta0, corpus, tmp_path, monkeypatch
):
    """The step would take two minutes; it is one of several of its update."""
    import_fairseq()
    from speechft.fairseq_plugin.task import FinetuneTask

    original = getattr(FinetuneTask, step)
    calls, asked = [], []

    def slow(task, *arguments, **options):
        calls.append(1)
        found = original(task, *arguments, **options)
        if len(calls) == call:
            asked.append(time.monotonic())
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
            for _ in range(1200):
                time.sleep(0.1)
        return found

    out, work = tmp_path / "out", tmp_path / "work"
    with monkeypatch.context() as patch:
        patch.setattr(FinetuneTask, step, slow)
        with pytest.raises(TrainingError, match="Stopped by SIGTERM"):
            finetune(theta0, RECIPE, corpus, out, work)
    assert time.monotonic() - asked[0] < 10
    newest = newest_checkpoint(work / "checkpoints")
    assert (newest[1] if newest else 0) == completed
    assert (work / "checkpoints" / UNVALIDATED).exists() == (step == "valid_step")
    finetune(theta0, RECIPE, corpus, out, work)
    for file in ("model.safetensors", "training.csv"):
        assert sha256_file(out / file) == sha256_file(whole / file)


FULL_DISK = """
set -e
mount -t tmpfs -o size={small} tmpfs {work}
set +e
{finetune} 2> {folder}/error.txt
echo $? > {folder}/status.txt
set -e
ls {work}/job/checkpoints > {folder}/left.txt
mount -o remount,size=64m {work}
{finetune}
"""


def _can_mount() -> bool:
    probe = ["unshare", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /tmp"]
    return shutil.which("unshare") is not None and subprocess.run(probe, capture_output=True).returncode == 0


@pytest.mark.skipif(not _can_mount(), reason="this machine lets nobody mount a small file system")
@pytest.mark.parametrize("small", ["2m", "4m", "6m"])
def test_a_full_disk_is_one_clear_error_and_the_run_goes_on_when_there_is_room(small, whole, theta0, corpus, tmp_path):
    (tmp_path / "recipe.json").write_text(RECIPE.model_dump_json())
    (tmp_path / "work").mkdir()
    arguments = f"{theta0} {corpus} --recipe {tmp_path}/recipe.json --out {tmp_path}/out --work-dir {tmp_path}/work/job --threads 1"
    command = f"{shlex.quote(sys.executable)} -m speechft.cli finetune {arguments}"
    script = FULL_DISK.format(small=small, work=tmp_path / "work", folder=tmp_path, finetune=command)
    done = subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=300)
    error = (tmp_path / "error.txt").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + error
    assert (tmp_path / "status.txt").read_text() == "1\n", error
    assert "Traceback" not in error
    assert "Logging error" not in error
    assert error.count("No space left on device") == 1
    assert ".tmp" not in (tmp_path / "left.txt").read_text()
    for file in ("model.safetensors", "training.csv"):
        assert sha256_file(tmp_path / "out" / file) == sha256_file(whole / file)
    assert len(read_log(tmp_path / "out")) == 8
