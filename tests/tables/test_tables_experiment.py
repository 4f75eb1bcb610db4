"""All tables of an experiment from the cells that are there, on a machine that has nothing else."""

import os
import shutil
import subprocess
import sys
from zipfile import ZipFile

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from typer.testing import CliRunner

from speechft.cli import app
from speechft.errors import TableError
from speechft.experiment.schema import load_experiment
from speechft.tables.experiment import build_experiment

PAPER, PUBLISHED = ROOT / "config/paper.yaml", ROOT / "config/published.csv"
ABSENT = (
    *("torch", "torchaudio", "transformers", "fairseq", "s3prl", "lhotse", "safetensors"),
    *("peft", "sklearn", "sentencepiece", "soundfile"),
)


def test_cells_that_are_there_are_shown(cells_of, tmp_path):
    cells_of("hubert_base/sid_voxceleb1/l2", PR=12, protocol="superb")
    cells_of("hubert_base/sid_voxceleb1/speech_ft", PR=7, protocol="superb")
    only = ["baselines", "alpha_sid"]
    assert build_experiment(PAPER, tmp_path / "cells", PUBLISHED, tmp_path / "out", tmp_path / "figures", only=only) == only
    text = (tmp_path / "out/baselines.md").read_text()
    assert "| 7.00 (6.91‡, +0.09) |" in text
    assert "sid_voxceleb1/l2/{sid,er,sf}.json" in text
    assert "7.00" in (tmp_path / "out/alpha_sid.md").read_text()
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {f"{name}.{end}" for name in only for end in ("png", "svg")}


def test_names_and_folders_that_do_not_exist(tmp_path):
    with pytest.raises(TableError, match="no table, curve or analysis 'supervized'. Available: supervised, encoders"):
        build_experiment(PAPER, None, PUBLISHED, tmp_path / "out", only=["supervized"])
    with pytest.raises(TableError, match="nowhere: is not a folder"):
        build_experiment(PAPER, tmp_path / "nowhere", PUBLISHED, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_of_experiments_and_of_recipes(tmp_path):
    (tmp_path / "recipe.json").write_text("{}")
    for arguments in (["recipe.json", "--only", "x"], ["experiment.yaml", "cells", "more"]):
        shown = CliRunner().invoke(app, ["tables", *arguments, "--out", str(tmp_path)])
        assert shown.exit_code == 2, shown.output


@pytest.fixture
def bare_machine(cells_of, tmp_path):
    """A folder with nothing but cells, and the environment of a machine that has what envs/tables.txt names, and no torch."""
    values = yaml.safe_load((ROOT / "tests/experiment.yaml").read_text())
    curve = {"encoder": "hubert_demo", "finetuning": "pr_sentences", "alphas": "0:1:0.5", "tasks": ["pr", "sid"]}
    values["tables"]["demo"]["differences"] = ["pretrained", "stable_ft"]
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump({**values, "curves": {"alpha": curve}}))
    experiment = load_experiment(tmp_path / "experiment.yaml")
    cells = {*experiment.table_cells("demo"), *experiment.curve_cells("alpha")}
    for number, cell in enumerate(sorted(cells)):
        model, _, task = cell.rpartition("/")
        cells_of(model, **{task.upper(): [50 + number, 52.5 + number]})
    (tmp_path / "results/demo").mkdir(parents=True)
    (tmp_path / "cells").rename(tmp_path / "results/demo/cells")
    trap = tmp_path / "trap"
    for name in ABSENT:
        (trap / name).mkdir(parents=True)
        (trap / name / "__init__.py").write_text(f"raise ImportError('this machine has no {name}')\n")
    environment = {**os.environ, "PYTHONPATH": f"{trap}:{ROOT}", "CUDA_VISIBLE_DEVICES": ""}
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    blocked = subprocess.run([sys.executable, "-c", "import torch"], **options)
    assert "this machine has no torch" in blocked.stderr, "the trap itself must work"

    def run(*command):
        done = subprocess.run([sys.executable, "-m", *map(str, command)], **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return tmp_path, run


def test_copied_cells_are_enough_for_all_tables_and_figures(bare_machine):
    folder, run = bare_machine
    command = "speechft.cli tables experiment.yaml results/demo/cells --out tables --figures figures --published"
    shown = run(*command.split(), PUBLISHED)
    assert shown.split() == ["tables/demo.md", "tables/alpha.md"]
    # The very tables that a machine with torch makes.
    build_experiment(folder / "experiment.yaml", folder / "results/demo/cells", PUBLISHED, folder / "expected")
    expected, tables, figures = (
        {path.relative_to(folder / name).as_posix(): path.read_bytes() for path in (folder / name).rglob("*.*")}
        for name in ("expected", "tables", "figures")
    )
    assert tables == expected
    table = {f"demo.{end}" for end in ("csv", "html", "md", "tex")}
    assert set(tables) == {"alpha.csv", "alpha.md", *table, *(f"differences/{name}" for name in table)}
    assert b"pending" not in tables["demo.md"]
    assert set(figures) == {f"{name}.{end}" for name in ("alpha", "demo", "differences/demo") for end in ("png", "svg")}


def test_the_workflow_makes_tables_from_copied_cells_too(bare_machine):
    folder, run = bare_machine
    (folder / "config").mkdir()
    shutil.copy(PUBLISHED, folder / "config")
    command = ["snakemake", "--snakefile", ROOT / "Snakefile", "--cores", "1", "--configfile", "experiment.yaml"]
    jobs = {line.split()[1].rstrip(":") for line in run(*command).splitlines() if line.startswith(("rule ", "localrule "))}
    assert jobs == {"recipe", "table", "differences", "figure", "curve", "page", "all"}
    build_experiment(folder / "experiment.yaml", folder / "results/demo/cells", PUBLISHED, folder / "expected")
    for name in ("demo.md", "differences/demo.md"):
        assert (folder / "results/demo/tables" / name).read_text() == (folder / "expected" / name).read_text()
    assert (folder / "results/demo/figures/differences/demo.png").is_file()
    assert not (folder / "results/demo/models").exists()
    run(*command, "--report", "report.zip")
    with ZipFile(folder / "report.zip") as report:
        files = sorted(name.rpartition("/")[2] for name in report.namelist())
        assert files == ["alpha.png", "demo.html", "demo.html", "demo.png", "demo.png", "report.html", "report.html"]
        page = report.read("report/report.html").decode()
    for caption in ("a bar its 95 % interval", "the 95 % interval of each difference", "from the pre-trained encoder (0)"):
        assert caption in page


def test_the_papers_tables_can_be_shown_before_anything_has_run_and_are_those_committed(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "cells").mkdir()
    written = build_experiment("config/paper.yaml", tmp_path / "cells", PUBLISHED, tmp_path / "out")
    assert written[:3] + written[-3:] == ["supervised", "encoders", "full_superb", "alpha_asr", "alpha_sid", "features"]
    text = (tmp_path / "out/supervised.md").read_text()
    assert "| Speech-FT   | hubert_base | asr_tedlium3 " in text
    assert "| pending (905.79) " in text
    command = "snakemake --cores all --configfile config/paper.yaml -- results/cells/hubert_base/"
    assert f"\n{command}sid_voxceleb1/stable_ft/{{pr,sid,er,sf}}.json\n" in text
    assert text.count(command) == 1 + 8 * 2
    assert "Protocol of the pending cells: superb" in text
    committed = ROOT / "docs/results/paper"
    made = {path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".html"}
    assert made == {path.name for path in committed.iterdir()}
    filled_in = ["published", "published_source", "difference"]  # more published numbers do not outdate the tables
    for path in (tmp_path / "out").glob("*.csv"):
        frames = [pd.read_csv(file).drop(columns=filled_in, errors="ignore") for file in (path, committed / path.name)]
        pd.testing.assert_frame_equal(*frames)


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
