"""Plug-ins: what is registered, recorded, printed and refused."""

import json
import subprocess
import sys

import pytest
import yaml
from plugins.conftest import FILES, forget_all
from typer.testing import CliRunner

import speechft
from speechft import plugins
from speechft.cli import app
from speechft.corpora.prepare import read_corpus
from speechft.doctor.experiment import check_experiment
from speechft.errors import ConfigError, CorpusError, MergeError, TaskError
from speechft.experiment.schema import load_experiment
from speechft.experiment.workflow import Workflow
from speechft.files.hashes import sha256_file
from speechft.merge.methods import METHODS, get_method
from speechft.recipes.corpora import PluginCorpus
from speechft.recipes.evaluation import evaluation_recipe
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.merging import MergeRecipe
from speechft.recipes.modules import is_class_name, split_name
from speechft.recipes.values import load_recipe, read_recipe, validate
from speechft.tasks import get_task, task_of
from speechft.tasks.catalog import TASKS


def test_recipes_hold_the_code_that_they_need(page):
    experiment = load_experiment("experiment.yaml")
    hashes = {name: sha256_file(name) for name in FILES}
    files = {
        "merge/farther": ("farther.py",),
        "corpora/words": ("words.py",),
        "evaluate/rate": ("tasks.py", "rate.py"),
    }
    for name, expected in files.items():
        recipe = json.loads(Workflow(experiment).recipe(name))
        assert recipe["plugins"] == {file: hashes[file] for file in expected}
    tuning = validate(FinetuneRecipe, {"like": "rate", "jointly": {"ks": {"task": "ks"}}}, "r")
    assert tuning.model_dump()["plugins"].keys() == {"tasks.py", "rate.py"}
    assert "plugins" not in evaluation_recipe("ks").model_dump()
    assert experiment.encoders["energies"].module == "energies.py:Energies"
    assert (is_class_name("energies"), split_name("energies")) == (True, ("energies.py", "Energies"))


def test_what_is_loaded_is_printed_once(page, capsys):
    load_experiment("experiment.yaml")
    load_experiment("experiment.yaml")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(")")[2] for line in lines] == [": merge method farther", ": corpus words", ": encoder energies", ": task rate"]
    assert lines[0].startswith(f"plug-in farther.py (SHA-256 {sha256_file('farther.py')[:12]}...)")


def test_a_job_loads_the_plugin_from_its_recipe_wherever_it_runs(page, monkeypatch):
    recipe = page / "results/recipes/merge/farther.json"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(Workflow(load_experiment("experiment.yaml")).recipe("merge/farther"))
    plugins.forget("farther.py")
    assert "farther" not in METHODS
    (page / "elsewhere").mkdir()
    monkeypatch.chdir(page / "elsewhere")
    assert load_recipe(MergeRecipe, recipe).method == "farther"
    plugins.forget("farther.py")
    (page / "farther.py").write_text(FILES["farther.py"] + "# an edit\n")
    with pytest.raises(ConfigError, match=r"farther\.py: has SHA-256 .* but the recipe records"):
        load_recipe(MergeRecipe, recipe)
    (page / "farther.py").unlink()
    with pytest.raises(ConfigError, match=r"farther\.py: no such file, needed for a plug-in"):
        load_recipe(MergeRecipe, recipe)


def test_so_does_a_job_with_a_task(page, monkeypatch):
    (page / "r.json").write_text(Workflow(load_experiment("experiment.yaml")).recipe("evaluate/rate"))
    forget_all()
    (page / "elsewhere").mkdir()
    monkeypatch.chdir(page / "elsewhere")
    recipe = read_recipe(page / "r.json")
    assert type(task_of(evaluation_recipe("rate", recipe))).__name__ == "Rate"


def test_an_edit_is_another_recipe(page):
    plugins.load("farther.py")
    before, known = MergeRecipe(method="farther"), METHODS["farther"]
    (page / "farther.py").write_text(FILES["farther.py"].replace("where it was published", "elsewhere"))
    plugins.load("farther.py")
    assert METHODS["farther"] is not known
    assert METHODS["farther"].reference == "elsewhere"
    assert MergeRecipe(method="farther").plugins == {"farther.py": sha256_file("farther.py")} != before.plugins
    with pytest.raises(ConfigError, match=r"plugins: does not match the names in the recipe \(farther.py"):
        validate(MergeRecipe, before.model_dump(), "r")


METHOD = """
import speechft
from speechft.merge.methods.base import MergeMethod
class Mine(MergeMethod):
    reference = summary = "x"
    def target(self, piece): return piece.base
"""
TASK = """
import speechft
from speechft.tasks.catalog import TaskEntry
from speechft.tasks.metric import Metric
error = Metric("mine_error", "error", higher_is_better=False)
steps = {"steps": 10, "eval_every": 5, "batch_size": 4}
here = "mine.py:T", (error,), steps
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\n1 / 0\n", r"mine.py: this plug-in cannot be loaded (mine.py, line 2: ZeroDivisionError: division by zero)."),
        ("def f(:\n", "(mine.py, line 1: SyntaxError"),
        (
            "import no_package\n",
            "line 1: ModuleNotFoundError: No module named 'no_package'). Add the folder of what it imports to PYTHONPATH.",
        ),
        ("raise SystemExit(3)\n", "(mine.py, line 1: SystemExit: 3)"),
        ("import speechft\nspeechft.register('a')\n", "give one of task, merge_method, corpus, encoder, found none"),
        ("import speechft\nspeechft.register('a/b', corpus=print)\n", "registers the corpus 'a/b', which is not a valid name"),
        (f"{METHOD}speechft.register('ties', merge_method=Mine)\n", "registers the merge method 'ties', which is built into speechft"),
        (f"{METHOD}speechft.register('a', merge_method=print)\n", "merge method 'a': is not a class derived from"),
        (f"{METHOD}del Mine.summary\nspeechft.register('a', merge_method=Mine)\n", "merge method 'a': its class Mine has no summary."),
        (f"{METHOD}Mine.name = 'b'\nspeechft.register('a', merge_method=Mine)\n", "its class has the name 'b'"),
        ("import speechft\nspeechft.register('a', corpus=3)\n", "corpus 'a': is not a function."),
        ("import speechft\nspeechft.register('a', encoder='enc.py')\n", "encoder 'a': 'enc.py' is not the name of a class"),
        (
            f"{TASK}speechft.register('a', task=TaskEntry(*here, measured_as='ks'))\n",
            "task 'a': measured_as: unknown head",
        ),
        (f"{TASK}speechft.register('a', task=TaskEntry('t:T', (), steps))\n", "needs metrics with distinct keys"),
        (f"{TASK}speechft.register('ctc', task=TaskEntry(*here))\n", "the name of a task, kind"),
        (f"{TASK}speechft.register('a', task=TaskEntry('t', (error,), steps))\n", "its path 't' does not name a class"),
        (f"{TASK}speechft.register('a', task=TaskEntry('t.py:T', (error,), {{}}))\n", "needed for a plug-in"),
        (f"{TASK}speechft.register('a', task=TaskEntry('mine.py:T', (error,), {{}}))\n", "steps: is missing"),
        (
            f"{TASK}speechft.register('a', task=TaskEntry(*here, {{'update': 3}}))\n",
            "update: unknown key; did you mean 'updates'",
        ),
    ],
)
def test_refusals(code, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(ConfigError) as caught:
        plugins.load("mine.py")
    assert said in str(caught.value)
    assert not plugins._LOADED, "nothing of it stays"
    assert not plugins._PROVIDERS


def test_one_name_of_two_plugins(page):
    (page / "other.py").write_text(FILES["farther.py"])
    plugins.load("farther.py")
    with pytest.raises(ConfigError, match=r"other.py: registers the merge method 'farther', which farther.py has already registered"):
        plugins.load("other.py")
    assert MergeRecipe(method="farther").plugins.keys() == {"farther.py"}


def test_the_experiment_names_what_is_wrong(page):
    def said(**changes):
        forget_all()
        values = yaml.safe_load(FILES["experiment.yaml"])
        (page / "e.yaml").write_text(yaml.safe_dump(values | changes))
        with pytest.raises(ConfigError) as caught:
            load_experiment("e.yaml")
        return str(caught.value)

    assert "Unknown merge method 'farther'." in said(plugins=["words.py", "names.py", "tasks.py"])
    assert "Unknown reader 'words'. Available: none. Name its plug-in under `plugins`" in said(plugins=["farther.py", "tasks.py"])
    asked = {"kind": "plugin", "reader": "words", "path": "words", "options": {"wthout": []}}
    assert "the reader 'words' does not accept them (got an unexpected keyword argument 'wthout')" in said(corpora={"words": asked})
    assert "tasks.rate: Input should be" not in (found := said(tasks={"rate": {"corpus": "words", "recipe": {"protocol": "superb"}}}))
    assert "protocol=superb: 'rate' is a task of your own" in found
    assert "plugins.1" in said(plugins=["farther.py", 3])


def test_a_reader_that_fails_names_its_line(page):
    plugins.load("words.py")
    recipe = PluginCorpus(kind="plugin", reader="words", path="words", options={"without": 3})
    (page / "words/on").mkdir(parents=True)
    (page / "words/on/anna_2.wav").touch()
    line = 1 + FILES["words.py"].splitlines().index("        elif word not in without:")
    with pytest.raises(CorpusError, match=rf"words: reader 'words' fails \(TypeError: .*; .*words.py, line {line}\)"):
        read_corpus(recipe)
    speechft.register("lists", corpus=lambda path: [path])
    with pytest.raises(CorpusError, match="reader 'lists' returns a list. Return a Listing"):
        read_corpus(PluginCorpus(kind="plugin", reader="lists", path="words"))


def test_a_task_as_the_plugin_registers_it(page):
    plugins.load("tasks.py")
    (page / "rate.py").write_text(FILES["rate.py"] + "# an edit\n")
    with pytest.raises(ConfigError, match="rate.py: has SHA-256"):
        get_task("rate")
    (page / "rate.py").write_text(FILES["rate.py"])
    task = get_task("rate")
    assert (task.name, task.metrics) == ("rate", TASKS["rate"].metrics)
    assert (TASKS["rate"].superb, task.selection_metric.title) == (False, "rate error letters/s ↓")
    with pytest.raises(TaskError, match=r"Task 'rate': .*See the options of rate.py.Rate"):
        get_task("rate", fast=True)


def test_classes_in_one_file(page):
    one_file = FILES["rate.py"] + '    metrics = (Metric("rate_error", "error", higher_is_better=False),)\n'
    one_file += '    recipe, features = {"steps": 10, "eval_every": 5, "batch_size": 4}, "pooled"\n    train_crop_seconds = 4.0\n'
    head = "import speechft\nfrom speechft.tasks.metric import Metric\n"
    (page / "one.py").write_text(head + one_file + 'speechft.register("speed", task=Rate)\n')
    (page / "two.py").write_text("import speechft\n" + FILES["energies.py"] + 'speechft.register("levels", encoder=Energies)\n')
    plugins.load("one.py")
    plugins.load("two.py")
    entry = TASKS["speed"]
    assert (entry.path, entry.crop_seconds, entry.features, entry.head_measured_as) == ("one.py:Rate", 4.0, "pooled", "ks")
    assert get_task("speed").metrics == entry.metrics
    assert evaluation_recipe("speed").plugins.keys() == {"one.py"}
    assert split_name("levels") == ("two.py", "Energies")


def test_doctor_lists_plugins_and_verbs_take_them(page):
    _, _, findings = check_experiment(page / "experiment.yaml", named=True, corpora=False)
    found = {finding.name: finding.found for finding in findings}
    assert found["plug-in tasks.py"] == f"SHA-256 {sha256_file('tasks.py')[:12]}..., task rate"
    for verb in ("evaluate a b c", "merge a b", "prepare", "finetune a b", "check-encoder a"):
        done = CliRunner().invoke(app, [*verb.split(), *(["--out", "x"] if verb[:5] != "check" else []), "--plugin", "none.py"])
        assert "none.py: no such file, needed for a plug-in" in str(done.exception)


def test_an_experiment_with_plugins_is_read_without_torch(page):
    code = (
        "import sys; from speechft.experiment.schema import load_experiment; from speechft.tables.experiment import build_experiment;"
        "load_experiment('experiment.yaml'); print(sorted({'torch', 'lhotse', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    code = "import sys, speechft; print(len({'pydantic', 'importlib.metadata'} & set(sys.modules)), speechft.register.__name__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "0 register\n"


def test_a_session_replaces_what_it_registered():
    for reference in ("first", "second"):
        names = {}
        exec(METHOD.replace('"x"', repr(reference)), names)
        names["speechft"].register("mine", merge_method=names["Mine"])
    assert get_method("mine").reference == "second"
    with pytest.raises(MergeError, match="Unknown merge method 'yours'"):
        get_method("yours")
