"""Pending cells say which job behind them failed, and why."""

import os
import re
import sys

import pandas as pd
import pytest
import yaml
from conftest import ROOT

from speechft.runs.reasons import NOT_RUN, pending_reasons
from speechft.tables.experiment import build_experiment

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


FINETUNE_LOG = "logs/finetune/hubert_demo/pr_sentences/stable_ft.log"


def leave(folder, name, text="", at=None):
    path = folder / "results/demo" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if at is not None:
        os.utime(path, (at, at))


def reasons(folder):
    return pending_reasons(folder / "experiment.yaml", [STABLE, MERGED, PLAIN], "results/demo", "results/demo")


def test_a_cell_whose_model_failed_and_one_that_was_not_run(folder):
    assert reasons(folder) == {}, "nothing is known without logs"
    leave(folder, FINETUNE_LOG, "update 3\nerror: the loss is NaN.\n  more\n")
    failed = "finetune hubert_demo/pr_sentences/stable_ft failed: the loss is NaN."
    log = f"(results/demo/{FINETUNE_LOG})"
    assert reasons(folder) == {STABLE: f"{failed} {log}", MERGED: f"{failed} {log}", PLAIN: NOT_RUN}
    leave(folder, "models/hubert_demo/pr_sentences/stable_ft/model.safetensors")
    assert reasons(folder)[STABLE] == NOT_RUN, "the job succeeded later"


def test_the_latest_failure_counts_and_a_cell_that_is_there_needs_none(folder):
    leave(folder, f"logs/evaluate/{STABLE}.log", "error: old.\n", at=1000)
    leave(folder, FINETUNE_LOG, "error: new.\n", at=2000)
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
    leave(folder, FINETUNE_LOG, "error: the loss is NaN.\n")
    build_experiment("experiment.yaml", None, ROOT / "config/published.csv", folder / "out")
    for name in ("demo", "alpha"):
        text = (folder / f"out/{name}.md").read_text()
        assert re.search(r"Pending: .*stable_ft.*\. Reason: finetune hubert_demo/pr_sentences/stable_ft failed: the loss is NaN\.", text)
        assert re.search(r"Pending: hubert_demo/none/pretrained/.*\. Reason: not run\.", text)
        frame = pd.read_csv(folder / f"out/{name}.csv").set_index("method")
        assert frame[frame["task"] == "pr"]["reason"]["pretrained"] == NOT_RUN
        assert "the loss is NaN" in frame[frame["task"] == "pr"]["reason"]["stable_ft"]


def test_a_copy_of_the_results_elsewhere(folder, tmp_path):
    leave(folder, FINETUNE_LOG, "error: the loss is NaN.\n")
    (folder / "results/demo").rename(folder / "copied")
    found = pending_reasons(folder / "experiment.yaml", [STABLE], "copied", "results/demo")
    assert found[STABLE].endswith(f"the loss is NaN. (copied/{FINETUNE_LOG})")


def test_without_snakemake_nothing_is_known(folder, monkeypatch):
    leave(folder, f"logs/evaluate/{PLAIN}.log", "error: bad.\n")
    monkeypatch.setitem(sys.modules, "snakemake.exceptions", None)
    assert reasons(folder) == {}
