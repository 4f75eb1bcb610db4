"""Real runs with wrong input: what they say at their end, and that wrong input is not tried again."""

import json
import re
import shutil
import subprocess
import sys

from conftest import ROOT
from workflow.plans import change, snakemake

from speechft.errors import CorpusError, StoppedTrainingError
from speechft.runs.refusals import NOTE, RUN, note_refusal, was_refused

CELL = "results/demo/cells/hubert_demo/pr_sentences/speech_ft/ks.json"
CELL_LOG = "results/demo/logs/evaluate/hubert_demo/pr_sentences/speech_ft/ks.log"
COUNT = """
export SPEECHFT_RUN=this
set -euo pipefail
. "$1/rules/job.sh"
job "a b.log" sh -c 'echo once >> count; echo said; printf "%s\\n" "$SPEECHFT_RUN" "error: wrong" > "$SPEECHFT_REFUSAL"; exit 1'
"""


def run(folder, *arguments, **environment):
    return snakemake(folder, "--keep-going", *arguments, check=False, **environment)


def attempts(text, rule):
    """Resources of each start of a job of the rule."""
    blocks = re.split(r"^(?=\[)", text, flags=re.M)
    found = [re.search(r"^    resources: (.*)$", block, re.M) for block in blocks if re.search(rf"^(?:local)?rule {rule}:", block, re.M)]
    return [dict(pair.split("=") for pair in match[1].split(", ")) for match in found]


def end_of(text):
    """The list of failed jobs."""
    return re.search(r"^Failed jobs: .*?(?=^\S(?!ailed))", text, re.M | re.S)[0]


def test_wrong_input_is_read_once_and_again_when_it_was_mended(folder):
    corpus = folder / "speech/keywords.csv"
    with (ROOT / "mini/speech/keywords.csv").open() as file:
        rows = file.readlines()
    wanted = [f",{label},{split}\n" for split in ("train", "dev", "test") for label in ("yes", "no")]
    chosen = [rows[0], *(next(row for row in rows if row.endswith(end)) for end in wanted)]
    corpus.write_text("".join(chosen))
    target = "results/demo/corpora/keywords"
    text = run(folder, "--retries", "3", "--", target)
    shown = end_of(text).splitlines()
    assert shown[:2] == ["Failed jobs: 1", "  manifests keywords (4 attempts)"]
    assert shown[2] == "    speech/keywords.csv: 7 problems in 6 rows; no manifest was written."
    assert shown[3].startswith("      no recording exists at its path")
    assert shown[-2] == "      and 4 more lines"
    assert shown[-1] == "    log: results/demo/logs/corpora/keywords.log"
    first, *others = attempts(text, "manifests")
    assert (first["mem_mb"], {job["mem_mb"] for job in others}) == ("2000", {"500"})
    assert len(others) == 3
    log = folder / "results/demo/logs/corpora/keywords.log"
    note = log.with_name("keywords.log.refused")
    assert note.read_text().splitlines()[1:] == log.read_text().splitlines(), "later attempts leave the same message"
    # The last three attempts are those of a shell that reads a note.
    for row in chosen[1:]:
        path = corpus.parent / row.split(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "mini/speech" / row.split(",")[0], path)
    assert "Finished jobid: 0 (Rule: manifests)" in run(folder, "--retries", "3", "--", target)
    assert not note.exists()


def test_a_refused_cell_asks_for_no_gpu_and_names_what_waits_for_it(finished):
    change(finished, lambda values: values.setdefault("resources", {}).update(evaluate={"gpu": 1, "mem_mb": 600, "runtime": 30}))
    text = run(finished, "--forcerun", CELL, "--retries", "2", CUDA_VISIBLE_DEVICES="0")
    first, *others = attempts(text, "evaluate")
    assert (first["gpu"], first["mem_mb"], first["runtime"]) == ("1", "600", "30")
    assert [(job["gpu"], job["mem_mb"], job["runtime"]) for job in others] == [("0", "500", "10")] * 2
    shown = end_of(text)
    assert "  evaluate hubert_demo/pr_sentences/speech_ft/ks (3 attempts)\n    " in shown
    assert f"    log: {CELL_LOG}\n    not started because of it: " in shown
    assert "1 table (demo)" in shown
    logs = sorted((finished / ".snakemake/log").glob("*.snakemake.log"))
    assert shown in logs[-1].read_text()
    (failure,) = json.loads(logs[-1].with_suffix(".failures.json").read_text())
    assert failure["not_started"]["table"] == ["demo"]
    done = subprocess.run([sys.executable, "-m", "speechft.cli", "jobs", "--json"], cwd=finished, capture_output=True, text=True)
    values = json.loads(done.stdout)
    assert (done.returncode, values["failures"]) == (1, [failure])
    (row,) = [row for row in values["rules"] if row["rule"] == "evaluate"]
    assert (row["planned"], row["done"], row["failed"]) == (1, 0, 1)
    assert values["not_started"] == {"figure": 1, "page": 1, "table": 1, "all": 1}


def test_what_may_pass_is_tried_again_in_earnest(finished):
    change(finished, lambda values: values.setdefault("resources", {}).update(evaluate={"gpu": 1, "mem_mb": 600}))
    text = run(finished, "--forcerun", CELL, "--retries", "1", "--", CELL, CUDA_VISIBLE_DEVICES="")
    assert [(job["gpu"], job["mem_mb"]) for job in attempts(text, "evaluate")] == [("1", "600"), ("1", "1200")]
    assert "--gpus 1: 0 visible here" in end_of(text)
    assert not (finished / f"{CELL_LOG}.refused").exists()


def test_an_experiment_that_is_not_valid_is_reported_as_before(folder):
    change(folder, lambda values: values.update(tabels={}))
    text = run(folder)
    assert "tabels" in text
    assert "Failed jobs" not in text


def test_the_command_of_a_refused_job_runs_once_a_run(tmp_path):
    for _ in range(3):
        done = subprocess.run(["bash", "-c", COUNT, "x", ROOT], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1, done.stderr
    assert (tmp_path / "count").read_text() == "once\n"
    assert (tmp_path / "a b.log").read_text() == "error: wrong\n"
    subprocess.run(["bash", "-c", COUNT.replace("=this", "=another"), "x", ROOT], cwd=tmp_path, check=False)
    assert (tmp_path / "count").read_text() == "once\nonce\n"
    assert (tmp_path / "a b.log").read_text() == "said\n"


def test_only_errors_that_repeat_themselves_are_noted_and_only_in_jobs(tmp_path, monkeypatch):
    log = tmp_path / "x.log"
    monkeypatch.setenv(RUN, "this")
    monkeypatch.delenv(NOTE, raising=False)
    note_refusal(CorpusError("bad"), "error: bad")
    monkeypatch.setenv(NOTE, f"{log}.refused")
    note_refusal(StoppedTrainingError("SIGTERM"), "error: SIGTERM")
    assert not list(tmp_path.iterdir())
    note_refusal(CorpusError("bad"), "error: bad")
    assert was_refused(log)
    monkeypatch.setenv(RUN, "the next")
    assert not was_refused(log)
