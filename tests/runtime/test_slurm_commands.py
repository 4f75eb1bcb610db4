"""What the workflow asks of Slurm, with programs in the place of Slurm's that say what theirs would. A real Slurm: tests/slurm."""

import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from speechft.errors import ClusterError
from speechft.runtime.slurm import RUNS, cancel, forget_run, is_dry_run, living_snakemakes, note_run, orphans, prefer_commands, resume

POLL_SQUEUE = ("--format=%i|%T", "--states=all", "--noheader", "--name", "run-1")
POLL_SACCT = ("-X", "--parsable2", "--clusters", "all", "--noheader", "--format=JobIdRaw,State", "--starttime", "x", "--name", "run-1")


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A function that makes programs, and a folder of theirs in front of PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(**scripts):
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        return folder

    return write


def call(name, arguments, folder):
    """A command of slurm/bin as Snakemake calls it, from `folder`."""
    done = subprocess.run([ROOT / "slurm/bin" / name, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def outages(folder):
    path = folder / ".snakemake/slurm_outages.log"
    return path.read_text().splitlines() if path.exists() else []


def test_squeue_hands_on_what_slurm_says_but_calls_the_end_an_end(programs, tmp_path):
    programs(squeue="printf '1|RUNNING\\n2|PREEMPTED\\n3|PENDING\\n'")
    assert call("squeue", POLL_SQUEUE, tmp_path) == (0, "1|RUNNING\n2|CANCELLED\n3|PENDING\n", "")
    assert call("squeue", ("-u", "me"), tmp_path)[1] == "1|RUNNING\n2|PREEMPTED\n3|PENDING\n"
    assert outages(tmp_path) == []


def test_no_answer_is_no_news_and_is_noted(programs, tmp_path):
    programs(squeue="echo 'Unable to contact slurm controller' >&2; exit 1", sacct="echo 'Connection refused'; exit 1")
    assert call("squeue", POLL_SQUEUE, tmp_path) == (0, "", "")
    assert call("sacct", POLL_SACCT, tmp_path) == (0, "", "")
    assert [line.split(" ", 2)[2] for line in outages(tmp_path)] == ["no answer to squeue", "no answer to sacct: Connection refused"]
    status, _, errors = call("squeue", ("-u", "me"), tmp_path)
    assert (status, errors) == (1, "Unable to contact slurm controller\n"), "what a user asks is answered as it is"


def test_sacct_says_the_bare_word_and_looks_after_preempted_jobs(programs, tmp_path):
    programs(
        sacct="printf '1|CANCELLED by 1000\\n2|PREEMPTED\\n3|PREEMPTED\\n4|COMPLETED\\n'",
        squeue='case "$*" in *"-j 3 "*) echo 3 ;; esac',  # will start again
    )
    assert call("sacct", POLL_SACCT, tmp_path) == (0, "1|CANCELLED\n2|CANCELLED\n3|PREEMPTED\n4|COMPLETED\n", "")


def test_without_accounting_squeue_is_asked(programs, tmp_path):
    asked = tmp_path / "asked"
    programs(sacct="echo 'Slurm accounting storage is disabled' >&2; exit 1", squeue=f"echo \"$*\" > {asked}; echo '7|TIMEOUT'")
    assert call("sacct", POLL_SACCT, tmp_path) == (0, "7|TIMEOUT\n", "")
    assert asked.read_text() == "--format=%i|%T --states=all --noheader --name run-1\n"


def test_submission_waits_for_the_controller_but_repeats_nothing_else(programs, tmp_path):
    count = tmp_path / "count"
    sbatch = f'echo >> {count}; if [ "$(wc -l < {count})" -lt 3 ]; then echo "sbatch: error: ERROR" >&2; exit 1; fi; echo 42'
    programs(sleep="exit 0", sbatch=sbatch.replace("ERROR", "Unable to contact slurm controller (connect failure)"))
    assert call("sbatch", ("--parsable", "--wrap=x"), tmp_path) == (0, "42\n", "")
    count.unlink()
    programs(sbatch=sbatch.replace("ERROR", "Invalid partition"))
    assert call("sbatch", ("--parsable", "--wrap=x"), tmp_path) == (1, "", "sbatch: error: Invalid partition\n")
    assert len(count.read_text().splitlines()) == 1


def test_commands_are_preferred_where_there_is_slurm(programs, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    prefer_commands(ROOT / "slurm/bin")
    assert os.environ["PATH"] == str(tmp_path / "empty")
    folder = programs(squeue="exit 0")
    monkeypatch.setenv("PATH", str(folder))
    prefer_commands(ROOT / "slurm/bin")
    assert os.environ["PATH"] == f"{ROOT / 'slurm/bin'}:{folder}"


def test_orphans_are_snakemakes_jobs_of_this_folder(programs, tmp_path):
    here = tmp_path.resolve()
    lines = [f"12|{here}|rule_finetune_wildcards_x", f"9|{here}|group_cells", f"10|{here}|(null)", f"11|{here}/other|rule_finetune"]
    programs(squeue="cat << END\n" + "\n".join(lines) + "\nEND")
    assert orphans(tmp_path) == ["9", "12"]
    programs(squeue="echo down >&2; exit 1")
    with pytest.raises(ClusterError, match=r"`squeue` does not answer \(down\)"):
        orphans(tmp_path)


def test_cancelling_waits_until_the_jobs_have_ended(programs, tmp_path):
    alive = tmp_path / "alive"
    alive.write_text("5\n6\n7\n")
    programs(scancel=f'echo "$*" > {tmp_path}/cancelled', squeue=f"cat {alive}; echo 7 > {alive}")
    cancel(["5", "6"])
    assert (tmp_path / "cancelled").read_text() == "5 6\n"
    with pytest.raises(ClusterError, match="7 were canceled but have not ended"):
        cancel(["7"], patience=0)
    programs(scancel="exit 1")
    cancel([])


def test_a_living_snakemake_is_left_alone(programs, tmp_path):
    cancelled = tmp_path / "cancelled"
    programs(squeue=f"echo '5|{tmp_path.resolve()}|rule_finetune'", scancel=f"touch {cancelled}")
    program = tmp_path / "snakemake"
    program.write_text("import time\ntime.sleep(60)\n")
    living = subprocess.Popen([sys.executable, program], cwd=tmp_path)
    try:
        deadline = time.monotonic() + 20
        while not living_snakemakes(tmp_path) and time.monotonic() < deadline:  # a new process has no command line for a moment
            time.sleep(0.05)
        assert living_snakemakes(tmp_path) == [living.pid]
        assert living_snakemakes(tmp_path / "programs") == []
        with pytest.raises(ClusterError, match=rf"still runs here, process {living.pid}"):
            resume(tmp_path, [])
    finally:
        living.kill()
        living.wait()
    assert not cancelled.exists()


def write_locked_workflow(folder):
    (folder / "Snakefile").write_text('rule all:\n    output: "done.txt"\n    shell: "touch {output}"\n')
    (folder / ".snakemake/locks").mkdir(parents=True)
    for name in ("0.input.lock", "0.output.lock"):
        (folder / ".snakemake/locks" / name).write_text("done.txt\n")


def test_resuming_unlocks_and_runs_with_the_same_arguments(tmp_path):
    write_locked_workflow(tmp_path)
    arguments = ["--cores", "1", "--resources", "gpu=1", "--", "all"]
    command = [sys.executable, "-m", "snakemake", *arguments]
    assert "LockException" in subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stderr
    done = subprocess.run([sys.executable, "-m", "speechft.cli", "resume", *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "done.txt").exists()


def test_a_slurm_that_does_not_answer_matters_where_it_was_used(programs, tmp_path):
    programs(squeue="echo down >&2; exit 1")
    with pytest.raises(ClusterError, match="unlock` failed"):  # there is no workflow here
        resume(tmp_path, ["--cores", "1"])
    (tmp_path / ".snakemake/slurm_logs").mkdir(parents=True)
    with pytest.raises(ClusterError, match="`squeue` does not answer"):
        resume(tmp_path, ["--cores", "1"])


@pytest.mark.parametrize("arguments", [["-n", "all"], ["--cores", "1", "--dry-run"], ["-pn"]])
def test_a_dry_run_cancels_and_unlocks_nothing(programs, tmp_path, arguments):
    programs(squeue=f"echo '5|{tmp_path.resolve()}|rule_finetune'", scancel=f"touch {tmp_path}/cancelled")
    write_locked_workflow(tmp_path)
    resume(tmp_path, arguments)
    assert (tmp_path / ".snakemake/locks/0.output.lock").exists()
    assert not (tmp_path / "cancelled").exists()
    assert not (tmp_path / "done.txt").exists()
    assert not is_dry_run(["--profile", "slurm", "--config", "name=n", "--", "-n"])
    assert not is_dry_run(["--until", "n"])


def test_only_jobs_of_a_snakemake_that_has_ended_are_cancelled(programs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed = tmp_path / "listed"
    listed.write_text(f"5|{tmp_path.resolve()}|rule_finetune\n")
    programs(squeue=f'case "$*" in *%Z*) cat {listed} ;; esac', scancel=f'echo "$*" > {tmp_path}/cancelled')
    with pytest.raises(ClusterError, match=r"jobs 5 belong to a Snakemake without a record.*scancel 5"):
        resume(tmp_path, ["--cores", "1"])
    (tmp_path / RUNS).mkdir(parents=True)
    (tmp_path / RUNS / "login2.cluster.77").touch()
    with pytest.raises(ClusterError, match=r"started as process 77 of login2\.cluster, which may still run"):
        resume(tmp_path, ["--cores", "1"])
    assert not (tmp_path / "cancelled").exists()
    (tmp_path / RUNS / "login2.cluster.77").unlink()
    note_run()
    with pytest.raises(ClusterError, match="unlock` failed"):  # there is no workflow here
        resume(tmp_path, ["--cores", "1"])
    assert (tmp_path / "cancelled").read_text() == "5\n"
    assert not list((tmp_path / RUNS).iterdir())
    note_run()
    forget_run()
    assert not list((tmp_path / RUNS).iterdir())
