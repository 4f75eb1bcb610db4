"""The repository, its environment and the files of an experiment in folders with names that shells and patterns read as something else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from conftest import ROOT

NAME = "my [x] & y's $HOME;é"


def test_the_workflow_runs_from_any_folder(tmp_path):
    product = tmp_path / NAME / "product"
    product.mkdir(parents=True)
    shutil.copy(ROOT / "Snakefile", product)
    for name in ("rules", "config", "envs", "slurm"):
        shutil.copytree(ROOT / name, product / name)
    # An environment of its own would take minutes; its folder is what matters.
    environment = tmp_path / "{z}" / NAME / "venv/bin"
    environment.mkdir(parents=True)
    for program in Path(sys.executable).parent.iterdir():
        (environment / program.name).symlink_to(program)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", environment.parent)
    (environment.parent / "lib").symlink_to(Path(sys.prefix) / "lib")

    data = product / "data [1] & é's"
    data.mkdir()
    soundfile.write(data / "a b.wav", np.full(1600, 0.1), 16_000)
    (data / "c d.csv").write_text("path,split\na b.wav,train\n")
    values = {
        "title": "t",
        "corpora": {"c": {"kind": "csv", "path": str((data / "c d.csv").relative_to(product)), "unlabelled": True}},
        "encoders": {"f": {"kind": "fbank"}},
        "tasks": {"ks": {"corpus": "c", "recipe": {"protocol": "quick"}}},
        "tables": {"t": {"title": "T", "encoders": ["f"], "rows": [{"model": "none/pretrained"}], "tasks": ["ks"]}},
    }
    experiment = product / "my experiment & [1].yaml"
    experiment.write_text(yaml.safe_dump({"name": "tiny", "results": "results/tiny", **values}))
    command = [str(environment / "python"), "-m", "snakemake", "--cores", "1", "--configfile", experiment.name]
    done = subprocess.run(
        [*command, "--", "results/tiny/corpora/c"], cwd=product, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    logs = "".join(log.read_text() for log in product.glob("results/tiny/logs/**/*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    assert (product / "results/tiny/corpora/c/train.jsonl.gz").is_file()


@pytest.mark.parametrize("name", ['a"b', "a$b", "a`b", "a{b", "a\\b"])
def test_make_refuses_folders_that_python_tools_cannot_use(tmp_path, name):
    folder = tmp_path / name
    (folder / "envs").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    for file in ("envs/requirements.lock", "pyproject.toml"):
        (folder / file).touch()
    done = subprocess.run(["make", "PYTHON=false", "environment"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{folder}: Python tools cannot install" in done.stdout
    assert not (folder / ".venv").exists()
