import json
import re
from typing import get_args

import pytest
from conftest import ROOT
from experiment.edits import demo_values, full_values, put

from speechft.downloads.checkpoints import public_checkpoint
from speechft.encoders.checkpoints.sources import FORMATS
from speechft.encoders.families import LEARNED_FAMILIES
from speechft.errors import ConfigError
from speechft.experiment.encoders import PretrainedElsewhere
from speechft.experiment.schema import experiment_schema, load_experiment, parse_experiment
from speechft.experiment.workflow import Workflow
from speechft.merge import METHODS
from speechft.recipes.evaluation import evaluation_recipe
from speechft.recipes.pretraining import ContinuedPretrainRecipe
from speechft.tasks import TASK_NAMES

PRETRAINED = ("hubert_demo", "none", "pretrained")
MODELS = "results/demo/models/hubert_demo"


def flow_of(**changes):
    """The full experiment; keyword `a__b` sets a.b."""
    values = full_values()
    for path, value in changes.items():
        put(values, path.replace("__", "."), value)
    return Workflow(parse_experiment(values, "my.yaml"))


@pytest.fixture(scope="module")
def flow():
    return flow_of()


def recipe(flow, name):
    return json.loads(flow.recipe(name))


def labels(flow, table):
    return [row["label"] for row in recipe(flow, table)["rows"]]


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_experiments_are_valid(path):
    experiment = load_experiment(path)
    assert experiment.tables or Workflow(experiment).stored, "it makes nothing"


def test_schema_on_disk_is_the_schema_of_the_code():
    on_disk = json.loads((ROOT / "config/schema.json").read_text())
    assert on_disk == experiment_schema(), "config/schema.json is out of date: run `make schema`"


def test_every_task_has_a_published_recipe():
    assert {name: evaluation_recipe(name).protocol for name in TASK_NAMES} == dict.fromkeys(TASK_NAMES, "superb")
    assert evaluation_recipe("sid").accumulate == 4


def test_families_and_formats_of_the_configuration_are_those_of_the_importer():
    fields = PretrainedElsewhere.model_fields
    assert set(get_args(get_args(fields["family"].annotation)[0])) == set(LEARNED_FAMILIES)
    assert set(get_args(get_args(fields["format"].annotation)[0])) == set(FORMATS)


def test_methods_share_the_finetuning_and_change_only_what_they_name(flow):
    plain = flow.experiment.finetune_recipe("pr_sentences", "plain_ft")
    assert (plain.head_only, plain.updates) == (0.0, demo_values()["finetunings"]["pr_sentences"]["recipe"]["updates"])
    assert flow.experiment.finetune_recipe("own", "stable_ft") == ContinuedPretrainRecipe(updates=5)
    assert flow.experiment.finetune_recipe("own", "plain_ft") == ContinuedPretrainRecipe(updates=5, head_only=0.0)
    with pytest.raises(ConfigError, match="under methods.plain_ft"):
        flow_of(methods__plain_ft__changes={"hold": 2}).experiment.finetune_recipe("pr_sentences", "plain_ft")
    with pytest.raises(ConfigError, match="batch_size: unknown key"):
        flow_of(methods__plain_ft__changes={"batch_size": 3}).experiment.finetune_recipe("own", "plain_ft")


def test_options_of_an_import_are_those_of_the_encoder(flow):
    assert flow.imported == ["mine", "theirs", "larger", "adapted"]
    assert (flow.checkpoint("mine"), flow.checkpoint("theirs")) == ("my models/a.pt", "checkpoints/WavLM-Base+.pt")
    assert flow.import_options("mine") == ["--family", "decoar2", "--format", "decoar2", "--config", "a b.json"]
    assert flow.import_options("theirs") == ["--family", "wavlm", "--sha256", public_checkpoint("wavlm_base_plus").sha256]
    assert flow.import_options("larger") == ["--family", "decoar2", "--config", "larger.json"]
    assert flow.import_options("adapted") == ["--base", "models/b c"]
    assert [flow.import_settings(name) for name in flow.imported] == [["a b.json"], [], ["larger.json"], ["models/b c"]]
    checkpoints = {path: names for path, names in flow.public_files.items() if path.startswith("checkpoints/")}
    assert checkpoints == {"checkpoints/WavLM-Base+.pt": ["wavlm_base_plus"], "checkpoints/checkpoint_decoar2.pt": ["decoar2"]}


def test_encoders_behind_an_encoder_are_inputs_and_options(flow):
    models = "results/demo/models"
    assert flow.pretraining_encoders("second") == [f"{MODELS}/none/pretrained/model.safetensors"]
    assert flow.pretraining_options("second") == ["--targets-from", f"{MODELS}/none/pretrained"]
    assert flow.pretraining_options("longer") == ["--start", f"{models}/second/none/pretrained"]
    assert flow.pretraining_options("contrastive") == []
    assert flow.continuing_options("unlabelled") == ["--targets-from", f"{models}/second/none/pretrained"]
    assert flow.continuing_encoders("own") == []
    assert recipe(flow, "pretrain/contrastive")["mask_length"] == 10
    assert ContinuedPretrainRecipe(**recipe(flow, "finetune/own/stable_ft")) == ContinuedPretrainRecipe(updates=5)


def test_fbank_has_a_single_row_with_its_name(flow):
    stable, merged = (("hubert_demo", "pr_sentences", method) for method in ("stable_ft", "speech_ft"))
    fbank = ("fbank", "none", "pretrained")
    assert flow.experiment.table_models("scored") == [fbank, PRETRAINED, stable, merged]
    table = recipe(flow, "tables/scored")
    assert [row["label"] for row in table["rows"]] == ["FBANK", "Pre-trained", "Stable-FT", "Speech-FT"]
    assert table["score"] == {"label": "mini SUPERB score", "floor": table["rows"][0], "tasks": ["pr", "ks", "sid"]}
    assert recipe(flow, "fbank/fbank") == {"mel_bins": 80, "deltas": 2, "normalize": True}
    assert flow_of(tables__scored__methods=["speech_ft"]).experiment.table_models("scored") == [fbank, merged]


def test_an_alpha_needs_no_method_of_its_own():
    flow = flow_of(tables__demo__methods=["pretrained", "speech_ft", "speech_ft@0.50"])
    assert flow.merge_sources("hubert_demo", "pr_sentences", "speech_ft@0.50") == [f"{MODELS}/pr_sentences/stable_ft/model.safetensors"]
    assert recipe(flow, "merge/speech_ft@0.50") == {**recipe(flow, "merge/speech_ft"), "alpha": 0.5}
    assert labels(flow, "tables/demo")[-1] == "Speech-FT (alpha 0.50)"
    for name in ("merge/speech_ft@0.5", "merge/stable_ft@0.50", "merge/other@0.50", "curves/other"):
        with pytest.raises(ConfigError):
            flow.recipe(name)
    for name in ("pretrained", "stable_ft", "speech_ft", "speech_ft@0.50", "speech_ft@0.125", "speech_ft@1.00"):
        assert re.fullmatch(flow.method_pattern, name)
    for name in ("speech_ft@0.5", "speech_ft@", "stable_ft@0.50", "pretrained@0.50", "other"):
        assert not re.fullmatch(flow.method_pattern, name)


def test_a_curve_reuses_the_models_that_it_passes_through():
    flow = flow_of(curves__alpha__alphas=[1, 0.25, 0, 0.5])
    assert flow.experiment.curve_models("alpha") == [
        (0.0, PRETRAINED),
        (0.25, ("hubert_demo", "pr_sentences", "speech_ft")),
        (0.5, ("hubert_demo", "pr_sentences", "speech_ft@0.50")),
        (1.0, ("hubert_demo", "pr_sentences", "stable_ft")),
    ]
    curve = recipe(flow, "curves/alpha")
    assert [point["label"] for point in curve["points"]] == ["Pre-trained", "Speech-FT", "Speech-FT", "Stable-FT"]
    assert (curve["start"], curve["end"], curve["tasks"]) == ("Pre-trained", "Stable-FT", ["pr", "sid"])


def test_a_connection_is_measured_as_it_is_shown():
    flow = flow_of()
    names = ["--start-name", "hubert_demo/pr_sentences/speech_ft", "--end-name", "hubert_demo/sid/stable_ft"]
    assert flow.connection_options("between")[-6:] == ["--split", "test", *names]
    shown = recipe(flow, "connections/between")
    assert (shown["split"], shown["alphas"][:2], shown["end"]["finetuning"]) == ("test", [0.0, 0.1], "sid")


@pytest.mark.parametrize(
    ("finetuning", "method", "expected"),
    [
        # The ends of other merges are their own models, and the mean of several fine-tuned models is none of the tables.
        ("pr_sentences", "ties", ["ties@0.00", "ties", "ties@0.50", "ties@1.00"]),
        ("pr+sid", "speech_ft", ["pretrained", "speech_ft", "speech_ft@0.50", "speech_ft@1.00"]),
    ],
)
def test_ends_of_other_curves(finetuning, method, expected):
    flow = flow_of(curves__alpha__alphas="0:1:0.5", curves__alpha__finetuning=finetuning, curves__alpha__method=method)
    assert [name for _, (_, _, name) in flow.experiment.curve_models("alpha")] == expected
    if finetuning == "pr+sid":
        assert recipe(flow, "curves/alpha")["end"] == "Speech-FT, full step"


def test_a_combination_merges_the_models_of_its_finetunings(flow):
    assert flow.merge_models("hubert_demo", "pr+sid", "ties@0.50") == [f"{MODELS}/{name}/stable_ft" for name in ("pr_sentences", "sid")]
    merges = [("hubert_demo", "pr+sid", method) for method in ("speech_ft", "ties", "ties@0.50")]
    assert flow.experiment.table_models("combined") == [PRETRAINED, *merges]
    assert recipe(flow, "merge/ties")["parameters"] == {"density": 0.2}


def test_merges_run_models_on_corpora_by_name(flow):
    manifests = "results/demo/corpora/keywords"
    assert recipe(flow, "merge/regmean")["parameters"] == {"recordings": [manifests, "some/audio"]}
    assert flow.experiment.merge_corpora("regmean@0.50") == [manifests]
    assert flow.experiment.merge_corpora("ties") == []


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.takes(2)])
def test_every_method_that_merges_is_one_of_an_experiment(method):
    parameters = {"recordings": "speakers"} if method == "regmean" else {}
    flow = flow_of(methods__ties__recipe={"method": method, "parameters": parameters})
    assert recipe(flow, "merge/ties")["method"] == method


def test_rows_can_be_listed_one_by_one(flow):
    tuned = [("hubert_demo", "pr_sentences", "stable_ft"), ("hubert_demo", "pr+sid", "speech_ft@1.00")]
    assert flow.experiment.table_models("rows") == [("fbank", "none", "pretrained"), PRETRAINED, *tuned]
    assert labels(flow, "tables/rows") == ["FBANK", "Pre-trained", "PR alone", "Average"]
    assert "results/demo/cells/hubert_demo/pr+sid/speech_ft@1.00/sid.json" in flow.cells("rows")


def test_rounds_and_combinations_start_from_one_model(flow):
    starts = {"pr_sentences": "none/pretrained", "then_sid": "pr_sentences/speech_ft", "then_sid_plain": "pr_sentences/stable_ft"}
    for name, start in {**starts, "pr+sid": "none/pretrained"}.items():
        assert flow.start("hubert_demo", name) == f"{MODELS}/{start}/model.safetensors"


def test_joint_tasks_have_their_corpora(flow):
    assert flow.finetuning_corpora("joint") == ["results/demo/corpora/sentences", "results/demo/corpora/speakers"]
    assert flow.joint_options("joint") == ["--jointly", "sid=results/demo/corpora/speakers"]
    assert flow.joint_options("pr_sentences") == []


def test_recipes_of_an_analysis(flow):
    assert recipe(flow, "analysis/features") == {"split": "dev", "utterances": 20, "precision": "fp32"}
    assert recipe(flow, "analysis_tables/features")["title"] == "What fine-tuning did to hubert_demo"
    assert labels(flow, "analysis_tables/features") == ["Stable-FT", "Half way"]
    assert flow.analysis_results("features")[1] == "results/demo/analysis/features/hubert_demo/pr_sentences/speech_ft@0.50.json"
    assert {"results/demo/tables/features.md", "results/demo/figures/features.png"} <= set(flow.targets())


def test_tables_know_the_command_that_makes_a_cell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = parse_experiment(full_values(), "x")
    flow = Workflow(experiment, ["config/my demo.yaml", str(tmp_path / "more.yaml"), "/elsewhere/last.yaml"])
    command = "snakemake --cores all --configfile 'config/my demo.yaml' more.yaml /elsewhere/last.yaml -- results/demo/cells/"
    assert recipe(flow, "tables/demo")["command"] == recipe(flow, "curves/alpha")["command"] == command
    assert recipe(Workflow(experiment), "tables/demo")["command"] is None


def test_pr_reads_the_lexicons_of_its_corpus_unless_it_names_others():
    """Alone, in a union, jointly with another task and as that other task."""
    values, both = demo_values(), {"words": {"task": "asr"}, "phones": {"task": "pr"}}
    for path, value in {
        "corpora.read": {"kind": "librispeech", "path": "LibriSpeech", "lexicon": ["a.txt", "cmudict"]},
        "corpora.both": {"kind": "union", "of": ["sentences", "read"]},
        "tasks.pr.corpus": "read",
        "tasks.asr.corpus": "read",
        "finetunings.united": {"corpus": "both", "recipe": {"like": "pr"}},
        "finetunings.own": {"corpus": "read", "recipe": {"like": "pr", "task_options": {"lexicon": ["b.txt"]}}},
        "finetunings.joint": {"corpus": "speakers", "recipe": {"like": "sid", "jointly": both}},
        "finetunings.joint.jointly": {"phones": "read", "words": "sentences"},
    }.items():
        put(values, path, value)
    flow = Workflow(parse_experiment(values, "my.yaml"))
    names = ("united", "own", "joint", "pr_sentences")
    found = [recipe(flow, name)["task_options"] for name in ("evaluate/pr", "evaluate/asr", *(f"finetune/{n}/stable_ft" for n in names))]
    a = ["a.txt", "cmudict"]
    assert found == [{"lexicon": a}, {}, {"lexicon": a}, {"lexicon": ["b.txt"]}, {}, {}]
    joint = recipe(flow, "finetune/joint/stable_ft")["jointly"]
    assert (joint["words"]["task_options"], joint["phones"]["task_options"]) == ({}, {"lexicon": a})
    # They are inputs of the jobs that read them.
    assert (flow.corpus_tables("read"), flow.evaluation_lexicons("pr"), flow.evaluation_lexicons("asr")) == (["a.txt"], ["a.txt"], [])
    assert [flow.finetuning_lexicons(name, "stable_ft") for name in names] == [["a.txt"], ["b.txt"], ["a.txt"], []]
    assert flow.lexicons() == ["a.txt", "b.txt"]


def test_the_paper_names_the_lexicons_of_superb_once():
    flow = Workflow(load_experiment(ROOT / "config/paper.yaml"))
    superb = ["lexicons/librispeech-lexicon-200k-g2p.txt", "lexicons/librispeech-lexicon-allothers-g2p.txt"]
    assert (ROOT / "config/paper.yaml").read_text().count(superb[0]) == 1
    assert flow.lexicons() == flow.corpus_tables("librispeech") == superb
    assert flow.evaluation_lexicons("pr") == superb
    for name in ("pr_librispeech", "pr_sid_joint"):
        assert flow.finetuning_lexicons(name, "stable_ft") == superb
    assert set(superb) <= set(flow.public_files)
