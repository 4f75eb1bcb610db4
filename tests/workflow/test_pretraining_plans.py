"""What Snakemake plans for encoders that build on encoders, and for fine-tuning without labels."""

import json
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from speechft.errors import ConfigError
from speechft.experiment.schema import parse_experiment
from speechft.experiment.workflow import Workflow
from speechft.recipes.pretraining import ContinuedPretrainRecipe


@pytest.fixture
def values():
    values = yaml.safe_load((ROOT / "tests/experiment.yaml").read_text())
    (first,) = values["encoders"]
    corpora = values["encoders"][first]["corpora"]
    values["encoders"] |= {
        "second": {"kind": "pretrain", "corpora": corpora, "recipe": {"targets": {"encoder": first, "layer": 2}}},
        "longer": {"kind": "pretrain", "corpora": corpora, "start": "second", "recipe": {"targets": "own_predictions", "updates": 7}},
        "contrastive": {"kind": "pretrain", "corpora": corpora, "recipe": {"family": "wav2vec2"}},
    }
    values["finetunings"] = {
        "unlabelled": {"corpus": corpora[0], "pretraining": {"updates": 5, "targets": {"encoder": "second", "layer": 1}}},
        "own": {"corpus": corpora[0], "pretraining": {"updates": 5}},
    }
    values["tables"] = {"main": {"title": "t", "encoders": ["longer"], "finetunings": ["unlabelled"], "tasks": ["ks"]}}
    return values, first


def test_encoders_behind_an_encoder_are_inputs_and_options(values):
    values, first = values
    flow = Workflow(parse_experiment(values, "x"))
    results = flow.results
    assert flow.pretraining_encoders("second") == [f"{results}/models/{first}/none/pretrained/model.safetensors"]
    assert flow.pretraining_options("second") == ["--targets-from", f"{results}/models/{first}/none/pretrained"]
    assert flow.pretraining_options("longer") == ["--start", f"{results}/models/second/none/pretrained"]
    assert flow.pretraining_options("contrastive") == []
    assert flow.continuing_options("unlabelled") == ["--targets-from", f"{results}/models/second/none/pretrained"]
    assert flow.continuing_encoders("own") == []


def test_methods_change_the_recipe_of_a_fine_tuning_without_labels(values):
    values, _ = values
    values["methods"] = {
        "stable_ft": {"kind": "finetune", "label": "Stable-FT"},
        "plain_ft": {"kind": "finetune", "label": "Plain", "changes": {"head_only": 0.0, "freeze_extractor": False}},
        "speech_ft": {"kind": "merge", "label": "Speech-FT", "of": "stable_ft"},
        "batchy": {"kind": "finetune", "label": "Batchy", "changes": {"batch_size": 3}},
    }
    experiment = parse_experiment(values, "x")
    assert experiment.finetune_recipe("own", "stable_ft") == ContinuedPretrainRecipe(updates=5)
    assert experiment.finetune_recipe("own", "plain_ft") == ContinuedPretrainRecipe(updates=5, head_only=0.0, freeze_extractor=False)
    with pytest.raises(ConfigError, match="batch_size: unknown key"):
        experiment.finetune_recipe("own", "batchy")


@pytest.mark.parametrize(
    ("encoder", "change", "message"),
    [
        ("second", {"recipe": {"targets": {"encoder": "nobody", "layer": 1}}}, "'nobody' is not defined"),
        ("second", {"recipe": {"targets": {"layer": 1}}}, "needs an encoder"),
        ("second", {"recipe": {"targets": "own_predictions"}}, "name it"),
        ("second", {"start": "longer", "recipe": {}}, "from itself"),
        ("second", {"recipe": {"repeats": [1, 2, 3, 4]}}, "repeats: 4 numbers for"),
        ("second", {"recipe": {"smooth_targets": 4}}, "is even"),
        ("longer", {"recipe": {"architecture": {"layers": 5}}}, "leave it out"),
        ("contrastive", {"recipe": {"family": "wav2vec2", "targets": {"layer": 1}}}, "targets goes with family hubert"),
    ],
)
def test_what_can_not_be_is_named(values, encoder, change, message):
    values, _ = values
    values["encoders"][encoder] |= change
    with pytest.raises(ConfigError, match=message):
        parse_experiment(values, "x")


def test_a_fine_tuning_has_labels_or_has_not(values):
    values, _ = values
    values["finetunings"]["own"]["recipe"] = {"task": "pr", "updates": 3}
    with pytest.raises(ConfigError, match="not both"):
        parse_experiment(values, "x")


def test_snakemake_trains_what_is_needed_in_order(values, tmp_path):
    values, _ = values
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(values))
    for corpus in values["corpora"].values():
        table = tmp_path / corpus["path"]
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text("path\n")
    flow = Workflow(parse_experiment(values, "x"))
    target = flow.weights("longer", "unlabelled", "speech_ft")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path), "--cores", "2"]
    done = subprocess.run(
        [*command, "--configfile", "experiment.yaml", "--dry-run", "--printshellcmds", "--", target],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith(("speechft", "set -euo")) or "speechft " in line]
    commands = [line[line.index("speechft ") :] for line in lines if "speechft " in line]
    verbs = [line.split()[1] for line in commands]
    assert sorted(verbs) == sorted([*["pretrain"] * 3, "continue", "merge", "prepare"])
    (continued,) = (line for line in commands if line.split()[1] == "continue")
    assert continued.startswith(f"speechft continue {flow.results}/models/longer/none/pretrained {flow.results}/corpora/")
    assert (
        f"--targets-from {flow.results}/models/second/none/pretrained --out {flow.results}/models/longer/unlabelled/stable_ft" in continued
    )


def test_recipe_files_can_be_read_again(values):
    values, _ = values
    flow = Workflow(parse_experiment(values, "x"))
    assert json.loads(flow.recipe("pretrain/contrastive"))["mask_length"] == 10
    assert ContinuedPretrainRecipe(**json.loads(flow.recipe("finetune/own/stable_ft"))) == ContinuedPretrainRecipe(updates=5)


def test_stored_encoders_are_made_from_the_beginning(values, tmp_path):
    values, first = values
    values["encoders"]["second"]["store_as"] = "hubert_small"
    values["corpora"][values["encoders"][first]["corpora"][0]]["path"] = "mini/recordings/recordings.csv"
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(values))
    flow = Workflow(parse_experiment(values, "x"))
    assert flow.pretraining_logs() == [f"{flow.results}/models/{name}/none/pretrained/training.csv" for name in ("second", first)]
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path), "--cores", "2"]
    done = subprocess.run(
        [*command, "--configfile", "experiment.yaml", "--dry-run", "--printshellcmds", "--", "mini_encoders"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    for expected in (
        "python mini/fetch_recordings.py",
        f"speechft store {flow.results}/models/second/none/pretrained --out mini/encoders/hubert_small",
        f"speechft report training {flow.results}/models/second/none/pretrained/training.csv",
    ):
        assert expected in text, expected
    assert text.count("speechft pretrain ") == 2
