"""Fine-tunings given as a checkpoint: models like those trained here."""

import copy

import pytest
import torch
import yaml
from experiment.edits import demo_values
from safetensors.torch import load_file
from workflow.plans import WARM, make_folder, planned, snakemake

from speechft.encoders import random_encoder
from speechft.errors import ConfigError
from speechft.experiment.schema import parse_experiment
from speechft.files.structured import read_json
from speechft.rehearsal import rehearse


def given_values():
    """The demo's experiment with an encoder from elsewhere, and a model that was fine-tuned from it elsewhere."""
    values = copy.deepcopy(demo_values())
    values["encoders"] = {"fbank": {"kind": "fbank"}, "theirs": {"kind": "checkpoint", "path": "theirs", "family": "hubert"}}
    values["finetunings"] = {"mine": {"checkpoint": "mine.pt", "task": "asr"}}
    values["tables"]["demo"] |= {"encoders": ["fbank", "theirs"], "finetunings": ["mine"]}
    values["curves"] = {"alpha": {"encoder": "theirs", "finetuning": "mine", "alphas": [0, 0.5, 1], "tasks": ["sid"]}}
    values["analyses"] = {
        "moved": {"encoder": "theirs", "corpus": "sentences", "rows": [{"model": "mine/finetuned"}, {"model": "mine/speech_ft"}]}
    }
    return values


@pytest.fixture
def folder(tmp_path):
    """The experiment's folder; the checkpoint is a bare state dict, under transformers' names."""
    make_folder(tmp_path, given_values())
    random_encoder("hubert", tmp_path / "theirs", seed=0)
    tuned = load_file(random_encoder("hubert", tmp_path / "tuned", seed=1) / "model.safetensors")
    torch.save(tuned, tmp_path / "mine.pt")
    return tmp_path


def test_such_a_model_has_rows_curves_and_analyses():
    experiment = parse_experiment(given_values(), "given.yaml")
    assert experiment.table_models("demo") == [
        ("fbank", "none", "pretrained"),
        ("theirs", "none", "pretrained"),
        ("theirs", "mine", "finetuned"),
        ("theirs", "mine", "speech_ft"),
    ]
    assert [model for _, model in experiment.curve_models("alpha")] == [
        ("theirs", "none", "pretrained"),
        ("theirs", "mine", "speech_ft"),
        ("theirs", "mine", "speech_ft@0.50"),
        ("theirs", "mine", "finetuned"),
    ]
    assert experiment.method("finetuned").label == "Fine-tuned"


def test_the_workflow_imports_and_merges_it(folder):
    jobs = planned(folder)
    assert (jobs["import_finetuned"], jobs["finetune"], jobs["merge"], jobs["analyse"]) == (1, 0, 2, 2)
    snakemake(folder, "--", "results/demo/models/theirs/mine/speech_ft/model.safetensors", **WARM)
    models = folder / "results/demo/models/theirs"
    start, tuned, merged = (
        load_file(models / name / "model.safetensors") for name in ("none/pretrained", "mine/finetuned", "mine/speech_ft")
    )
    name = "encoder.layers.0.feed_forward.output_dense.weight"
    assert torch.allclose(merged[name], 0.75 * start[name] + 0.25 * tuned[name], atol=1e-6)
    assert read_json(models / "mine/finetuned/provenance.json")["kind"] == "import"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda v: v["finetunings"]["mine"].update(corpus="sentences"), "a checkpoint needs none"),
        (lambda v: v["finetunings"]["mine"].update(recipe={"task": "asr", "updates": 9}), "exactly one of `recipe`"),
        (
            lambda v: v["finetunings"].update(mine={"corpus": "sentences", "recipe": {"task": "pr", "updates": 9}, "encoder": "theirs"}),
            "only with `checkpoint`",
        ),
        (lambda v: v["finetunings"]["mine"].update(encoder="fbank"), "'fbank' is not defined. Allowed here: theirs"),
        (lambda v: v["finetunings"]["mine"].update(task="asrr"), "'asrr' is not defined"),
        (lambda v: v["encoders"].update(other={"kind": "public", "name": "hubert_base"}), "name the encoder that it was fine-tuned from"),
        (
            lambda v: (
                v["encoders"].update(other={"kind": "public", "name": "hubert_base"}),
                v["finetunings"]["mine"].update(encoder="other"),
            ),
            "'mine' was fine-tuned from other, not from theirs; give it a separate table",
        ),
        (lambda v: v["analyses"]["moved"]["rows"].append({"model": "mine/stable_ft"}), "its model is mine/finetuned, not 'stable_ft'"),
        (lambda v: v.update(methods={"finetuned": {"kind": "finetune", "label": "x"}}), "this name is reserved for fine-tunings given as"),
    ],
)
def test_mistakes_are_named_before_any_job(edit, said):
    values = given_values()
    edit(values)
    with pytest.raises(ConfigError) as caught:
        parse_experiment(values, "given.yaml")
    assert said in str(caught.value)


def test_a_rehearsal_has_a_small_model_in_its_place(folder, monkeypatch):
    monkeypatch.chdir(folder)
    values = given_values()
    values["corpora"] = {name: {"kind": "fluent_speech_commands", "path": "nowhere"} for name in values["corpora"]}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(values))
    made = rehearse("experiment.yaml", "r", corpora="stand-ins", encoders="tiny", gpus=False)
    small = yaml.safe_load(made.experiment.read_text())["finetunings"]["mine"]
    assert small["checkpoint"].startswith("r/")
    assert (folder / small["checkpoint"]).is_file()
    (folder / "mine.pt").unlink()
    with pytest.raises(ConfigError, match="rehearse with --encoders tiny"):
        rehearse("experiment.yaml", "r2", corpora="stand-ins", encoders="mine", gpus=False)
