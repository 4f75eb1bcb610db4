"""Pending cells say which job behind them failed, and why."""

import os
import re
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from planning.test_jobs import EVERYTHING

from speechft.cost.jobs import jobs_behind
from speechft.experiment.schema import load_experiment
from speechft.experiment.workflow import Workflow
from speechft.runs.reasons import NOT_RUN, job_files, pending_reasons
from speechft.tables.experiment import build_experiment

BEHIND_CELLS = {
    *("evaluate", "finetune", "continue_pretraining", "merge", "early"),
    *("manifests", "unite", "pretrain", "import_checkpoint", "fbank", "fetch"),
}
STABLE, MERGED, PLAIN = (f"hubert_demo/{name}/pr" for name in ("pr_sentences/stable_ft", "pr_sentences/speech_ft", "none/pretrained"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with an experiment whose pre-trained encoder and manifests are there."""
    values = yaml.safe_load((ROOT / "tests/experiment.yaml").read_text())
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    for name in ["models/hubert_demo/none/pretrained/model.safetensors", *(f"corpora/{name}/x" for name in values["corpora"])]:
        leave(tmp_path, name)
    return tmp_path


def leave(folder, name, text="", at=None):
    path = folder / "results/demo" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if at is not None:
        os.utime(path, (at, at))


def reasons(folder):
    flow = Workflow(load_experiment(folder / "experiment.yaml"))
    return pending_reasons(flow, [STABLE, MERGED, PLAIN], flow.results)


def test_nothing_is_known_without_logs(folder):
    assert reasons(folder) == {}


def test_a_cell_whose_model_failed_and_one_that_was_not_run(folder):
    leave(folder, "logs/finetune/hubert_demo/pr_sentences/stable_ft.log", "update 3\nerror: the loss is NaN.\n  more\n")
    failed = "finetune hubert_demo/pr_sentences/stable_ft failed: the loss is NaN."
    log = "(results/demo/logs/finetune/hubert_demo/pr_sentences/stable_ft.log)"
    assert reasons(folder) == {STABLE: f"{failed} {log}", MERGED: f"{failed} {log}", PLAIN: NOT_RUN}


def test_the_log_of_a_job_that_later_succeeded_is_no_reason(folder):
    leave(folder, "logs/finetune/hubert_demo/pr_sentences/stable_ft.log", "error: the loss is NaN.\n")
    leave(folder, "models/hubert_demo/pr_sentences/stable_ft/model.safetensors")
    assert reasons(folder)[STABLE] == NOT_RUN


def test_the_latest_failure_counts_and_a_cell_that_is_there_needs_none(folder):
    leave(folder, f"logs/evaluate/{STABLE}.log", "error: old.\n", at=1000)
    leave(folder, "logs/finetune/hubert_demo/pr_sentences/stable_ft.log", "error: new.\n", at=2000)
    leave(folder, f"logs/evaluate/{PLAIN}.log", "error: of an earlier run.\n")
    leave(folder, f"cells/{PLAIN}.json")
    found = reasons(folder)
    assert "failed: new." in found[STABLE]
    assert PLAIN not in found


def test_a_job_without_a_last_word_has_not_finished(folder):
    leave(folder, f"logs/evaluate/{PLAIN}.log", "step 5\n")
    assert reasons(folder)[PLAIN] == f"evaluate {PLAIN} began and has not finished (results/demo/logs/evaluate/{PLAIN}.log)"


def test_tables_and_curves_show_the_reasons(folder):
    values = yaml.safe_load((folder / "experiment.yaml").read_text())
    values["curves"] = {"alpha": {"encoder": "hubert_demo", "finetuning": "pr_sentences", "alphas": [0, 1], "tasks": ["pr"]}}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(values))
    leave(folder, "logs/finetune/hubert_demo/pr_sentences/stable_ft.log", "error: the loss is NaN.\n")
    build_experiment("experiment.yaml", None, ROOT / "config/published.csv", folder / "out")
    for name in ("demo", "alpha"):
        text = (folder / f"out/{name}.md").read_text()
        assert re.search(r"Pending: .*stable_ft.*\. Reason: finetune hubert_demo/pr_sentences/stable_ft failed: the loss is NaN\.", text)
        assert re.search(r"Pending: hubert_demo/none/pretrained/.*\. Reason: not run\.", text)
        frame = pd.read_csv(folder / f"out/{name}.csv").set_index("method")
        assert frame[frame["task"] == "pr"]["reason"]["pretrained"] == NOT_RUN
        assert "the loss is NaN" in frame[frame["task"] == "pr"]["reason"]["stable_ft"]


def test_logs_and_outputs_are_those_of_the_rules(tmp_path):
    """Every kind of job behind a cell, as Snakemake plans it."""
    (tmp_path / "config").mkdir()
    for name in ("config/published.csv", "a.csv", "b.csv"):
        (tmp_path / name).write_text("path\n")
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump({**EVERYTHING, "results": "results"}))
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "--cores", "1"]
    command += ["--dry-run", "--configfile", tmp_path / "experiment.yaml"]
    text = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    planned = {}
    for block in re.split(r"^(?=(?:local)?rule )", text, flags=re.M)[1:]:
        rule = re.match(r"(?:local)?rule (\w+):", block)[1]
        output, log = (re.search(rf"^    {key}: ([^,\n]*?)(?: \(update\))?(?:,.*)?$", block, re.M) for key in ("output", "log"))
        if output and log:
            planned.setdefault(rule, set()).add((log[1], output[1]))
    flow = Workflow(load_experiment(tmp_path / "experiment.yaml"))
    found = {}
    for job in jobs_behind(flow).found:
        if (files := job_files(flow, job, flow.results)) is not None and job.rule in BEHIND_CELLS:
            found.setdefault(job.rule, set()).add(files)
    assert set(found) == BEHIND_CELLS
    for rule, files in found.items():
        assert files == planned[rule], rule
