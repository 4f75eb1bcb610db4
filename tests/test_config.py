import json
from typing import get_args

import pytest
import yaml
from conftest import ROOT

from speechft.config import PretrainedElsewhere, experiment_schema, load_experiment, parse_experiment
from speechft.encoders.families import FAMILIES
from speechft.encoders.public import public_checkpoint
from speechft.encoders.sources import FORMATS
from speechft.errors import ConfigError
from speechft.recipes import SUPERB_RECIPES, evaluation_recipe
from speechft.tasks import TASK_NAMES
from speechft.workflow import Workflow

EXPERIMENTS = sorted(path for path in (ROOT / "config").glob("*.yaml"))


@pytest.fixture
def demo():
    return yaml.safe_load((ROOT / "config/demo.yaml").read_text())


def message(values):
    with pytest.raises(ConfigError) as caught:
        parse_experiment(values, "my.yaml")
    return str(caught.value)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_shipped_experiments_are_valid(path):
    assert load_experiment(path).tables


def test_schema_on_disk_is_the_schema_of_the_code():
    on_disk = json.loads((ROOT / "config/schema.json").read_text())
    assert on_disk == experiment_schema(), "config/schema.json is out of date: run `make schema`"


def test_unknown_key_is_named_with_the_file_the_place_and_the_nearest_spelling(demo):
    demo["encoders"]["hubert_demo"]["recipe"]["updats"] = 3
    text = message(demo)
    assert text.startswith("my.yaml: 1 problem")
    assert "encoders.hubert_demo.pretrain.recipe.updats: unknown key; did you mean 'updates'?" in text
    assert "warmup_updates" in text


def test_wrong_value_is_named_with_the_allowed_ones(demo):
    demo["corpora"]["keywords"]["kind"] = "cvs"
    text = message(demo)
    assert "corpora.keywords: " in text
    assert "'cvs' found using 'kind' does not match any of the expected tags: 'csv', 'union'" in text
    demo["corpora"]["keywords"] = {"kind": "csv", "path": "x", "default_split": "training"}
    assert "default_split: Input should be 'train', 'dev' or 'test', found 'training'" in message(demo)


def test_all_problems_come_at_once(demo):
    demo["corpora"]["keywords"]["pth"] = "x"
    demo["finetunings"]["pr_sentences"]["recipe"]["updates"] = 0
    demo["colour"] = "blue"
    assert message(demo).startswith("my.yaml: 3 problems")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d["tasks"]["ks"].update(corpus="keyword"), "tasks.ks.corpus: 'keyword' is not defined"),
        (lambda d: d["finetunings"]["pr_sentences"].update(corpus="x"), "finetunings.pr_sentences.corpus: 'x' is not defined"),
        (lambda d: d["corpora"].update(u={"kind": "union", "of": ["keywords", "x"]}), "corpora.u.of: 'x' is not defined"),
        (lambda d: d["finetunings"]["pr_sentences"]["recipe"].update(task="prr"), "finetunings.pr_sentences.recipe.task: 'prr'"),
        (lambda d: d["tables"]["demo"].update(methods=["speechft"]), "tables.demo.methods: 'speechft' is not defined"),
        (lambda d: d["tables"]["demo"].update(tasks=["er"]), "tables.demo.tasks: 'er' is not defined"),
        (lambda d: d.update(methods={"m": {"kind": "merge", "label": "M", "of": "n"}}), "methods.m.of: 'n' is not defined"),
        (lambda d: d.update(methods={"m": {"kind": "finetune", "label": "M", "changes": {"lr": 1}}}), "methods.m.changes: 'lr'"),
        (lambda d: d["encoders"].update(e={"kind": "public", "name": "hubert"}), "hubert_base, wav2vec2_base, wavlm_base_plus, decoar2"),
        (
            lambda d: d["encoders"].update(e={"kind": "checkpoint", "path": "a.pt", "family": "whisper"}),
            "'wavlm' or 'decoar2', found 'whisper'",
        ),
        (lambda d: d["tasks"]["ks"]["recipe"].pop("protocol"), "steps=2000 is not SUPERB's (200000); write `protocol: quick`"),
        (lambda d: d["corpora"].update({"a/b": {"kind": "csv", "path": "x"}}), "corpora.a/b"),
        (lambda d: d["finetunings"]["pr_sentences"]["recipe"].update(warmup=0.7), "warmup + hold = 1.1 is more than 1"),
    ],
)
def test_inconsistencies_are_found_before_anything_runs(demo, change, expected):
    change(demo)
    assert expected in message(demo)


def test_missing_and_malformed_files_are_clear_errors(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_experiment(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match=r"bad\.yaml: is not valid YAML"):
        load_experiment(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="an experiment is a mapping"):
        load_experiment(tmp_path / "list.yaml")


def test_every_task_has_a_published_recipe():
    assert set(SUPERB_RECIPES) == set(TASK_NAMES)
    assert evaluation_recipe("sid").accumulate == 4


def test_methods_share_the_finetuning_and_change_only_what_they_name(demo):
    demo["methods"] = {"plain_ft": {"kind": "finetune", "label": "Plain", "changes": {"head_only": 0.0}}}
    demo["tables"]["demo"]["methods"] = ["pretrained", "plain_ft"]
    experiment = parse_experiment(demo, "my.yaml")
    recipe = experiment.finetune_recipe("pr_sentences", "plain_ft")
    assert (recipe.head_only, recipe.updates) == (0.0, demo["finetunings"]["pr_sentences"]["recipe"]["updates"])
    with pytest.raises(ConfigError, match="under methods.plain_ft"):
        parse_experiment(
            {**demo, "methods": {"plain_ft": {"label": "P", "kind": "finetune", "changes": {"hold": 2}}}}, "x"
        ).finetune_recipe("pr_sentences", "plain_ft")


def test_families_and_formats_of_the_configuration_are_those_of_the_importer():
    fields = PretrainedElsewhere.model_fields
    assert set(get_args(get_args(fields["family"].annotation)[0])) == set(FAMILIES)
    assert set(get_args(get_args(fields["format"].annotation)[0])) == set(FORMATS)


def test_options_of_an_import_are_those_of_the_encoder(demo):
    demo["encoders"] |= {
        "mine": {"kind": "checkpoint", "path": "my models/a.pt", "family": "decoar2", "format": "decoar2", "config": "a b.json"},
        "theirs": {"kind": "public", "name": "wavlm_base_plus"},
    }
    flow = Workflow(parse_experiment(demo, "my.yaml"))
    assert flow.imported == ["mine", "theirs"]
    assert (flow.checkpoint("mine"), flow.checkpoint("theirs")) == ("my models/a.pt", "checkpoints/WavLM-Base+.pt")
    assert flow.import_options("mine") == "--family decoar2 --format decoar2 --config 'a b.json'"
    assert flow.import_options("theirs") == f"--family wavlm --sha256 {public_checkpoint('wavlm_base_plus').sha256}"
    assert (flow.import_settings("mine"), flow.import_settings("theirs")) == (["a b.json"], [])
    assert flow.public_files == {"WavLM-Base+.pt": "wavlm_base_plus"}
