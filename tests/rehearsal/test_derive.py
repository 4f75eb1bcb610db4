"""`speechft rehearse`: what a derived experiment keeps, what becomes smaller, and what is refused."""

import re

import pytest
import yaml
from conftest import ROOT
from typer.testing import CliRunner

from speechft.cli import app
from speechft.doctor.needs import look_at
from speechft.encoders import load_encoder, random_encoder
from speechft.errors import ConfigError, CorpusError, OutputError
from speechft.experiment.schema import load_experiment
from speechft.experiment.workflow import Workflow
from speechft.recipes.pretraining import ContinuedPretrainRecipe
from speechft.rehearsal import derive, rehearse
from speechft.rehearsal.sizes import HEAD_ONLY_UPDATES, SIZES
from speechft.tasks.catalog import known_entry

PAPER, MINI, DEMO = (f"config/{name}.yaml" for name in ("paper", "mini", "demo"))
LIMITS = {(size.where, size.key): size.most for size in SIZES}


@pytest.fixture(autouse=True)
def root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """The paper's experiment, and its rehearsal on stand-ins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        made = rehearse(PAPER, tmp_path_factory.mktemp("rehearsal"), corpora="stand-ins", encoders="tiny")
        yield load_experiment(PAPER), load_experiment(made.experiment)


def stage1(experiment):
    """Recipes of stage 1 by fine-tuning and method: all for fine-tunings on a task, whatever the tables use."""
    flow = Workflow(experiment)
    for tuning in experiment.finetunings:
        for method in flow.trained_methods if tuning in flow.labelled_finetunings else ["stable_ft"]:
            yield (tuning, method), experiment.finetune_recipe(tuning, method)


def changed(folder, edit):
    values = yaml.safe_load((ROOT / DEMO).read_text())
    edit(values)
    (folder / "changed.yaml").write_text(yaml.safe_dump(values))
    return folder / "changed.yaml"


def test_names_kinds_rows_and_targets_stay(paper):
    whole, small = paper
    for field in ("corpora", "encoders", "finetunings", "methods", "tasks"):
        assert list(getattr(whole, field)) == list(getattr(small, field))
    for field in ("tables", "curves", "combinations"):
        assert getattr(whole, field) == getattr(small, field)
    for field in ("corpora", "encoders"):
        for large, little in zip(getattr(whole, field).values(), getattr(small, field).values(), strict=True):
            assert (type(large), getattr(large, "use", None)) == (type(little), getattr(little, "use", None))
    targets = [target.removeprefix(small.results.as_posix()) for target in Workflow(small).targets()]
    assert targets == [target.removeprefix("results") for target in Workflow(whole).targets()]


def heads_are_small(recipe):
    limits = {key: LIMITS["head", key] for key in known_entry(recipe.kind or recipe.task).head_options if ("head", key) in LIMITS}
    return all(recipe.task_options[key] <= most for key, most in limits.items())


def test_nothing_of_stage_1_differs_but_sizes(paper):
    whole, small = paper
    with_head_phase = 0
    for (name, large), (same, little) in zip(stage1(whole), stage1(small), strict=True):
        assert name == same
        where = "pretrain" if isinstance(large, ContinuedPretrainRecipe) else "finetune"
        sizes = {key for part, key in LIMITS if part == where} | {"like", "task_options", "jointly"}
        assert large.model_dump(exclude=sizes) == little.model_dump(exclude=sizes)
        for key in sizes - {"like", "task_options", "jointly", "updates", "warmup_updates"}:
            assert getattr(little, key) == min(getattr(large, key), LIMITS[where, key]), (name, key)
        if where == "finetune":
            scaled = {"lexicon", *(key for part, key in LIMITS if part == "head")}
            kept = [{key: value for key, value in recipe.task_options.items() if key not in scaled} for recipe in (large, little)]
            assert kept[0] == kept[1]
            assert heads_are_small(little)
            assert large.jointly.keys() == little.jointly.keys()
        if little.head_only:
            with_head_phase += 1
            assert little.head_only * little.updates >= HEAD_ONLY_UPDATES
    assert with_head_phase > len(whole.finetunings)


def test_nothing_of_evaluation_differs_but_sizes_and_what_tables_say(paper):
    whole, small = paper
    sizes = {key for part, key in LIMITS if part == "evaluate"}
    for task in whole.tasks:
        large, little = whole.evaluation_recipe(task), small.evaluation_recipe(task)
        same = sizes | {"protocol", "task_options"}
        assert large.model_dump(exclude=same) == little.model_dump(exclude=same)
        assert little.protocol == "quick"
        assert little.steps == min(large.steps, LIMITS["evaluate", "steps"])
        assert little.learning_rates == large.learning_rates[: int(LIMITS["evaluate", "learning_rates"])]
        assert heads_are_small(little)


def test_a_csv_corpus_that_is_not_there_gets_the_columns_that_its_tasks_read(tmp_path):
    kinds = {"accent": "classification", "age": "regression", "moods": "multilabel", "vad": "frame_classification"}
    tasks = {name: {"corpus": "gone", "kind": kind, "label": name} for name, kind in kinds.items()}
    tasks |= {"words": {"corpus": "all", "kind": "ctc"}, "voice": {"corpus": "gone", "kind": "verification"}, "sid": {"corpus": "gone"}}
    gone = {"kind": "csv", "path": str(tmp_path / "no.csv"), "columns": {"speaker": "who"}, "trials": str(tmp_path / "no_trials.csv")}
    values = {
        "name": "own",
        "corpora": {
            "gone": gone,
            "other": {"kind": "csv", "path": str(tmp_path / "nor.csv")},
            "all": {"kind": "union", "of": ["other"] * 2},
        },
        "encoders": {"fbank": {"kind": "fbank"}},
        "finetunings": {"accents": {"corpus": "gone", "recipe": {"task": "accent"}}},
        "tasks": tasks,
        "tables": {"own": {"title": "Own", "encoders": ["fbank"], "rows": [{"model": "none/pretrained"}], "tasks": list(tasks)}},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(values))
    small = load_experiment(rehearse(tmp_path / "own.yaml", tmp_path / "out", corpora="stand-ins").experiment)
    assert all(heads_are_small(small.evaluation_recipe(task)) for task in tasks)
    assert [look_at(small, corpus, {}).unmet for corpus in ("gone", "other")] == [(), ()]
    assert [look_at(small, corpus, {}).problems for corpus in ("gone", "other")] == [(), ()]
    values["tasks"]["sf"] = {"corpus": "gone"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(CorpusError, match=r"no\.csv: no such file"):
        rehearse(tmp_path / "own.yaml", tmp_path / "out", corpora="stand-ins")


@pytest.mark.parametrize("gpus", [True, False])
def test_resources_are_small_and_gpus_are_a_choice(tmp_path, gpus):
    made = rehearse(PAPER, tmp_path / "out", corpora="stand-ins", encoders="tiny", gpus=gpus)
    small = load_experiment(made.experiment).resources.finetune
    assert (small.threads, small.mem_mb, small.runtime) == (1, 8000, 60)
    assert small.gpu == (load_experiment(PAPER).resources.finetune.gpu if gpus else 0)


def test_ones_own_corpora_are_cut_and_ones_own_encoders_stay(tmp_path):
    small = load_experiment(rehearse(MINI, tmp_path / "out").experiment)
    assert {corpus.first for corpus in small.corpora.values()} == {12}
    assert small.encoders == load_experiment(MINI).encoders
    assert small.results == tmp_path / "out/results"
    assert "rehearsal" in small.note


def test_models_of_families_that_come_as_directories_are_small_directories(tmp_path):
    def edit(values):
        values["encoders"]["hubert_mini"] = {"kind": "checkpoint", "path": "openai/whisper-tiny", "family": "whisper"}

    small = load_experiment(rehearse(changed(tmp_path, edit), tmp_path / "out", encoders="tiny").experiment)
    assert load_encoder(small.encoders["hubert_mini"].path).family == "whisper"


def test_a_second_rehearsal_in_the_same_folder_keeps_its_results(tmp_path):
    rehearse(DEMO, tmp_path / "out")
    (tmp_path / "out/results").mkdir()
    (tmp_path / "out/results/kept.txt").write_text("kept")
    rehearse(DEMO, tmp_path / "out")
    assert (tmp_path / "out/results/kept.txt").read_text() == "kept"


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(ConfigError, match="Name a new folder with --out"):
            rehearse(DEMO, folder)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    with pytest.raises(ConfigError, match="is a link"):
        rehearse(DEMO, tmp_path / "link")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "link", "mine.txt"]


def test_a_rehearsal_that_was_killed_while_it_was_written_is_written_again(tmp_path, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(derive, "_evaluation", killed)
        with pytest.raises(KeyboardInterrupt):
            rehearse(DEMO, tmp_path / "out", encoders="tiny")
    assert not (tmp_path / "out/experiment.yaml").exists()
    assert rehearse(DEMO, tmp_path / "out", encoders="tiny").experiment.is_file()


def test_a_folder_inside_a_corpus_is_refused(tmp_path):
    values = yaml.safe_load((ROOT / PAPER).read_text())
    values["corpora"]["timit"]["path"] = str(tmp_path)
    path = tmp_path.with_name("paper.yaml")
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(OutputError, match="is inside the input"):
        rehearse(path, tmp_path / "out", corpora="stand-ins", encoders="tiny")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_inside_an_encoder_is_refused(tmp_path):
    random_encoder("hubert", tmp_path / "encoder")
    encoder = {"kind": "checkpoint", "path": str(tmp_path / "encoder")}
    path = changed(tmp_path, lambda values: values["encoders"].update(hubert_demo=encoder))
    with pytest.raises(OutputError, match="is inside the input"):
        rehearse(path, tmp_path / "encoder/out")


def test_the_shortest_head_only_phase_of_all_methods_decides(tmp_path):
    def edit(values):
        values["finetunings"]["pr_sentences"]["recipe"]["head_only"] = 0.05
        finetune = {"kind": "finetune", "label": "x"}
        short, plain = {**finetune, "changes": {"head_only": 0.02, "updates": 500}}, {**finetune, "changes": {"head_only": 0}}
        merged = {"kind": "merge", "label": "y"}
        values["methods"] |= {"stable_ft": finetune, "short": short, "plain": plain, "speech_ft": merged}

    small = load_experiment(rehearse(changed(tmp_path, edit), tmp_path / "out").experiment)
    recipes = {method: small.finetune_recipe("pr_sentences", method) for method in ("stable_ft", "short", "plain")}
    assert {recipe.updates for recipe in recipes.values()} == {100}
    assert recipes["short"].head_only * recipes["short"].updates == HEAD_ONLY_UPDATES


@pytest.mark.parametrize(
    ("edit", "error", "says"),
    [
        (lambda values: values.update(tables={}, curves={}), ConfigError, "has no table, curve or analysis"),
        (lambda values: values["encoders"].update(hubert_mini={"kind": "checkpoint", "path": "no.pt"}), ConfigError, "no.pt: no such file"),
        (lambda values: values["corpora"]["sentences"].update(path="few.csv"), CorpusError, "a rehearsal needs 4"),
        (lambda values: values["corpora"]["sentences"].update(path="no.csv"), CorpusError, "no.csv: no such file"),
    ],
)
def test_what_cannot_be_rehearsed_is_one_error_and_nothing_is_written(tmp_path, monkeypatch, edit, error, says):
    path = changed(tmp_path, edit)
    (tmp_path / "few.csv").write_text("path,split,text\na.wav,train,A\n")
    (tmp_path / "mini").symlink_to(ROOT / "mini")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(says)):
        rehearse(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_says_how_to_run_it(tmp_path):
    done = CliRunner().invoke(app, ["rehearse", DEMO, "--out", str(tmp_path / "a folder")])
    assert done.exit_code == 0, done.output
    assert f"snakemake --cores all --configfile '{tmp_path}/a folder/experiment.yaml'" in done.output


def test_the_documentation_shows_the_sizes():
    text = (ROOT / "docs/rehearsal.md").read_text()
    rows = re.findall(r"^\| (\w+) +\| `(\w+)` +\| ([\d.]+) +\| (.+?) +\|$", text, re.M)
    assert rows == [(size.where, size.key, f"{size.most:g}", size.meaning) for size in SIZES]
