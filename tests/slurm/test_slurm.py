"""The workflow on a real Slurm of two nodes on this machine: an undisturbed run, and runs to which everything happens that can."""

import json
import os
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from slurm.cluster import checkpoints, resume_run, start_run, training_process, wait_for
from slurm.tiny import TRAINED, copy_beginning, results, write_experiment

from speechft.files.hashes import sha256_file

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(1800)]  # busy machines take long

GROUPS = ("--groups", "evaluate=cells_{encoder}_{finetuning}_{method}", "--group-components", "cells_{encoder}_{finetuning}_{method}=10")
ONE_GPU_A_GROUP = ("--set-resource-scopes", "gpu=local", "--resources", "gpu=1")
OUTAGE_SECONDS = 30
FROM_SCRATCH = "update 15/"
"""In the log of a fine-tuning that begins before its first checkpoint."""


def log(folder: Path, name: str) -> str:
    return (folder / f"results/logs/{name}.log").read_text()


def outages(folder: Path) -> str:
    path = folder / ".snakemake/slurm_outages.log"
    return path.read_text() if path.exists() else ""


@pytest.fixture(scope="module")
def undisturbed(slurm, note, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    write_experiment(folder)
    run = start_run(slurm, folder, "all")
    assert run.end() == 0, run.explanation
    wall, busy = time.monotonic() - run.started, slurm.seconds_at_work(folder)
    note(f"undisturbed: {len(slurm.jobs(folder))} Slurm jobs, {wall:.0f} s, in {1 - busy / wall:.0%} of which no job was running")
    return folder


@pytest.fixture(scope="module")
def two_processes(slurm, undisturbed, tmp_path_factory):
    """A short fine-tuning that asks for two GPUs, started."""
    folder = tmp_path_factory.mktemp("two") / "run"
    write_experiment(folder, gpus=2, updates=6)
    copy_beginning(undisturbed, folder)
    return start_run(slurm, folder, f"{TRAINED}/model.safetensors")


@pytest.fixture(scope="module")
def disturbed(slurm, undisturbed, two_processes, tmp_path_factory):
    """The same experiment, and what happened to it; ends while another run, too slow for its time limit, is still under way."""
    folder, slow_folder = (tmp_path_factory.mktemp(name) / "run" for name in ("disturbed", "slow"))
    write_experiment(folder)
    options = (*GROUPS, *ONE_GPU_A_GROUP, "--", "all")

    # Snakemake is killed while the fine-tuning runs; its jobs live on.
    run = start_run(slurm, folder, *options)
    run.wait_for("a checkpoint", lambda: checkpoints(folder))
    run.kill()
    orphan = slurm.running(folder, "rule_finetune")

    # One command cancels them, unlocks and goes on.
    run = resume_run(slurm, folder, *options)
    again = run.wait_for("the fine-tuning again", lambda: slurm.running(folder, "rule_finetune", other_than=orphan))

    # A more important job takes both GPUs for a moment.
    urgent = slurm.ask("sbatch", "--parsable", "-p", "urgent", "--gpus=2", "-o", "/dev/null", "--wrap", "sleep 3").strip()
    run.wait_for("the urgent job", lambda: slurm.facts(urgent)["JobState"] == "COMPLETED")
    run.wait_for("the fine-tuning after it", lambda: slurm.facts(again)["JobState"] in ("RUNNING", "COMPLETED"))
    restarts = slurm.facts(again)["Restarts"]

    # Another fine-tuning is stopped, as if its node had become very slow; Slurm lets it go on to receive the signal at the time limit.
    write_experiment(slow_folder, minutes=1)
    copy_beginning(undisturbed, slow_folder)
    # Without the signal before the limit: at the limit itself there are KillWait seconds left.
    slow = start_run(slurm, slow_folder, "--default-resources", "slurm_partition=cpu", "--", f"{TRAINED}/model.safetensors")
    slow.wait_for("a checkpoint", lambda: checkpoints(slow_folder))
    os.kill(training_process(slow_folder), signal.SIGSTOP)

    # The controller is away for half a minute, or longer if until then nobody has asked it anything.
    slurm.stop_controller()
    began = time.monotonic()
    time.sleep(OUTAGE_SECONDS)
    wait_for("a question in vain", lambda: outages(run.folder) or outages(slow.folder))
    slurm.start_controller()
    outage = time.monotonic() - began

    # Somebody cancels a job that runs.
    cancelled = run.wait_for("cells of the merged model", lambda: slurm.running(folder, "speech_ft"))
    slurm.ask("scancel", cancelled)

    assert run.end() == 0, run.explanation
    return SimpleNamespace(
        folder=folder, run=run, slow=slow, orphan=orphan, again=again, restarts=restarts, outage=outage, cancelled=cancelled
    )


def test_every_job_ends_well_with_the_gpus_it_asked_for(slurm, undisturbed, note):
    jobs = slurm.jobs(undisturbed)
    assert {job.state for job in jobs} == {"COMPLETED"}
    rules = sorted(re.sub("_wildcards.*", "", job.comment) for job in jobs)
    # No table, figure, merge or recipe is among them.
    assert rules == ["rule_evaluate"] * 4 + ["rule_finetune", "rule_import_checkpoint", "rule_manifests"]
    for job in jobs:
        facts = slurm.facts(job.id)
        with_gpu = "evaluate" in job.comment or "finetune" in job.comment
        assert facts["Partition"] == ("gpu" if with_gpu else "cpu")
        assert facts["JOB_GRES"] == ("gpu:pretended:1" if with_gpu else "(null)")
        assert facts["TimeLimit"] == "00:10:00"
        note(f"  job {job.id} {job.state} {facts['Partition']} {facts['JOB_GRES']} {facts['RunTime']} {job.comment}")
    for text in [log(undisturbed, "finetune/tiny/words/stable_ft"), log(undisturbed, "evaluate/tiny/none/pretrained/pr")]:
        assert re.search(r"^GPUs: [01]$", text, re.M), text  # CUDA_VISIBLE_DEVICES, by Slurm


def test_a_second_run_submits_nothing(slurm, undisturbed):
    before = len(slurm.jobs(undisturbed))
    run = start_run(slurm, undisturbed, "all")
    assert run.end() == 0, run.explanation
    assert "Nothing to be done" in run.text
    assert len(slurm.jobs(undisturbed)) == before


def test_two_gpus_are_two_processes(slurm, two_processes):
    assert two_processes.end() == 0, two_processes.explanation
    (job,) = slurm.jobs(two_processes.folder)
    assert slurm.facts(job.id)["JOB_GRES"] == "gpu:pretended:2"
    text = log(two_processes.folder, "finetune/tiny/words/stable_ft")
    assert re.search(r"^GPUs: 0,1$", text, re.M), text
    trained = two_processes.folder / TRAINED
    assert len((trained / "training.csv").read_text().splitlines()) == 1 + 6
    assert json.loads((trained / "provenance.json").read_text())["kind"] == "finetune"


def test_a_killed_snakemake_is_resumed_without_training_twice(slurm, disturbed):
    assert disturbed.orphan, "the job must outlive Snakemake, or nothing is tested"
    (told,) = re.findall(r"^orphaned Slurm jobs: (.*)$", disturbed.run.text, re.M)
    assert disturbed.orphan in told.split(", ")
    jobs = slurm.jobs(disturbed.folder)
    assert next(job.state for job in jobs if job.id == disturbed.orphan) == "CANCELLED"
    assert [job.id for job in jobs if "rule_finetune" in job.comment] == [disturbed.orphan, disturbed.again]
    assert FROM_SCRATCH not in log(disturbed.folder, "finetune/tiny/words/stable_ft")


def test_a_preempted_job_goes_back_into_the_queue_and_goes_on(slurm, disturbed):
    assert disturbed.restarts == "1"
    assert slurm.facts(disturbed.again)["JobState"] == "COMPLETED"


def test_an_outage_of_the_controller_loses_no_job(disturbed):
    assert disturbed.outage >= OUTAGE_SECONDS
    noted = outages(disturbed.run.folder) + outages(disturbed.slow.folder)
    assert "no answer to s" in noted, "Snakemake must have asked in vain"
    assert disturbed.run.process.returncode == 0


def test_a_cancelled_job_is_tried_again(slurm, disturbed):
    cells = [job for job in slurm.jobs(disturbed.folder) if "speech_ft" in job.comment]
    assert [job.state for job in cells] == ["CANCELLED", "COMPLETED"]
    assert cells[0].id == disturbed.cancelled


def test_cells_of_one_model_share_a_job_and_its_gpu(slurm, disturbed):
    cells = [job for job in slurm.jobs(disturbed.folder) if "cells_" in job.comment]
    merged = [slurm.facts(job.id) for job in cells if "speech_ft" in job.comment]
    assert {facts["JOB_GRES"] for facts in merged} == {"gpu:pretended:1"}
    # Two cells one after the other, ten minutes each; the second attempt asks for twice as much.
    assert [facts["TimeLimit"] for facts in merged] == ["00:20:00", "00:40:00"]
    assert {job.state for job in cells} == {"CANCELLED", "COMPLETED"}


def test_wrong_input_gets_a_gpu_once(slurm, undisturbed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged") / "run"
    write_experiment(folder)
    copy_beginning(undisturbed, folder)
    (folder / "results/models/tiny/none/pretrained/model.safetensors").write_bytes(b"damaged")
    run = start_run(slurm, folder, "--retries", "2", "--", f"{TRAINED}/model.safetensors")
    assert run.end() == 1, run.explanation
    jobs = [slurm.facts(job.id) for job in slurm.jobs(folder)]
    assert [(job["JOB_GRES"], job["JobState"]) for job in jobs] == [("gpu:pretended:1", "FAILED"), *[("(null)", "FAILED")] * 2]
    shown = run.text[run.text.index("Failed jobs: 1") :]
    assert shown.splitlines()[1] == "  finetune tiny/words/stable_ft (3 attempts)"
    assert "pretrained/model.safetensors" in shown.splitlines()[2]
    assert shown.splitlines()[3] == "    log: results/logs/finetune/tiny/words/stable_ft.log"


def test_the_disturbed_run_found_what_the_undisturbed_one_found(slurm, undisturbed, disturbed, note):
    found, expected = results(disturbed.folder), results(undisturbed)
    note(f"disturbed: {len(slurm.jobs(disturbed.folder))} Slurm jobs, controller away for {disturbed.outage:.0f} s")
    for name in sorted(name for name in expected if name.endswith(".safetensors")):
        note(f"  {name}: undisturbed {str(expected[name])[:16]}, disturbed {str(found[name])[:16]}")
    assert found == expected
    assert not list((disturbed.folder / "results").rglob("*.tmp"))


def test_a_job_over_its_time_limit_goes_on_from_its_checkpoint(slurm, undisturbed, disturbed, note):
    slow = disturbed.slow
    assert slow.end() == 0, slow.explanation
    *before, last = slurm.jobs(slow.folder)  # on a busy machine several attempts may be too slow
    assert before
    assert {job.state for job in before} == {"TIMEOUT"}
    assert last.state == "COMPLETED"
    assert [slurm.facts(job.id)["TimeLimit"] for job in (before[0], last)] == ["00:01:00", f"00:{len(before) + 1:02}:00"]
    assert FROM_SCRATCH not in log(slow.folder, "finetune/tiny/words/stable_ft")
    weights = [sha256_file(folder / TRAINED / "model.safetensors") for folder in (undisturbed, slow.folder)]
    note(f"over the time limit: {' '.join(job.state for job in (*before, last))}; weights {weights[1][:16]}, undisturbed {weights[0][:16]}")
    for name in ("model.safetensors", "training.csv"):
        assert (slow.folder / TRAINED / name).read_bytes() == (undisturbed / TRAINED / name).read_bytes()
