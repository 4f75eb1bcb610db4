"""Fine-tunings of several tasks, one after the other and jointly, and early checkpoints in an experiment."""

import re

import pytest
import yaml
from conftest import ROOT
from workflow.test_dag import folder, planned  # noqa: F401

from speechft.errors import ConfigError
from speechft.experiment.schema import parse_experiment
from speechft.experiment.workflow import Workflow

METHODS = {
    "stable_ft": {"kind": "finetune", "label": "Stable-FT"},
    "speech_ft": {"kind": "merge", "label": "Speech-FT", "of": "stable_ft"},
    "early20": {"kind": "early", "label": "Early checkpoint (20 %)"},
}


def several(values):
    """Fine-tuning on PR, then on SID from its merge or from its stage 1, and on both jointly."""
    (first,) = values["finetunings"]
    sid = {"corpus": "speakers", "recipe": {"task": "sid", "updates": 20}}
    values["methods"] = METHODS
    values["finetunings"] |= {
        "then_sid": {**sid, "start": f"{first}/speech_ft"},
        "then_sid_plain": {**sid, "start": f"{first}/stable_ft"},
        "both": {
            "corpus": "sentences",
            "recipe": {"task": "pr", "updates": 20, "jointly": {"sid": {"task": "sid", "batch_size": 8}}},
            "jointly": {"sid": "speakers"},
        },
    }
    return values


@pytest.fixture
def values():
    return several(yaml.safe_load((ROOT / "tests/experiment.yaml").read_text()))


def message(values):
    with pytest.raises(ConfigError) as caught:
        parse_experiment(values, "my.yaml")
    return str(caught.value)


def model(finetuning, method):
    return f"results/demo/models/hubert_demo/{finetuning}/{method}/model.safetensors"


def test_rounds_start_from_the_model_of_the_round_before(values):
    flow = Workflow(parse_experiment(values, "x"))
    assert flow.start("hubert_demo", "pr_sentences") == model("none", "pretrained")
    assert flow.start("hubert_demo", "then_sid") == model("pr_sentences", "speech_ft")
    assert flow.start("hubert_demo", "then_sid_plain") == model("pr_sentences", "stable_ft")


def test_joint_tasks_have_their_corpora(values):
    flow = Workflow(parse_experiment(values, "x"))
    assert flow.finetuning_corpora("both") == ["results/demo/corpora/sentences", "results/demo/corpora/speakers"]
    assert flow.joint_options("both") == ["--jointly", "sid=results/demo/corpora/speakers"]
    assert flow.joint_options("pr_sentences") == []


def test_the_merge_of_a_round_is_planned_after_all_before_it(folder):  # noqa: F811
    text = (folder / "experiment.yaml").read_text()
    (folder / "experiment.yaml").write_text(yaml.safe_dump(several(yaml.safe_load(text))))
    jobs = planned(folder, model("then_sid", "speech_ft"))
    assert (jobs["pretrain"], jobs["finetune"], jobs["merge"]) == (1, 2, 2)
    jobs = planned(folder, model("then_sid_plain", "stable_ft"))
    assert (jobs["finetune"], jobs.get("merge", 0)) == (2, 0)
    jobs = planned(folder, model("both", "stable_ft"))
    assert (jobs["finetune"], jobs["manifests"]) == (1, 3)


def test_an_early_checkpoint_needs_no_run_of_its_own(folder):  # noqa: F811
    text = (folder / "experiment.yaml").read_text()
    (folder / "experiment.yaml").write_text(yaml.safe_dump(several(yaml.safe_load(text))))
    jobs = planned(folder, model("pr_sentences", "early20"), model("pr_sentences", "stable_ft"))
    assert (jobs["finetune"], jobs["early"]) == (1, 1)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: f["then_sid"].update(start="nothing/speech_ft"), "finetunings.then_sid.start: 'nothing/speech_ft' is not a model"),
        (
            lambda f: f["then_sid"].update(start="pr_sentences/no_method"),
            "then_sid.start: 'pr_sentences/no_method' is not a model",
        ),
        (lambda f: f["pr_sentences"].update(start="then_sid/speech_ft"), "starts from pr_sentences itself"),
        (lambda f: f["both"].update(jointly={}), "jointly: the recipe has the further tasks sid, corpora are named for none"),
        (lambda f: f["both"].update(jointly={"sid": "nowhere"}), "finetunings.both.corpus: 'nowhere' is not defined"),
        (lambda f: f["both"]["recipe"]["jointly"].update(sid={"task": "sdi"}), "finetunings.both.recipe.task: 'sdi' is not defined"),
        (lambda f: f["both"]["recipe"].update(jointly={"pr": {"task": "pr"}}), "'pr' is the name of the recipe's own task"),
    ],
)
def test_what_does_not_fit_is_named(values, change, expected):
    change(values["finetunings"])
    assert expected in message(values)


def test_an_early_checkpoint_is_of_a_run(values):
    values["methods"]["early20"]["of"] = "speech_ft"
    assert re.search(r"methods\.early20\.of: 'speech_ft' is not defined; defined are stable_ft", message(values))
