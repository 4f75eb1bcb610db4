"""All tables of an experiment from the cells that are there, on a machine that has nothing else."""

import json
import os
import shutil
import subprocess
import sys
from zipfile import ZipFile

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from tables.conftest import cell_json
from typer.testing import CliRunner

from speechft.cli import app
from speechft.errors import TableError
from speechft.experiment.schema import load_experiment
from speechft.tables.experiment import build_experiment

PUBLISHED = ROOT / "config/published.csv"
ABSENT = (
    "torch",
    "torchaudio",
    "transformers",
    "fairseq",
    "s3prl",
    "lhotse",
    "safetensors",
    "peft",
    "sklearn",
    "sentencepiece",
    "soundfile",
)
TRAP = "raise ImportError('this machine has no {}')\n"


def test_the_papers_tables_can_be_shown_before_anything_has_run(tmp_path):
    written = build_experiment(ROOT / "config/paper.yaml", None, PUBLISHED, tmp_path / "tables")
    assert written == [
        *("supervised", "encoders", "full_superb", "unsupervised", "multitask", "baselines", "ablations"),
        *("alpha_asr", "alpha_sid", "features"),
    ]
    text = (tmp_path / "tables/supervised.md").read_text()
    assert "| Speech-FT   | hubert_base | asr_tedlium3 " in text
    assert "| pending (905.79) " in text
    command = f"snakemake --cores all --configfile {ROOT / 'config/paper.yaml'} -- results/cells/hubert_base/"
    if ROOT.resolve() == ROOT.cwd():
        command = command.replace(f"{ROOT}/", "")
    assert f"\n{command}sid_voxceleb1/stable_ft/{{pr,sid,er,sf}}.json\n" in text
    assert text.count(command) == 1 + 8 * 2
    assert "Protocol of the pending cells: superb" in text


def test_cells_that_are_there_are_shown(write_cell, tmp_path):
    write_cell("hubert_base", "sid_voxceleb1", "l2", "pr", {"PR": [12.0]}, protocol="superb")
    write_cell("hubert_base", "sid_voxceleb1", "speech_ft", "pr", {"PR": [7.0]}, protocol="superb")
    written = build_experiment(
        ROOT / "config/paper.yaml", tmp_path / "cells", PUBLISHED, tmp_path / "out", tmp_path / "figures", only=["baselines", "alpha_sid"]
    )
    assert written == ["baselines", "alpha_sid"]
    text = (tmp_path / "out/baselines.md").read_text()
    assert "| **7.00** (6.91‡, +0.09) |" in text
    assert "sid_voxceleb1/l2/{sid,er,sf}.json" in text
    assert "7.00" in (tmp_path / "out/alpha_sid.md").read_text()
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        f"{name}.{end}" for name in ("alpha_sid", "baselines") for end in ("png", "svg")
    ]


def test_names_and_folders_that_do_not_exist(tmp_path):
    with pytest.raises(TableError, match="no table, curve or analysis 'supervized'. It has supervised, encoders"):
        build_experiment(ROOT / "config/paper.yaml", None, PUBLISHED, tmp_path / "out", only=["supervized"])
    with pytest.raises(TableError, match="nowhere: is no folder"):
        build_experiment(ROOT / "config/paper.yaml", tmp_path / "nowhere", PUBLISHED, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_of_experiments_and_of_recipes(tmp_path):
    (tmp_path / "recipe.json").write_text("{}")
    for arguments in (["recipe.json", "--only", "x"], ["experiment.yaml", "cells", "more"]):
        shown = CliRunner().invoke(app, ["tables", *arguments, "--out", str(tmp_path)])
        assert shown.exit_code == 2, shown.output


@pytest.fixture
def bare_machine(tmp_path):
    """A folder with nothing but cells, and the environment of a machine that has what envs/tables.txt names, and no torch."""
    values = yaml.safe_load((ROOT / "tests/experiment.yaml").read_text())
    curve = {"encoder": "hubert_demo", "finetuning": "pr_sentences", "alphas": "0:1:0.5", "tasks": ["pr", "sid"]}
    values["tables"]["demo"]["differences"] = ["pretrained", "stable_ft"]
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump({**values, "curves": {"alpha": curve}}))
    experiment = load_experiment(tmp_path / "experiment.yaml")
    cells = {*experiment.table_cells("demo"), *experiment.curve_cells("alpha")}
    for number, cell in enumerate(sorted(cells)):
        *model, task = cell.split("/")
        path = tmp_path / f"results/demo/cells/{cell}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(cell_json(*model, task, {task.upper(): [50.0 + number, 52.5 + number]})))
    trap = tmp_path / "trap"
    for name in ABSENT:
        (trap / name).mkdir(parents=True)
        (trap / name / "__init__.py").write_text(TRAP.format(name))
    environment = {**os.environ, "PYTHONPATH": f"{trap}:{ROOT}", "CUDA_VISIBLE_DEVICES": ""}
    blocked = subprocess.run([sys.executable, "-c", "import torch"], env=environment, capture_output=True, text=True)
    assert "this machine has no torch" in blocked.stderr, "the trap itself must work"
    return tmp_path, environment


def test_copied_cells_are_enough_for_all_tables_and_figures(bare_machine):
    folder, environment = bare_machine
    command = [sys.executable, "-m", "speechft.cli", "tables", "experiment.yaml", "results/demo/cells", "--out", "tables"]
    command += ["--figures", "figures", "--published", PUBLISHED]
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["tables/demo.md", "tables/alpha.md"]
    # The very tables that a machine with torch makes.
    build_experiment(folder / "experiment.yaml", folder / "results/demo/cells", PUBLISHED, folder / "expected")
    names = sorted(str(path.relative_to(folder / "expected")) for path in (folder / "expected").rglob("*.*"))
    table = ["demo.csv", "demo.html", "demo.md", "demo.tex"]
    assert names == ["alpha.csv", "alpha.md", *table, *(f"differences/{name}" for name in table)]
    for name in names:
        assert (folder / "tables" / name).read_bytes() == (folder / "expected" / name).read_bytes()
    assert "pending" not in (folder / "tables/demo.md").read_text()
    figures = ["alpha.png", "alpha.svg", "demo.png", "demo.svg", "differences/demo.png", "differences/demo.svg"]
    assert sorted(str(path.relative_to(folder / "figures")) for path in (folder / "figures").rglob("*.*")) == figures


def test_the_workflow_makes_tables_from_copied_cells_too(bare_machine):
    folder, environment = bare_machine
    (folder / "config").mkdir()
    shutil.copy(PUBLISHED, folder / "config")
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder, "--cores", "1"]
    command += ["--configfile", "experiment.yaml"]
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = {line.split()[1].rstrip(":") for line in (done.stdout + done.stderr).splitlines() if line.startswith(("rule ", "localrule "))}
    assert jobs == {"recipe", "table", "differences", "figure", "curve", "all"}
    build_experiment(folder / "experiment.yaml", folder / "results/demo/cells", PUBLISHED, folder / "expected")
    for name in ("demo.md", "differences/demo.md"):
        assert (folder / "results/demo/tables" / name).read_text() == (folder / "expected" / name).read_text()
    assert (folder / "results/demo/figures/differences/demo.png").is_file()
    assert not (folder / "results/demo/models").exists()
    done = subprocess.run([*map(str, command), "--report", "report.zip"], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with ZipFile(folder / "report.zip") as report:
        files = sorted(name.rpartition("/")[2] for name in report.namelist())
        assert files == ["alpha.png", "demo.html", "demo.html", "demo.png", "demo.png", "report.html"]
        page = report.read("report/report.html").decode()
    for caption in ("a bar its 95 % interval", "the 95 % interval of each difference", "from the pre-trained encoder (0)"):
        assert caption in page


def test_the_committed_tables_of_the_paper_are_those_of_the_experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    build_experiment("config/paper.yaml", None, PUBLISHED, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in (ROOT / "docs/results/paper").iterdir()}
    for path in tmp_path.glob("*.csv"):
        # Whoever fills in more published numbers need not make these again.
        expected, committed = (
            pd.read_csv(file).drop(columns=["published", "published_source", "difference"], errors="ignore")
            for file in (path, ROOT / "docs/results/paper" / path.name)
        )
        pd.testing.assert_frame_equal(expected, committed)


@pytest.mark.parametrize("name", ["mini", "demo", "recorded"])
def test_the_committed_tables_are_those_of_the_committed_cells(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    committed = ROOT / "docs/results" / name
    build_experiment(f"config/{name}.yaml", committed / "cells", PUBLISHED, tmp_path)
    pages = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.md")]
    assert pages
    for page in pages:
        assert (committed / page).read_text() == (tmp_path / page).read_text(), page
        assert "pending" not in (tmp_path / page).read_text()
