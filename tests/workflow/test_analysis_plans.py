"""Analyses in an experiment: what is planned for them, and mistakes in them."""

import json

import pytest
import yaml
from conftest import ROOT
from workflow.test_dag import change, folder, planned, snakemake  # noqa: F401

from speechft.errors import ConfigError
from speechft.experiment.schema import parse_experiment
from speechft.experiment.workflow import Workflow

ANALYSIS = {
    "encoder": "hubert_demo",
    "corpus": "keywords",
    "recipe": {"utterances": 20},
    "rows": [{"model": "pr_sentences/stable_ft"}, {"model": "pr_sentences/speech_ft@0.50", "label": "Half way"}],
}


def add(values):
    values["analyses"] = {"features": json.loads(json.dumps(ANALYSIS))}
    return values


@pytest.fixture
def values():
    return add(yaml.safe_load((ROOT / "tests/experiment.yaml").read_text()))


def test_an_analysis_is_a_target_of_its_own_and_a_part_of_all(folder):  # noqa: F811
    before = planned(folder)
    change(folder, add)
    jobs = planned(folder, "results/demo/figures/features.png")
    assert (jobs["analyse"], jobs["similarity"], jobs["pretrain"], jobs["finetune"], jobs["merge"]) == (2, 1, 1, 1, 1)
    assert "evaluate" not in jobs
    jobs = planned(folder)
    # Two recipes more, that of the jobs and that of the table, and that of the merge at alpha 0.5.
    assert jobs["total"] == before["total"] + 2 + 1 + 1 + 3
    text = snakemake(folder, "--configfile", "experiment.yaml", "--dry-run", "--printshellcmds", "--", "results/demo/tables/features.md")
    models = "results/demo/models/hubert_demo"
    assert f"speechft analyse {models}/none/pretrained {models}/pr_sentences/speech_ft@0.50 results/demo/corpora/keywords" in text


def test_recipes_of_an_analysis(values):
    flow = Workflow(parse_experiment(values, "x"))
    assert json.loads(flow.recipe("analysis/features")) == {"split": "dev", "utterances": 20, "precision": "fp32"}
    table = json.loads(flow.recipe("analysis_tables/features"))
    assert table["title"] == "What fine-tuning did to hubert_demo"
    assert [row["label"] for row in table["rows"]] == ["Stable-FT", "Half way"]
    assert flow.analysis_results("features")[1] == "results/demo/analysis/features/hubert_demo/pr_sentences/speech_ft@0.50.json"
    assert {"results/demo/tables/features.md", "results/demo/figures/features.png"} <= set(flow.targets())


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda a: a["features"].update(encoder="hubert"), "analyses.features.encoder: 'hubert' is not defined"),
        (lambda a: a["features"].update(corpus="words"), "analyses.features.corpus: 'words' is not defined"),
        (lambda a: a["features"].update(rows=[]), "analyses.features.rows"),
        (lambda a: a["features"]["rows"].append({"model": "sid/stable_ft"}), "analyses.features.rows: 'sid' is not defined"),
        (lambda a: a["features"]["rows"].append({"model": "pr_sentences/ties"}), "analyses.features.rows: 'ties' is not defined"),
        (lambda a: a["features"]["recipe"].update(utterance=3), "did you mean 'utterances'?"),
        (lambda a: a.update(demo=a["features"]), "analyses.demo: a table or curve has this name"),
    ],
)
def test_mistakes_in_analyses(values, edit, expected):
    edit(values["analyses"])
    with pytest.raises(ConfigError) as caught:
        parse_experiment(values, "my.yaml")
    assert expected in str(caught.value)
