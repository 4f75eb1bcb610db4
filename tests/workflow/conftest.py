import os
import shutil

import pytest
from experiment.edits import demo_values, full_values
from workflow.plans import make_folder, planned, snakemake

from speechft.experiment.schema import load_experiment
from speechft.experiment.workflow import MODEL_FILES, Workflow


@pytest.fixture
def folder(tmp_path):
    """A working folder in which nothing was made yet."""
    return make_folder(tmp_path, demo_values())


@pytest.fixture(scope="session")
def full_folder(tmp_path_factory):
    """A working folder for one of everything, to look at plans in."""
    return make_folder(tmp_path_factory.mktemp("full"), full_values())


@pytest.fixture(scope="session")
def after_a_run(tmp_path_factory):
    """A folder as after a run: real recipe files, empty files in place of all other outputs, each newer than its inputs."""
    folder = make_folder(tmp_path_factory.mktemp("finished"), demo_values())
    experiment = load_experiment(folder / "experiment.yaml")
    flow = Workflow(experiment)
    recipes = [*(f"corpora/{name}" for name in experiment.corpora), "pretrain/hubert_demo", "finetune/pr_sentences/stable_ft"]
    recipes += ["merge/speech_ft", *(f"evaluate/{task}" for task in experiment.tasks), "tables/demo", "report"]
    snakemake(folder, "--", *(f"{flow.results}/recipes/{name}.json" for name in recipes))
    names = ("none/pretrained", "pr_sentences/stable_ft", "pr_sentences/speech_ft")
    models = [flow.model("hubert_demo", *name.split("/")) for name in names]
    outputs = [f"{flow.corpus(name)}/.snakemake_timestamp" for name in experiment.corpora]
    outputs += [f"{model}/{name}" for model in models for name in (*MODEL_FILES, "training.csv")]
    outputs += flow.cells("demo")
    outputs += [f"{flow.results}/tables/demo.{end}" for end in ("csv", "md", "tex", "html")]
    outputs += [f"{flow.results}/figures/demo.{end}" for end in ("png", "svg")]
    outputs += [f"{flow.results}/report.html"]
    start = (folder / flow.results / "recipes").stat().st_mtime + 10
    for order, output in enumerate(outputs):
        path = folder / output
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        os.utime(path, (start + order, start + order))
    for name in experiment.corpora:
        os.utime(folder / flow.corpus(name), (start, start))
    assert not planned(folder)
    return folder


@pytest.fixture
def finished(after_a_run, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(after_a_run, tmp_path / "finished")
