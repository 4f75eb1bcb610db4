"""Tasks of the user's own in an experiment: what is refused when it is read, and what its jobs get."""

import json

import pytest
from experiment.edits import put

from speechft.errors import ConfigError
from speechft.experiment.schema import parse_experiment
from speechft.experiment.workflow import Workflow

TABLE = """path,text,accent,age,spoken,split
a.wav,one,north,21,en,train
b.wav,two,south,34.5,en,test
"""


@pytest.fixture
def values(tmp_path):
    (tmp_path / "mine.csv").write_text(TABLE)
    return {
        "name": "own",
        "corpora": {"mine": {"kind": "csv", "path": str(tmp_path / "mine.csv"), "columns": {"speaker": "spoken"}}},
        "encoders": {"theirs": {"kind": "checkpoint", "path": "theirs"}},
        "finetunings": {"accents": {"corpus": "mine", "recipe": {"task": "accent", "updates": 10}}},
        "tasks": {
            "accent": {"corpus": "mine", "kind": "classification", "label": "accent", "metric": "uar"},
            "age": {"corpus": "mine", "kind": "regression", "label": "age", "recipe": {"like": "er", "steps": 5}},
            "words": {"corpus": "mine", "kind": "ctc", "recipe": {"task_options": {"hidden": 8}}},
        },
        "tables": {"own": {"title": "Own", "encoders": ["theirs"], "finetunings": ["accents"], "tasks": ["accent", "age", "words"]}},
        "curves": {"alpha": {"encoder": "theirs", "finetuning": "accents", "tasks": ["age"]}},
    }


def test_recipes_have_all_that_a_job_needs(values):
    flow = Workflow(parse_experiment(values, "own.yaml"))
    accent, age, words = (json.loads(flow.recipe(f"evaluate/{task}")) for task in ("accent", "age", "words"))
    assert (accent["kind"], accent["task_options"], accent["steps"]) == ("classification", {"label": "accent", "metric": "uar"}, "auto")
    assert (age["kind"], age["task_options"], age["steps"], age["batch_size"]) == ("regression", {"label": "age"}, 5, 4)
    assert (words["kind"], words["task_options"]) == ("ctc", {"hidden": 8})
    tuning = json.loads(flow.recipe("finetune/accents/stable_ft"))
    assert (tuning["task"], tuning["kind"], tuning["task_options"]) == ("accent", "classification", accent["task_options"])
    assert (tuning["updates"], tuning["batch_size"]) == (10, 16), "the rest is the preset of the kind"
    columns = [metric["key"] for metrics in json.loads(flow.recipe("tables/own"))["metrics"].values() for metric in metrics]
    assert columns == ["accent_uar", "age_mse", "words_cer"]
    assert json.loads(flow.recipe("curves/alpha"))["metrics"]["age"][0]["highest"] is None


def test_changes_of_a_task_leave_the_corpus_alone(values):
    before = Workflow(parse_experiment(values, "own.yaml")).recipe("corpora/mine")
    put(values, "tasks.accent.label", "text")
    put(values, "tasks.more", {"corpus": "mine", "kind": "classification", "label": "accent"})
    assert Workflow(parse_experiment(values, "own.yaml")).recipe("corpora/mine") == before


MISTAKES = [
    (
        "tasks.accent.label",
        "acent",
        "has no column 'acent' to predict. Did you mean 'accent'? Columns: text, accent, age, speaker",
    ),
    ("tasks.accent.label", "split", "has no column 'split' to predict"),
    ("tasks.accent.label", "spoken", "column 'spoken' is read as 'speaker'; write `label: speaker`"),
    ("tasks.age.label", "text", "mine.csv, row 2: text of a.wav is 'one', not a number (and 1 more)"),
    ("tasks.accent.metric", "mse", "recipe of accent: 1 problem"),
    ("tasks.accent.kind", "clasification", "Unknown kind of task 'clasification'. Did you mean 'classification'?"),
    ("tasks.accent.kind", ..., "label and metric are for a task of your own; add its `kind`"),
    ("tasks.pr", {"corpus": "mine", "kind": "ctc"}, "Task 'pr' already exists and has no kind"),
    ("tasks.who", {"corpus": "mine", "kind": "verification"}, "tasks.who: kind verification needs trials, but corpus mine has none"),
    ("tasks.a/b", {"corpus": "mine", "kind": "ctc"}, "tasks.a/b"),
    ("tasks.dialect", {"corpus": "mine"}, "Unknown task 'dialect'."),
    ("finetunings.accents.recipe.task", "acent", "finetunings.accents.recipe.task: 'acent' is not defined"),
    ("finetunings.accents.recipe.task_options", {"label": "acent"}, "finetunings.accents.recipe: label: "),
    ("finetunings.accents.recipe.kind", "clasification", "Unknown kind of task 'clasification'"),
    ("finetunings.accents.recipe.kind", "regression", "finetunings.accents.recipe: label: "),
    ("tables.own.tasks", ["accent", "agee"], "tables.own.tasks: 'agee' is not defined"),
]


@pytest.mark.parametrize(("path", "value", "words"), MISTAKES)
def test_mistakes_are_named(path, value, words, values):
    put(values, path, value)
    with pytest.raises(ConfigError) as caught:
        parse_experiment(values, "own.yaml")
    assert words in str(caught.value)


def test_a_table_that_is_not_there_is_not_looked_at(values, tmp_path):
    (tmp_path / "mine.csv").unlink()
    put(values, "tasks.accent.label", "acent")
    parse_experiment(values, "own.yaml")


def test_a_union_needs_the_column_in_each_member(values, tmp_path):
    (tmp_path / "other.csv").write_text("path,text\nc.wav,three\n")
    values["corpora"] |= {"other": {"kind": "csv", "path": str(tmp_path / "other.csv")}, "all": {"kind": "union", "of": ["mine", "other"]}}
    values["corpora"]["all"]["of"] += ["all"]  # what is in itself is looked at once
    put(values, "tasks.accent.corpus", "all")
    with pytest.raises(ConfigError, match=r"other\.csv has no column 'accent'"):
        parse_experiment(values, "own.yaml")
