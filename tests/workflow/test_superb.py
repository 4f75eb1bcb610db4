"""`speechft superb`: one command from a folder of corpora and an encoder to a table beside published rows."""

import csv
import os
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from workflow.plans import WARM

from speechft.encoders import random_encoder
from speechft.errors import CheckpointError, ConfigError, CorpusError, OutputError
from speechft.experiment.schema import load_experiment
from speechft.rehearsal.stand_ins import build_stand_in
from speechft.starter import superb
from speechft.starter.superb import derive

SMALL = {"protocol": "quick", "steps": 4, "eval_every": 2, "batch_size": 4, "accumulate": 1, "learning_rates": [0.01]}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Three corpora, one of them under another name, beside a folder that is none; and a small encoder."""
    folder = tmp_path_factory.mktemp("superb")
    for kind, place in (("speech_commands", "data/SpeechCommands"), ("iemocap", "data/ser/corpus"), ("voxceleb1", "data/VoxCeleb1")):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        build_stand_in(kind, folder / place, ROOT / "mini/speech")
    (folder / "data/other").mkdir()
    random_encoder("hubert", folder / "models/small.v1", seed=0, encoder_layers=1)
    return folder


@pytest.fixture
def here(built, tmp_path, monkeypatch):
    """An empty working folder beside them."""
    (tmp_path / "data").symlink_to(built / "data")
    (tmp_path / "models").symlink_to(built / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def derived(here, *, models=("models/small.v1",), out="out", folder="data", **arguments):
    made = derive(list(models), here / folder, here / out, **arguments)
    return made, yaml.safe_load(made.path.read_text())


def edit(path, change):
    values = yaml.safe_load(path.read_text())
    change(values)
    path.write_text(yaml.safe_dump(values))


def test_the_experiment_has_what_was_found_and_says_what_was_not(here):
    made, values = derived(here, protocol="quick")
    assert list(values["tasks"]) == ["ks", "sid", "asv", "er"]
    assert values["corpora"]["iemocap"] == {"kind": "iemocap", "path": f"{here}/data/ser/corpus", "complete": False}
    assert values["corpora"]["voxceleb1_asv"]["trials"] == f"{here}/data/VoxCeleb1/veri_test.txt"
    assert values["tasks"]["er"]["recipe"] == {
        "protocol": "quick",
        "steps": 3000,
        "eval_every": 1000,
        "learning_rates": [0.01, 0.001, 0.0001],
    }
    assert values["encoders"] == {"small_v1": {"kind": "checkpoint", "path": "models/small.v1"}}
    text = "\n".join(made.remarks)
    assert "speech_commands: " in text
    assert "left out: pr, asr. LibriSpeech was not found. Get train-clean-100.tar.gz" in text
    assert made.targets == [f"small_v1/none/pretrained/{task}" for task in ("ks", "sid", "asv", "er")]


def test_jobs_ask_for_gpus_where_the_machine_that_runs_them_has_some(here, monkeypatch):
    """A machine that can submit to Slurm may have no GPU itself."""
    (here / "sbatch").write_text("#!/bin/sh\n")
    (here / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(here), prepend=":")
    monkeypatch.setattr(superb, "visible_gpus", lambda: [])
    for gpus, asked in ((None, 0), (True, 1)):
        _, values = derived(here, gpus=gpus)
        assert values["resources"]["evaluate"]["gpu"] == asked
    monkeypatch.setattr(superb, "visible_gpus", lambda: ["0"])
    assert derived(here)[1]["resources"]["evaluate"]["gpu"] == 1


def test_under_superbs_protocol_recipes_are_superbs_and_an_incomplete_corpus_is_left_out(here):
    made, values = derived(here)
    assert values["tasks"] == {"ks": {"corpus": "speech_commands"}}  # none of its sizes is certain
    assert load_experiment(made.path).evaluation_recipe("ks").protocol == "superb"
    assert any(remark.startswith(f"left out: er. {here}/data/ser/corpus: incomplete. ") for remark in made.remarks)


def test_what_nobody_edited_is_derived_anew_and_what_somebody_edited_is_kept(here):
    made, _ = derived(here, tasks=["ks"])
    _, values = derived(here, protocol="quick")
    assert list(values["tasks"]) == ["ks", "sid", "asv", "er"]
    edit(made.path, lambda values: values["tasks"]["er"]["recipe"].update(steps=300))
    before = made.path.read_text()
    for arguments in ({}, {"tasks": ["er", "asv", "sid", "ks"]}, {"protocol": "quick"}):
        again, _ = derived(here, **arguments)
        assert "was edited and is used unchanged" in again.remarks[0]
    for arguments, said in (
        ({"tasks": ["ks"]}, "has the tasks"),
        ({"protocol": "superb"}, "is not under protocol superb"),
        ({"folder": "models"}, "has no corpus in"),
        ({"models": ["data/../models/small.v1"]}, "not the requested small_v1"),
        ({"models": ["hubert_base"]}, "evaluates small_v1, not the requested hubert_base"),
    ):
        with pytest.raises(ConfigError, match=said):
            derived(here, **arguments)
    assert made.path.read_text() == before


def test_an_encoder_has_many_forms(here, monkeypatch):
    (here / "my.py").write_text("class Mine: ...\n")
    snapshot = here / "models--org--name" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setattr(superb, "fetch_repository", lambda source: snapshot)
    (here / "tuned.pt").write_bytes(b"")
    models = ["my.py:Mine", "org/name@main", "tuned.pt", "wavlm_base"]
    _, values = derived(here, models=models, options={"layers": 2})
    assert values["encoders"] == {
        "Mine": {"kind": "module", "module": "my.py:Mine", "options": {"layers": 2}, "label": "Evaluated here"},
        "name": {"kind": "checkpoint", "path": str(snapshot)},
        "tuned": {"kind": "checkpoint", "path": "tuned.pt"},
        "wavlm_base": {"kind": "public", "name": "wavlm_base"},
    }
    assert values["tables"]["superb"]["encoders"] == list(values["encoders"])


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"tasks": ["ks", "sdd"]}, ConfigError, "Unknown SUPERB task 'sdd'. Did you mean 'sd'?"),
        ({"tasks": ["pr", "ks"]}, CorpusError, "the corpus of pr is missing"),
        ({"folder": "models"}, CorpusError, "contains no complete SUPERB corpus"),
        ({"folder": "nowhere"}, CorpusError, "no such folder"),
        ({"models": ["models/smal.v1"]}, CheckpointError, "no such file, folder, or public encoder"),
        ({"models": ["hubert_bse"]}, CheckpointError, "Did you mean 'hubert_base'"),
        ({"models": ["data"]}, CheckpointError, "has no config.json"),
        ({"models": ["nothing.py:Mine"]}, ConfigError, "no such file"),
        ({"models": ["models/small.v1", "models/../models/small.v1"]}, ConfigError, "another model is also named 'small_v1'"),
        ({"options": {"layers": 2}}, ConfigError, "encoder options need the name of a class"),
        ({"out": "data/out"}, OutputError, "is inside the input"),
    ],
)
def test_mistakes_are_told_before_any_job(here, arguments, error, said):
    with pytest.raises(error, match=said):
        derived(here, **arguments)
    assert not (here / "out").exists()


def test_a_table_that_is_not_ours_is_told_before_any_job(here):
    (here / "out/tables").mkdir(parents=True)
    (here / "out/tables/superb.csv").write_text("mine")
    with pytest.raises(OutputError, match="is not a table of `speechft tables`"):
        derived(here)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_runs_an_edited_experiment_and_ends_with_the_table(here):
    def run(*arguments):
        command = [sys.executable, "-m", "speechft.cli", "superb", "models/small.v1", "--corpora", "data", "--out", "out", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **WARM})

    first = run("--tasks", "ks,er", "--protocol", "quick", "--dry-run", "--cores", "2")
    assert first.returncode == 0, first.stderr
    assert not (here / "out/results").exists()
    edit(here / "out/experiment.yaml", lambda values: [task.update(recipe=SMALL) for task in values["tasks"].values()])
    edit(here / "out/experiment.yaml", lambda values: values["corpora"]["iemocap"].update(complete=True))
    failed = run("--cores", "2")
    assert failed.returncode == 1, failed.stderr
    assert "was edited and is used unchanged" in failed.stdout
    rows = {(row["encoder"], row["metric"]): row for row in csv.DictReader((here / "out/tables/superb.csv").open())}
    assert rows["small_v1", "KS"]["status"] == "measured", failed.stdout + failed.stderr  # in spite of the other task
    assert rows["small_v1", "ER"]["status"] == "pending"
    assert rows["hubert_base", "KS"]["published"]
    edit(here / "out/experiment.yaml", lambda values: values["corpora"]["iemocap"].update(complete=False))
    done = run("--cores", "2")
    assert done.returncode == 0, done.stderr
    assert "| Evaluated here " in done.stdout
    assert "pending" not in done.stdout
    assert "SUPERB, beside published results" in (here / "out/report.html").read_text(encoding="utf-8")
    assert {path.suffix for path in (here / "out/tables").iterdir()} == {".csv", ".md", ".tex", ".html"}
