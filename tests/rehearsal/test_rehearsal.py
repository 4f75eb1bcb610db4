"""The paper's experiment, run: each reader, task, kind of method, merge, curve and analysis of config/paper.yaml at least once."""

import csv
import json
import os
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from workflow.plans import WARM

from speechft.experiment.methods import EarlyMethod, MergedMethod, TrainedMethod
from speechft.experiment.schema import load_experiment
from speechft.experiment.workflow import Workflow
from speechft.recipes.corpora import KINDS, UnionCorpus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

# Of each table the rows and tasks that together cover the experiment; whole, it is what `make rehearsal` runs.
TABLES = {
    "supervised": {"methods": ["speech_ft"], "tasks": ["ks"], "finetunings": ["pc_timit", "ks_speech_commands"]},
    "encoders": {"methods": ["speech_ft"], "tasks": ["sf"]},
    "full_superb": {"methods": ["speech_ft"]},
    "unsupervised": {"methods": ["speech_ft"], "tasks": ["asr_zh"]},
    "multitask": {"tasks": ["sid"]},
    "baselines": {"methods": ["lora", "early20"], "tasks": ["ic"]},
    "ablations": {"methods": ["extractor_learns_merge"], "tasks": ["er"]},
}
ALPHAS, CURVE_TASKS = [0.25, 1], ["er"]
ANALYSED = ["sid_voxceleb1/lora", "sid_voxceleb1/speech_ft"]
# Models that are made, and of which no table here shows a cell.
MODELS = [
    *(f"hubert_base/{tuning}/speech_ft" for tuning in ("pr_librispeech", "er_iemocap", "sf_audio_snips", "er_crema_d")),
    *(f"hubert_base/sid_voxceleb1/{method}" for method in ("l2", "dora", "plain_merge", "no_head_phase_merge", "no_warmup_merge")),
]


def run(folder, *command):
    environment = {**os.environ, **WARM}
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-8000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder after the run."""
    folder = tmp_path_factory.mktemp("rehearsal")
    (folder / "config").symlink_to(ROOT / "config")
    run(folder, "speechft.cli", "rehearse", "config/paper.yaml", "--corpora", "stand-ins", "--encoders", "tiny", "--no-gpus", "--out", "r")
    path = folder / "r/experiment.yaml"
    values = yaml.safe_load(path.read_text())
    for name, part in TABLES.items():
        values["tables"][name] |= part
    for curve in values["curves"].values():
        curve |= {"alphas": ALPHAS, "tasks": CURVE_TASKS}
    for analysis in values["analyses"].values():
        analysis["rows"] = [row for row in analysis["rows"] if row["model"] in ANALYSED]
    path.write_text(yaml.safe_dump(values))
    models = [f"r/results/models/{name}/model.safetensors" for name in MODELS]
    run(
        folder,
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--cores",
        "2",
        "--configfile",
        "r/experiment.yaml",
        "--",
        "all",
        *models,
    )
    return folder


@pytest.fixture(scope="module")
def experiment(folder):
    return load_experiment(folder / "r/experiment.yaml")


def test_no_job_failed_and_all_were_done(folder):
    report = json.loads(run(folder, "speechft.cli", "jobs", "--json"))
    assert report["failures"] == []
    assert all(rule["done"] == rule["planned"] > 0 for rule in report["rules"])


def test_every_reader_and_every_task_took_part(folder, experiment):
    corpora = [corpus for corpus in experiment.corpora.values() if not isinstance(corpus, UnionCorpus)]
    assert {corpus.kind for corpus in corpora} == set(KINDS)
    for name in experiment.corpora:
        assert (folder / f"r/results/corpora/{name}/corpus.json").is_file(), name
    assert {path.stem for path in folder.glob("r/results/cells/*/*/*/*.json")} == set(experiment.tasks)


def test_every_fine_tuning_method_and_merge_was_made(folder, experiment):
    made = {path.parts[-4:-1] for path in folder.glob("r/results/models/*/*/*/model.safetensors")}
    encoders, finetunings, methods = map(set, zip(*made, strict=True))
    assert encoders == set(experiment.encoders)
    assert finetunings == {"none", *experiment.finetunings, *experiment.combinations}
    assert {
        name for name, method in experiment.methods.items() if isinstance(method, TrainedMethod | EarlyMethod | MergedMethod)
    } <= methods
    assert {("hubert_base", *row.model.split("/")) for row in experiment.tables["multitask"].rows} <= made


def test_every_table_curve_and_analysis_is_there_and_says_what_it_is(folder, experiment):
    for target in Workflow(experiment).targets():
        path = folder / target
        assert path.stat().st_size > 0
        if path.suffix == ".md" and path.parent.name == "tables":
            text = path.read_text()
            assert "pending" not in text
            assert path.stem == "features" or "at sizes at which no number means anything" in text
    rows = list(csv.DictReader((folder / "r/results/tables/full_superb.csv").open()))
    shown = {(row["encoder"], row["finetuning"], row["method"]) for row in rows}
    assert len(shown) == len(experiment.table_models("full_superb"))


def test_a_second_run_has_nothing_to_do(folder):
    text = run(folder, "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1", "--configfile", "r/experiment.yaml", "-n")
    assert "Nothing to be done" in text
