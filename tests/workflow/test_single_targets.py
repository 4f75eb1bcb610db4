"""One cell, one table, one model: what making one of them again does to the rest, and models that are given by their path."""

import json
import os

import pytest
import yaml
from conftest import ROOT
from workflow.test_dag import finished, folder, planned, snakemake  # noqa: F401

CELL = "results/demo/cells/hubert_demo/pr_sentences/speech_ft/ks.json"
TABLE = "results/demo/tables/demo.md"
MINE = 'encoders={"mine": {"kind": "checkpoint", "path": "my models/mine.pt", "family": "hubert"}}'


def rerun(folder, *arguments, check=True):  # noqa: F811
    return snakemake(folder, "--configfile", "experiment.yaml", *arguments, check=check)


def jobs_of(text):
    return sorted(line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith(("rule ", "localrule ")))


def test_tables_follow_a_cell_that_is_made_again(finished):  # noqa: F811
    text = rerun(finished, "--dry-run", "--forcerun", CELL, "--", "all")
    assert jobs_of(text) == ["all", "evaluate", "figure", "table"]
    assert CELL in text
    # Asked for by itself it is the only job, and what shows it is outdated by it.
    assert jobs_of(rerun(finished, "--dry-run", "--forcerun", CELL, "--", CELL)) == ["evaluate"]


def test_a_cell_that_changed_outdates_the_tables_alone(finished):  # noqa: F811
    (finished / CELL).write_text("{}")
    # Outputs of this folder are stamped one after the other, up to some time from now.
    latest = (finished / "results/demo/figures/demo.svg").stat().st_mtime + 1
    os.utime(finished / CELL, (latest, latest))
    assert planned(finished) == {"table": 1, "figure": 1, "all": 1, "total": 3}
    assert planned(finished, TABLE) == {"table": 1, "total": 1}


def test_a_cell_stays_when_making_it_again_fails(finished):  # noqa: F811
    (finished / CELL).write_text("the old cell")
    text = rerun(finished, "--forcerun", CELL, "--", CELL, check=False)
    assert "Error in rule evaluate" in text
    assert (finished / CELL).read_text() == "the old cell"
    assert not list((finished / CELL).parent.glob("*.tmp"))


def test_a_model_is_given_by_its_path(folder):  # noqa: F811
    (folder / "my models").mkdir()
    (folder / "my models/mine.pt").write_text("")
    target = "results/demo/cells/mine/none/pretrained/ks.json"
    text = rerun(folder, "--dry-run", "--printshellcmds", "--config", MINE, "--", target)
    assert "speechft import 'my models/mine.pt' --out results/demo/models/mine/none/pretrained --family hubert" in text
    assert "speechft evaluate results/demo/models/mine/none/pretrained ks results/demo/corpora/keywords" in text
    assert jobs_of(text) == ["evaluate", "import_checkpoint", "manifests", "recipe", "recipe"]
    # Fine-tuned and merged as any other.
    text = rerun(folder, "--dry-run", "--config", MINE, "--", "results/demo/models/mine/pr_sentences/speech_ft/model.safetensors")
    assert {"import_checkpoint", "finetune", "merge"} <= set(jobs_of(text))
    text = rerun(folder, "--dry-run", "--config", MINE.replace("path", "pth"), "--", target, check=False)
    assert "encoders.mine" in text
    assert "pth" in text


@pytest.mark.parametrize("table", ["unsupervised", "multitask"])
def test_a_table_of_the_paper_is_a_target(table, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/published.csv").write_text("")
    values = yaml.safe_load((ROOT / "config/paper.yaml").read_text())
    # The target alone is what is tested: fewer definitions make each plan quick.
    (tmp_path / "experiment.json").write_text(json.dumps({**values, "tables": {table: values["tables"][table]}, "curves": {}}))
    text = snakemake(tmp_path, "--configfile", "experiment.json", "--dry-run", "--", f"results/tables/{table}.md")
    assert jobs_of(text).count("table") == 1
