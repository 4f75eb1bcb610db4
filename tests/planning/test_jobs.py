"""The jobs of a plan are those that Snakemake would run where nothing has been made."""

import os
import re
import subprocess
import sys
from collections import Counter

import pytest
import yaml
from conftest import ROOT

from speechft.errors import ConfigError
from speechft.experiment.schema import load_experiment
from speechft.experiment.workflow import Workflow
from speechft.planning.jobs import jobs_behind

EVERYTHING = {
    "name": "x",
    "corpora": {
        "a": {"kind": "csv", "path": "a.csv"},
        "b": {"kind": "csv", "path": "b.csv", "unlabelled": True},
        "both": {"kind": "union", "of": ["a", "b"]},
    },
    "encoders": {
        "first": {"kind": "pretrain", "corpora": ["both"]},
        "second": {"kind": "pretrain", "corpora": ["b"], "recipe": {"targets": {"encoder": "first", "layer": 1}}},
        "hubert_base": {"kind": "public", "name": "hubert_base"},
        "fbank": {"kind": "fbank"},
    },
    "finetunings": {
        "one": {"corpus": "a", "recipe": {"like": "ks"}},
        "two": {"corpus": "a",
                "recipe": {"like": "sid", "jointly": {"pr": {"task": "pr"}}}, "jointly": {"pr": "b"}, "start": "one/speech_ft"},
        "three": {"corpus": "b", "pretraining": {"targets": {"encoder": "first", "layer": 1}}},
    },
    "combinations": {"one+one": {"of": ["one", "plain"]}},
    "methods": {
        "stable_ft": {"kind": "finetune", "label": "S"},
        "speech_ft": {"kind": "merge", "label": "F"},
        "early20": {"kind": "early", "label": "E"},
        "of_early": {"kind": "merge", "label": "M", "of": "early20"},
        "ties": {"kind": "merge", "label": "T", "recipe": {"method": "ties", "parameters": {"density": 0.2}}},
    },
    "tasks": {"ks": {"corpus": "a"}, "sid": {"corpus": "both"}},
    "tables": {
        "t": {"title": "t", "encoders": ["fbank", "second", "hubert_base"], "finetunings": ["one", "two"], "tasks": ["ks", "sid"],
              "methods": ["pretrained", "early20", "speech_ft", "speech_ft@0.50", "of_early"], "differences": ["pretrained", "early20"]},
        "u": {"title": "u", "encoders": ["hubert_base"], "finetunings": ["three"], "tasks": ["ks"], "methods": ["stable_ft", "speech_ft"]},
        "v": {"title": "v", "encoders": ["hubert_base"], "finetunings": ["one+one"], "tasks": ["ks"], "methods": ["ties"]},
    },
    "curves": {"c": {"encoder": "hubert_base", "finetuning": "one", "tasks": ["ks"], "alphas": [0, 0.25, 0.5, 1]}},
}  # fmt: skip
EVERYTHING["finetunings"]["plain"] = {"corpus": "b", "recipe": {"like": "ks"}}
DEMO = ROOT / "config/demo.yaml"


def rules(jobs):
    return Counter(job.rule for job in jobs)


def dry_run(folder, experiment):
    """Rule -> jobs of `snakemake -n` in a folder that holds empty sources."""
    flow = Workflow(load_experiment(experiment))
    needed = [path for name in flow.listed_corpora for path in flow.corpus_tables(name)] + ["config/published.csv"]
    needed += [*map(flow.checkpoint, flow.imported), *flow.lexicons()]
    needed += [path for name in flow.imported for path in flow.import_settings(name)]
    for path in (folder / path for path in needed if path not in flow.public_files):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder, "--cores", "2", "--dry-run"]
    done = subprocess.run([*map(str, command), "--configfile", str(experiment)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    statistics = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\n\n", done.stdout + done.stderr, re.DOTALL)
    return Counter({name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", statistics[1], re.M) if name != "total"})


@pytest.mark.parametrize("values", [EVERYTHING, yaml.safe_load((ROOT / "config/paper.yaml").read_text())], ids=["everything", "paper"])
def test_neither_sources_nor_an_empty_folder_are_needed(values, tmp_path, monkeypatch):
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(values))
    # What has been made already is planned all the same.
    (tmp_path / "results/models/hubert_base/none/pretrained").mkdir(parents=True)
    (tmp_path / "results/models/hubert_base/none/pretrained/model.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    found = rules(jobs_behind(file))
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    assert found == dry_run(tmp_path / "empty", file)
    if values is EVERYTHING:
        kinds = {"pretrain", "fetch", "import_checkpoint", "fbank", "finetune", "continue_pretraining", "early", "merge", "unite", "curve"}
        assert kinds <= set(found)


def test_names_stand_for_files():
    cell = "wav2vec2_mini/pr_sentences/speech_ft/ic"
    assert jobs_behind(DEMO, [cell]) == jobs_behind(DEMO, [f"results/demo/cells/{cell}.json"])
    assert jobs_behind(DEMO, [cell])[-1].name == f"evaluate {cell}"
    assert jobs_behind(DEMO, ["demo"]) == jobs_behind(DEMO, ["results/demo/tables/demo.md"])
    assert rules(jobs_behind(DEMO, [cell, cell.replace("/ic", "/sid")]))["finetune"] == 1
    assert jobs_behind(DEMO, ["all"]) == jobs_behind(DEMO)
    assert jobs_behind(DEMO, ["wav2vec2_mini/pr_sentences/speech_ft"])[-1].rule == "merge"


def test_jobs_come_after_those_that_they_need(monkeypatch):
    monkeypatch.delenv("SPEECHFT_RUN", raising=False)
    before = dict(os.environ)
    jobs = jobs_behind(DEMO)
    assert dict(os.environ) == before, "a run of the workflow that follows would take itself for this one"
    places = {job: place for place, job in enumerate(jobs)}
    assert all(places[other] < places[job] for job in jobs for other in job.needs)
    behind = {job.rule for job in jobs_behind(DEMO, ["wav2vec2_mini/pr_sentences/speech_ft/ic"])[-1].behind()}
    assert behind == {"evaluate", "merge", "finetune", "import_checkpoint", "manifests", "recipe"}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("dmeo", "'dmeo' is not a table, curve, cell or file of the experiment 'demo'; did you mean 'demo'?"),
        ("results/demo/tables/alhpa.md", "did you mean 'alpha'?"),
        ("wav2vec2_mimi/none/pretrained/ic", "did you mean 'wav2vec2_mini/none/pretrained/ic'?"),
        ("wav2vec2_mini/pr_sentence/speech_ft/ic", "did you mean 'wav2vec2_mini/pr_sentences/speech_ft/ic'?"),
        ("wav2vec2_mini/pr_sentences/speech_tf", "did you mean 'wav2vec2_mini/pr_sentences/speech_ft'?"),
        ("wav2vec2_mini/pr_sentences/speech_ft@2.0/ic", "is not a table, curve, cell or file"),
        ("wav2vec2_mini/pr_sentences/speech_ft/icc", "did you mean 'wav2vec2_mini/pr_sentences/speech_ft/ic'?"),
        ("wav2vec2_mini/none/speech_ft/ic", "(results/demo/models/wav2vec2_mini/none/speech_ft/model.safetensors is not made by any rule)"),
    ],
)
def test_a_wrong_name_is_answered_with_the_closest_match(target, message):
    with pytest.raises(ConfigError) as error:
        jobs_behind(DEMO, [target])
    assert message in str(error.value)
