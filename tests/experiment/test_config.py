import json
import re
from typing import get_args

import pytest
import yaml
from conftest import ROOT

from speechft.downloads.checkpoints import public_checkpoint
from speechft.encoders.checkpoints.sources import FORMATS
from speechft.encoders.families import LEARNED_FAMILIES
from speechft.errors import ConfigError
from speechft.experiment.encoders import PretrainedElsewhere
from speechft.experiment.schema import experiment_schema, load_experiment, parse_experiment
from speechft.experiment.workflow import Workflow
from speechft.recipes.evaluation import SUPERB_RECIPES, evaluation_recipe
from speechft.tasks import TASK_NAMES

STABLE = {
    "stable_ft": {"kind": "finetune", "label": "Stable-FT"},
    "speech_ft": {"kind": "merge", "label": "Speech-FT", "of": "stable_ft"},
}
EXPERIMENTS = sorted(path for path in (ROOT / "config").glob("*.yaml"))


@pytest.fixture
def demo():
    return yaml.safe_load((ROOT / "tests/experiment.yaml").read_text())


def message(values):
    with pytest.raises(ConfigError) as caught:
        parse_experiment(values, "my.yaml")
    return str(caught.value)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_shipped_experiments_are_valid(path):
    experiment = load_experiment(path)
    assert experiment.tables or Workflow(experiment).stored, "it makes nothing"


def test_schema_on_disk_is_the_schema_of_the_code():
    on_disk = json.loads((ROOT / "config/schema.json").read_text())
    assert on_disk == experiment_schema(), "config/schema.json is out of date: run `make schema`"


def test_unknown_key_is_named_with_the_file_the_place_and_the_nearest_spelling(demo):
    demo["encoders"]["hubert_demo"]["recipe"]["updats"] = 3
    text = message(demo)
    assert text.startswith("my.yaml: 1 problem")
    assert "encoders.hubert_demo.recipe.updats: unknown key; did you mean 'updates'?" in text
    assert "warmup_updates" in text


def test_wrong_value_is_named_with_the_allowed_ones(demo):
    demo["corpora"]["keywords"]["kind"] = "cvs"
    text = message(demo)
    assert "corpora.keywords: " in text
    assert "'cvs' found using 'kind' does not match any of the expected tags: 'csv', 'mixtures', 'librispeech', " in text
    assert text.rstrip().endswith("'aishell1', 'union'")
    demo["corpora"]["keywords"] = {"kind": "csv", "path": "x", "default_split": "training"}
    assert "default_split: Input should be 'train', 'dev' or 'test', found 'training'" in message(demo)


def test_all_problems_come_at_once(demo):
    demo["corpora"]["keywords"]["pth"] = "x"
    demo["finetunings"]["pr_sentences"]["recipe"]["updates"] = 0
    demo["color"] = "blue"
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
        (lambda d: d["finetunings"]["pr_sentences"]["recipe"].update(seed=-1), "finetunings.pr_sentences.recipe.seed"),
        (
            lambda d: d["encoders"]["hubert_demo"]["recipe"].update(seed=2**32 - 1),
            "encoders.hubert_demo.recipe.seed: Input should be less than 4294967295",
        ),
        (lambda d: d["tasks"]["ks"]["recipe"].update(seeds=[1, -1]), "seeds.1"),
        (lambda d: d["corpora"]["keywords"].pop("path"), "  corpora.keywords.path: is missing"),
        (
            lambda d: d["corpora"].update(u={"kind": "union", "of": ["keywords"], "off": 1}),
            "  corpora.u.off: unknown key; did you mean 'of'?",
        ),
        (lambda d: d["tasks"]["sid"]["recipe"].update(crop_draws="evry"), "  crop_draws: "),
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
    assert set(get_args(get_args(fields["family"].annotation)[0])) == set(LEARNED_FAMILIES)
    assert set(get_args(get_args(fields["format"].annotation)[0])) == set(FORMATS)


def test_options_of_an_import_are_those_of_the_encoder(demo):
    demo["encoders"] |= {
        "mine": {"kind": "checkpoint", "path": "my models/a.pt", "family": "decoar2", "format": "decoar2", "config": "a b.json"},
        "theirs": {"kind": "public", "name": "wavlm_base_plus"},
        "larger": {"kind": "public", "name": "decoar2", "config": "larger.json"},
        "adapted": {"kind": "checkpoint", "path": "lora", "base": "models/b c"},
    }
    flow = Workflow(parse_experiment(demo, "my.yaml"))
    assert flow.imported == ["mine", "theirs", "larger", "adapted"]
    assert (flow.checkpoint("mine"), flow.checkpoint("theirs")) == ("my models/a.pt", "checkpoints/WavLM-Base+.pt")
    assert flow.import_options("mine") == ["--family", "decoar2", "--format", "decoar2", "--config", "a b.json"]
    assert flow.import_options("theirs") == ["--family", "wavlm", "--sha256", public_checkpoint("wavlm_base_plus").sha256]
    assert flow.import_options("larger") == ["--family", "decoar2", "--config", "larger.json"]
    assert flow.import_options("adapted") == ["--base", "models/b c"]
    assert [flow.import_settings(name) for name in flow.imported] == [["a b.json"], [], ["larger.json"], ["models/b c"]]
    checkpoints = {path: name for path, name in flow.public_files.items() if path.startswith("checkpoints/")}
    assert checkpoints == {"checkpoints/WavLM-Base+.pt": ["wavlm_base_plus"], "checkpoints/checkpoint_decoar2.pt": ["decoar2"]}


@pytest.fixture
def with_curve(demo):
    demo["encoders"]["fbank"] = {"kind": "fbank"}
    demo["tables"]["demo"].update(encoders=["fbank", "hubert_demo"], score={"floor": "fbank"})
    demo["curves"] = {"alpha": {"encoder": "hubert_demo", "finetuning": "pr_sentences", "tasks": ["pr", "sid"]}}
    return demo


def test_fbank_has_a_single_row_with_its_name(with_curve):
    flow = Workflow(parse_experiment(with_curve, "my.yaml"))
    assert flow.experiment.table_models("demo") == [
        ("fbank", "none", "pretrained"),
        ("hubert_demo", "none", "pretrained"),
        ("hubert_demo", "pr_sentences", "stable_ft"),
        ("hubert_demo", "pr_sentences", "speech_ft"),
    ]
    recipe = json.loads(flow.recipe("tables/demo"))
    assert [row["label"] for row in recipe["rows"]] == ["FBANK", "Pre-trained", "Stable-FT", "Speech-FT"]
    assert recipe["score"] == {"label": "mini SUPERB score", "floor": recipe["rows"][0], "tasks": ["pr", "ks", "sid"]}
    assert json.loads(flow.recipe("fbank/fbank")) == {"mel_bins": 80, "deltas": 2, "normalize": True}
    with_curve["tables"]["demo"]["methods"] = ["speech_ft"]
    assert parse_experiment(with_curve, "x").table_models("demo")[:2] == [
        ("fbank", "none", "pretrained"),
        ("hubert_demo", "pr_sentences", "speech_ft"),
    ]


def test_an_alpha_needs_no_method_of_its_own(demo):
    demo["tables"]["demo"]["methods"] = ["pretrained", "speech_ft", "speech_ft@0.50"]
    flow = Workflow(parse_experiment(demo, "my.yaml"))
    assert flow.merge_sources("hubert_demo", "pr_sentences", "speech_ft@0.50") == [flow.weights("hubert_demo", "pr_sentences", "stable_ft")]
    assert json.loads(flow.recipe("merge/speech_ft@0.50")) == {**json.loads(flow.recipe("merge/speech_ft")), "alpha": 0.5}
    assert json.loads(flow.recipe("tables/demo"))["rows"][-1]["label"] == "Speech-FT (alpha 0.50)"
    for name in ("merge/speech_ft@0.5", "merge/stable_ft@0.50", "merge/other@0.50", "curves/alpha"):
        with pytest.raises(ConfigError):
            flow.recipe(name)
    pattern = re.compile(flow.method_pattern)
    for name in ("pretrained", "stable_ft", "speech_ft", "speech_ft@0.50", "speech_ft@0.125", "speech_ft@1.00"):
        assert pattern.fullmatch(name)
    for name in ("speech_ft@0.5", "speech_ft@", "stable_ft@0.50", "pretrained@0.50", "other"):
        assert not pattern.fullmatch(name)


def test_a_curve_reuses_the_models_that_it_passes_through(with_curve):
    with_curve["curves"]["alpha"]["alphas"] = [1, 0.25, 0, 0.5]
    experiment = parse_experiment(with_curve, "my.yaml")
    assert experiment.curve_models("alpha") == [
        (0.0, ("hubert_demo", "none", "pretrained")),
        (0.25, ("hubert_demo", "pr_sentences", "speech_ft")),
        (0.5, ("hubert_demo", "pr_sentences", "speech_ft@0.50")),
        (1.0, ("hubert_demo", "pr_sentences", "stable_ft")),
    ]
    recipe = json.loads(Workflow(experiment).recipe("curves/alpha"))
    assert [point["label"] for point in recipe["points"]] == ["Pre-trained", "Speech-FT", "Speech-FT", "Stable-FT"]
    assert (recipe["start"], recipe["end"], recipe["tasks"]) == ("Pre-trained", "Stable-FT", ["pr", "sid"])


def test_the_ends_of_other_merges_are_their_own_models(with_curve):
    with_curve["methods"] = {**STABLE, "speech_ft": {**STABLE["speech_ft"], "recipe": {"method": "ties", "alpha": 0.3}}}
    with_curve["curves"]["alpha"]["alphas"] = "0:1:0.5"
    models = parse_experiment(with_curve, "my.yaml").curve_models("alpha")
    assert [method for _, (_, _, method) in models] == ["speech_ft@0.00", "speech_ft@0.50", "speech_ft@1.00"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d["tables"]["demo"].update(methods=["speech_ft@0.5"]), "tables.demo.methods: 'speech_ft@0.5': write speech_ft@0.50"),
        (
            lambda d: d["tables"]["demo"].update(methods=["speech_ft@1.50"]),
            "tables.demo.methods: 'speech_ft@1.50': alpha must be from 0 to 1",
        ),
        (lambda d: d["tables"]["demo"].update(methods=["stable_ft@0.50"]), "tables.demo.methods: 'stable_ft@0.50' is not defined"),
        (
            lambda d: d["tables"]["demo"].update(score={"floor": "mfcc"}),
            "score.floor: 'mfcc' has no pre-trained row there; have one: fb",
        ),
        (lambda d: d["tables"]["demo"]["score"].update(tasks=["er"]), "tables.demo.score.tasks: 'er' is not defined"),
        (lambda d: d["curves"]["alpha"].update(encoder="fbank"), "curves.alpha.encoder: 'fbank' is not defined; defined are hubert_demo"),
        (lambda d: d["curves"]["alpha"].update(finetuning="x"), "curves.alpha.finetuning: 'x' is not defined"),
        (lambda d: d["curves"]["alpha"].update(method="stable_ft"), "curves.alpha.method: 'stable_ft' is not defined"),
        (lambda d: d["curves"]["alpha"].update(tasks=["pr", "er"]), "curves.alpha.tasks: 'er' is not defined"),
        (lambda d: d["curves"]["alpha"].update(alphas="0:1"), "curves.alpha.alphas: '0:1' is no range of numbers such as 0:1:0.1"),
        (lambda d: d["curves"]["alpha"].update(alphas=[0, 1.5]), "curves.alpha.alphas.1: Input should be less than or equal to 1"),
        (lambda d: d["curves"]["alpha"].update(alphas=[0, 0.5, 0.5]), "curves.alpha.alphas: an alpha appears twice"),
        (lambda d: d["curves"].update(demo=d["curves"]["alpha"]), "curves.demo: a table has this name"),
        (lambda d: d["encoders"]["fbank"].update(recipe={"mels": 40}), "mels: unknown key; did you mean 'mel_bins'?"),
        (
            lambda d: d.update(methods={**STABLE, "plain@0.50": {"kind": "finetune", "label": "P"}}),
            "methods.plain@0.50: with @ only merges can be named",
        ),
    ],
)
def test_mistakes_in_scores_curves_and_alphas(with_curve, change, expected):
    change(with_curve)
    assert expected in message(with_curve)


@pytest.fixture
def with_combination(demo):
    demo["finetunings"]["sid_speakers"] = {"corpus": "speakers", "recipe": {"task": "sid", "updates": 10}}
    demo["combinations"] = {"pr+sid": {"of": ["pr_sentences", "sid_speakers"]}}
    ties = {"kind": "merge", "label": "TIES merge", "recipe": {"method": "ties", "parameters": {"density": 0.2}}}
    demo["methods"] = {**STABLE, "ties": ties, "slerp": {"kind": "merge", "label": "Slerp", "recipe": {"method": "slerp"}}}
    rows = {"encoders": ["hubert_demo"], "finetunings": ["pr+sid"], "methods": ["pretrained", "speech_ft", "ties", "ties@0.50"]}
    demo["tables"]["multitask"] = {"title": "PR and SID", "tasks": ["pr", "sid"], **rows}
    return demo


def test_a_combination_merges_the_models_of_its_finetunings(with_combination):
    with_combination["curves"] = {"alpha": {"encoder": "hubert_demo", "finetuning": "pr+sid", "tasks": ["pr"], "alphas": "0:1:0.5"}}
    flow = Workflow(parse_experiment(with_combination, "my.yaml"))
    assert flow.merge_models("hubert_demo", "pr+sid", "ties@0.50") == [
        f"results/demo/models/hubert_demo/{finetuning}/stable_ft" for finetuning in ("pr_sentences", "sid_speakers")
    ]
    assert flow.experiment.table_models("multitask") == [
        ("hubert_demo", "none", "pretrained"),
        *(("hubert_demo", "pr+sid", method) for method in ("speech_ft", "ties", "ties@0.50")),
    ]
    assert json.loads(flow.recipe("merge/ties"))["parameters"] == {"density": 0.2}
    # The mean of several fine-tuned models is no model of the tables.
    assert [method for _, (_, _, method) in flow.experiment.curve_models("alpha")] == ["pretrained", "speech_ft@0.50", "speech_ft@1.00"]
    assert json.loads(flow.recipe("curves/alpha"))["end"] == "Speech-FT, full step"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d["combinations"]["pr+sid"].update(of=["pr_sentences", "er"]), "combinations.pr+sid.of: 'er' is not defined"),
        (lambda d: d["combinations"]["pr+sid"].update(of=["pr_sentences"]), "combinations.pr+sid.of: Tuple should have at least 2 items"),
        (lambda d: d["combinations"]["pr+sid"].update(of=["pr_sentences"] * 2), "combinations.pr+sid.of: a fine-tuning appears twice"),
        (lambda d: d["combinations"].update(sid_speakers=d["combinations"]["pr+sid"]), "combinations.sid_speakers: a fine-tuning has this"),
        (lambda d: d["tables"]["multitask"].update(methods=["stable_ft"]), "'stable_ft' trains, and 'pr+sid' is a combination"),
        (
            lambda d: d["tables"]["multitask"].update(methods=["slerp"]),
            "merges by slerp, which does not take the number of models of 'pr+sid'",
        ),
        (
            lambda d: d["methods"]["ties"]["recipe"].update(method="tise"),
            "There is no merge method 'tise'. Did you mean 'ties'? There are ",
        ),
        (lambda d: d["methods"]["ties"]["recipe"]["parameters"].update(densty=1), "densty: unknown key; did you mean 'density'?"),
    ],
)
def test_mistakes_in_combinations_and_merges(with_combination, change, expected):
    change(with_combination)
    assert expected in message(with_combination)


def test_a_combination_has_one_start(demo):
    recipe = {"like": "sid", "updates": 5}
    demo["finetunings"]["sid"] = {"corpus": "speakers", "recipe": recipe}
    demo["finetunings"]["later"] = {"corpus": "speakers", "recipe": recipe, "start": "pr_sentences/stable_ft"}
    demo["combinations"] = {"both": {"of": ["pr_sentences", "sid"]}}
    flow = Workflow(parse_experiment(demo, "my.yaml"))
    assert flow.start("hubert_demo", "both") == flow.weights("hubert_demo", "none", "pretrained")
    assert flow.start("hubert_demo", "later") == flow.weights("hubert_demo", "pr_sentences", "stable_ft")
    demo["combinations"]["both"]["of"] = ["sid", "later"]
    assert "combinations.both.of: these start from different models (none/pretrained, pr_sentences/stable_ft)" in message(demo)


@pytest.fixture
def with_rows(demo):
    demo["finetunings"]["sid_speakers"] = {"corpus": "speakers", "recipe": {"task": "sid", "updates": 10}}
    demo["combinations"] = {"pr+sid": {"of": ["pr_sentences", "sid_speakers"]}}
    demo["encoders"]["fbank"] = {"kind": "fbank"}
    rows = [
        {"model": "none/pretrained"},
        {"model": "pr_sentences/stable_ft", "label": "PR alone"},
        {"model": "pr+sid/speech_ft@1.00", "label": "Average"},
    ]
    demo["tables"]["multitask"] = {"title": "PR and SID", "encoders": ["fbank", "hubert_demo"], "rows": rows, "tasks": ["pr", "sid"]}
    return demo


def test_rows_can_be_listed_one_by_one(with_rows):
    flow = Workflow(parse_experiment(with_rows, "my.yaml"))
    assert flow.experiment.table_models("multitask") == [
        ("fbank", "none", "pretrained"),
        ("hubert_demo", "none", "pretrained"),
        ("hubert_demo", "pr_sentences", "stable_ft"),
        ("hubert_demo", "pr+sid", "speech_ft@1.00"),
    ]
    assert [row["label"] for row in json.loads(flow.recipe("tables/multitask"))["rows"]] == ["FBANK", "Pre-trained", "PR alone", "Average"]
    assert "results/demo/cells/hubert_demo/pr+sid/speech_ft@1.00/sid.json" in flow.cells("multitask")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.update(finetunings=["sid_speakers"]), "needs `finetunings`, or `rows`, and not both"),
        (lambda t: t.pop("rows"), "needs `finetunings`, or `rows`, and not both"),
        (lambda t: t.update(methods=["stable_ft"]), "methods: `rows` name the method of each row"),
        (lambda t: t["rows"].append({"model": "none/pretrained"}), "rows: none/pretrained appears twice"),
        (lambda t: t["rows"].append({"model": "sid/stable_ft"}), "tables.multitask.rows: 'sid' is not defined"),
        (lambda t: t["rows"].append({"model": "sid_speakers/ties"}), "tables.multitask.rows: 'ties' is not defined"),
        (lambda t: t["rows"].append({"model": "sid_speakers/speech_ft@0.5"}), "write speech_ft@0.50"),
        (lambda t: t["rows"].append({"model": "sid_speakers/pretrained"}), "the pre-trained encoder is none/pretrained, not sid_speakers"),
        (lambda t: t["rows"].append({"model": "pr+sid/stable_ft"}), "'stable_ft' trains, and 'pr+sid' is a combination"),
        (lambda t: t["rows"].append({"model": "stable_ft"}), "tables.multitask.rows.3.model"),
        (lambda t: t["rows"].append({"modle": "x/y"}), "did you mean 'model'?"),
    ],
)
def test_mistakes_in_rows(with_rows, change, expected):
    change(with_rows["tables"]["multitask"])
    assert expected in message(with_rows)


def test_tables_know_the_command_that_makes_a_cell(with_curve, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flow = Workflow(parse_experiment(with_curve, "x"), ["config/my demo.yaml", str(tmp_path / "more.yaml"), "/elsewhere/last.yaml"])
    command = "snakemake --cores all --configfile 'config/my demo.yaml' more.yaml /elsewhere/last.yaml -- results/demo/cells/"
    assert json.loads(flow.recipe("tables/demo"))["command"] == command
    assert json.loads(flow.recipe("curves/alpha"))["command"] == command
    assert json.loads(Workflow(parse_experiment(with_curve, "x")).recipe("tables/demo"))["command"] is None
