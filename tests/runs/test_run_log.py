"""Snakemake's log as records, the table of a run, and its failed jobs."""

import json
import os
import re

import pytest
from typer.testing import CliRunner

from speechft.cli import app
from speechft.errors import SpeechFTError
from speechft.runs.hooks import describe_failures
from speechft.runs.log import newest_log, parse_log
from speechft.runs.report import explain, failures_of, print_failures, print_summary, summary

HEAD = """Building DAG of jobs...
Job stats:
job          count
---------  -------
evaluate         2
finetune         1
manifests        1
table            1
all              1
total            6

Select jobs to execute...
"""
MANIFESTS = """[Sun Nov 29 17:54:05 2026]
rule manifests:
    input: results/recipes/corpora/words.json, words.csv
    output: results/corpora/words (update)
    log: results/logs/corpora/words.log
    jobid: 4
    reason: Missing output files: results/corpora/words
    wildcards: corpus=words
    resources: mem_mb=600, mem=600 MB, runtime=10
Shell command: job results/logs/corpora/words.log speechft prepare --recipe x.json --out results/corpora/words
Job 4 has been submitted with SLURM jobid 17 (log: /run/.snakemake/slurm_logs/rule_manifests/words/17.log).
[Sun Nov 29 17:54:35 2026]
Finished jobid: 4 (Rule: manifests)
1 of 6 steps (17%) done
"""
FINETUNE = """[Sun Nov 29 17:55:00 2026]
rule finetune:
    output: results/models/tiny/words/stable_ft/model.safetensors, results/models/tiny/words/stable_ft/early
    log: results/logs/finetune/tiny/words/stable_ft.log
    jobid: 3
    wildcards: encoder=tiny, finetuning=words, method=stable_ft
    threads: 2
    resources: mem_mb=700, gpu=1
"""
FAILED_ON_SLURM = """[Sun Nov 29 17:56:40 2026]
Error in rule finetune:
    message: SLURM-job '18' failed, SLURM status is: 'TIMEOUT'. Detailed failure reason unavailable (status command is not 'sacct').
    jobid: 3
    output: results/models/tiny/words/stable_ft/model.safetensors, results/models/tiny/words/stable_ft/early
    log: results/logs/finetune/tiny/words/stable_ft.log, .snakemake/slurm_logs/18.log (check log file(s) for error details)
    shell:
        job results/logs/finetune/tiny/words/stable_ft.log speechft finetune
        (command exited with non-zero exit code)
    external_jobid: 18
"""
REPORT, _ = FAILED_ON_SLURM.replace(", .snakemake/slurm_logs/18.log", "").split("    external_jobid")
FAILED_HERE = """RuleException:
CalledProcessError in file "/rules/finetune.smk", line 30:
Command 'set -euo pipefail; job results/logs/finetune/tiny/words/stable_ft.log speechft finetune' died with <Signals.SIGKILL: 9>.
""" + re.sub("message: .*", "message: None", REPORT)
AGAIN = "Trying to restart job 3.\nSelect jobs to execute...\nExecute 1 jobs...\n"
LOG = "results/logs/finetune/tiny/words/stable_ft.log"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder in which the fine-tuning left a log."""
    (tmp_path / LOG).parent.mkdir(parents=True)
    (tmp_path / LOG).write_text("update 10/20\nerror: Stopped by SIGTERM after writing a checkpoint.\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_jobs_their_states_and_their_seconds():
    run = parse_log(HEAD + MANIFESTS + FINETUNE + FAILED_ON_SLURM + AGAIN + FINETUNE.replace("17:55:00", "17:57:00"))
    assert run.planned == {"evaluate": 2, "finetune": 1, "manifests": 1, "table": 1, "all": 1}
    manifests, finetune = run.jobs
    assert (manifests.rule, manifests.target) == ("manifests", "words")
    assert (manifests.state, manifests.attempts, manifests.seconds) == ("done", 1, 30)
    assert manifests.outputs == ["results/corpora/words"]
    assert (finetune.target, finetune.state, finetune.attempts, finetune.seconds) == ("tiny/words/stable_ft", "running", 2, 100)
    assert finetune.logs == [LOG]


def test_several_attempts_are_one_failed_job_with_what_ended_it(folder):
    run = parse_log(HEAD + FINETUNE + FAILED_ON_SLURM + AGAIN + FINETUNE + FAILED_ON_SLURM)
    os.utime(folder / LOG, (run.jobs[0].began.timestamp() + 60,) * 2)
    cells = [("evaluate", f"words/x/{number}") for number in range(5)]
    (failure,) = failures_of(run, {3: [("merge", "tiny/words/speech_ft"), *cells, ("all", "")]})
    assert (failure.rule, failure.target, failure.attempts) == ("finetune", "tiny/words/stable_ft", 2)
    assert print_failures([failure]).splitlines() == [
        "Failed jobs: 1",
        "  finetune tiny/words/stable_ft (2 attempts)",
        "    Stopped by SIGTERM after writing a checkpoint. (it reached its time limit)",
        f"    log: {LOG}",
        "    not started because of it: 1 merge (tiny/words/speech_ft), 5 evaluate (words/x/0, words/x/1, words/x/2, ...), 1 all",
    ]


def test_a_killed_job_without_a_last_word_and_the_log_of_an_earlier_run(folder):
    (folder / LOG).write_text("update 10/20\n")
    run = parse_log(HEAD + FINETUNE + FAILED_HERE)
    os.utime(folder / LOG, (run.jobs[0].began.timestamp() + 60,) * 2)
    (failure,) = failures_of(run)
    assert failure.message == "it was killed (SIGKILL), as the system does when memory runs out; last line of its log: update 10/20"
    run = parse_log(HEAD + FINETUNE + FAILED_HERE.replace("died with <Signals.SIGKILL: 9>", "returned non-zero exit status 1"))
    os.utime(folder / LOG, (run.jobs[0].began.timestamp() - 60,) * 2)
    assert failures_of(run)[0].message == "it wrote no log"


def test_a_job_that_succeeds_at_last_did_not_fail():
    run = parse_log(HEAD + FINETUNE + FAILED_HERE + AGAIN + FINETUNE + "[Sun Nov 29 18:00:00 2026]\nFinished jobid: 3 (Rule: finetune)\n")
    assert run.failed == failures_of(run) == []


def test_jobs_of_a_group_are_indented_and_listed_once_more():
    indented = "".join(f"    {line}\n" for line in FINETUNE.splitlines())
    error = f"""[Sun Nov 29 17:56:39 2026]
    message: None
    jobs:
        rule finetune:
            jobid: 3
            log: {LOG} (check log file(s) for error details)
"""
    indented_error = "".join(f"    {line}\n" for line in FAILED_ON_SLURM.splitlines())
    run = parse_log(f"{HEAD}[Sun Nov 29 17:55:00 2026] group job 6b1f (jobs in lexicogr. order):\n{indented}{error}{indented_error}")
    (job,) = run.jobs
    assert (job.attempts, job.state, job.cause, job.grouped) == (1, "failed", "it reached its time limit", True)
    job.cause = None
    assert explain(job) == "a job of its group failed"


def test_the_table_has_all_rules_and_a_last_row():
    values = summary(parse_log(HEAD + MANIFESTS + FINETUNE + FAILED_HERE))
    assert values["total"] == {"planned": 6, "done": 1, "failed": 1, "seconds": 130}
    assert values["wall_seconds"] == 155
    assert print_summary(values).splitlines() == [
        "rule       planned  done  failed  seconds",
        "evaluate         2     0       0        0",
        "finetune         1     0       1      100",
        "manifests        1     1       0       30",
        "table            1     0       0        0",
        "all              1     0       0        0",
        "total            6     1       1      130",
        "Wall time: 155 s.",
        "Not started: 2 evaluate, 1 table, 1 all.",
    ]


@pytest.mark.parametrize(
    "text", ["", "Error in rule x:\n", "[Sun Nov 29 17:55:00 2026]\nError in rule x:\n    message: None\n", "Job stats:\n"]
)
def test_a_log_that_breaks_off_is_no_error(text):
    run = parse_log(text)
    assert (run.jobs, run.failed, summary(run)["total"]["planned"]) == ([], [], 0)
    assert [job.state for job in parse_log(HEAD + FINETUNE[:-40]).jobs] == ["running"]


def test_the_verb_reads_the_newest_log_and_what_the_run_noted(folder, monkeypatch):
    logs = folder / ".snakemake/log"
    logs.mkdir(parents=True)
    (logs / "2026-11-28T100000.000000.snakemake.log").write_text(HEAD + MANIFESTS)
    newest = logs / "2026-11-29T100000.000000.snakemake.log"
    newest.write_text(HEAD + FINETUNE + FAILED_HERE)
    assert newest_log() == newest.relative_to(folder)
    assert "Failed jobs: 1" in describe_failures(object(), [str(newest)]), "without Snakemake's objects there is still a list"
    shown = CliRunner().invoke(app, ["jobs"])
    assert shown.exit_code == 1
    assert "finetune         1     0       1      100" in shown.output
    assert "  finetune tiny/words/stable_ft\n" in shown.output
    (folder / LOG).write_text("error: of a later run\n")
    assert "of a later run" not in CliRunner().invoke(app, ["jobs"]).output
    values = json.loads(CliRunner().invoke(app, ["jobs", "--json"]).output)
    assert values["failures"][0]["log"] == LOG
    shown = CliRunner().invoke(app, ["jobs", str(logs / "2026-11-28T100000.000000.snakemake.log")])
    assert shown.exit_code == 0


def test_a_run_that_planned_nothing_and_no_run_at_all(folder):
    (folder / "x.snakemake.log").write_text("ConfigError in file x: encoders.mine is unknown\n")
    shown = CliRunner().invoke(app, ["jobs", "x.snakemake.log"])
    assert (shown.exit_code, "no jobs were planned. Its last line: ConfigError in file x" in shown.output) == (0, True)
    with pytest.raises(SpeechFTError, match="contains no log of a run"):
        newest_log()
