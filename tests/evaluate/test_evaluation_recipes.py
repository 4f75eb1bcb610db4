"""Recipes that are SUPERB's, and changes that need `protocol: quick`."""

import pytest
from conftest import ROOT
from evaluate.corpora import SMALL

from speechft.errors import ConfigError
from speechft.recipes.evaluation import EvaluationRecipe, evaluation_recipe
from speechft.tasks.catalog import KINDS

QUICKLY = {"protocol": "quick"}
PUBLISHED = {
    "pr": (100_000, 16, 2, "Adam", 1.0, 1000),
    "asr": (200_000, 32, 1, "Adam", 1.0, 2000),
    "ks": (200_000, 32, 1, "Adam", 1.0, 5000),
    "sid": (200_000, 8, 4, "Adam", 1.0, 5000),
    "asv": (200_000, 10, 5, "AdamW", 1e3, 20_000),
    "sd": (30_000, 8, 4, "Adam", 1.0, 500),
    "er": (30_000, 4, 8, "Adam", 1.0, 1000),
    "ic": (200_000, 32, 1, "Adam", 1.0, 5000),
    "sf": (200_000, 32, 1, "Adam", 1.0, 2000),
}
"""The configurations that s3prl 0.4.18 ships: steps, batch, accumulated batches, optimizer, limit of the gradient, steps between dev."""


@pytest.mark.parametrize("task", PUBLISHED)
def test_recipes_of_superb_are_the_published_ones(task):
    recipe = evaluation_recipe(task)
    found = (recipe.steps, recipe.batch_size, recipe.accumulate, recipe.optimizer, recipe.clip_norm, recipe.eval_every)
    assert (recipe.protocol, found) == ("superb", PUBLISHED[task])


@pytest.mark.parametrize(
    ("task", "changes", "expected"),
    [
        ("pc", {}, {"steps": 20_000}),
        ("sid", {}, {"crop_draws": "every"}),
        ("asv", QUICKLY, {"crop_draws": "every"}),
        ("sid", QUICKLY, {"crop_draws": 1}),
        ("ks", {}, {"crop_draws": 1, "precision": "fp32"}),
        ("ks", QUICKLY, {"precision": "fp32"}),
    ],
)
def test_values_that_are_not_given(task, changes, expected):
    values = evaluation_recipe(task, changes).model_dump(mode="json")
    assert expected.items() <= values.items()
    assert EvaluationRecipe.model_validate(values).model_dump(mode="json") == values


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("ks", {"steps": 1}, r"steps=1 is not SUPERB's \(200000\)"),
        ("sid", {"crop_draws": 4}, r"crop_draws=4 is not SUPERB's \(every\)"),
        *((task, {"precision": "bf16"}, r"precision=bf16 is not SUPERB's \(fp32\)") for task in ("ks", "qbe", "pc")),
        *(
            (task, {"task_options": options}, f"task_options {', '.join(sorted(options))}: not SUPERB's head or loss")
            for task, options in (("asr", SMALL), ("sf", {"spec_augment": False}), ("asv", {"width": 8}), ("sd", {"hidden": 8}))
        ),
    ],
)
def test_what_needs_the_quick_protocol(task, changes, message):
    with pytest.raises(ConfigError, match=f"{message}; write `protocol: quick`"):
        evaluation_recipe(task, changes)
    if task != "qbe":
        values = evaluation_recipe(task, changes | QUICKLY).model_dump(mode="json")
        assert changes.items() <= values.items()


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("asv", {"crop_draws": 4}, "is not possible with task 'asv'"),
        ("sid", {"crop_draws": "all"}, "crop_draws"),
        ("ks", {"precision": "fp16"}, "precision"),
        ("ks", {"learning_rates": []}, "trains a head"),
        ("qbe", {"steps": 3}, "trains nothing"),
    ],
)
def test_what_no_protocol_allows(task, changes, message):
    with pytest.raises(ConfigError, match=message):
        evaluation_recipe(task, changes | QUICKLY)


OWN = {"kind": "classification", "task_options": {"label": "accent"}}


@pytest.mark.parametrize(("utterances", "steps", "every"), [(40, 200, 10), (1000, 3200, 160), (10**6, 20_000, 1000)])
def test_steps_follow_from_the_size_of_the_corpus(utterances, steps, every):
    recipe = evaluation_recipe("accent", OWN)
    assert (recipe.steps, recipe.eval_every, recipe.learning_rates, recipe.protocol) == ("auto", "auto", (1e-2, 1e-3, 1e-4), "quick")
    assert recipe.resolved(utterances).counts == (steps, every)
    assert recipe.model_copy(update={"steps": 7}).resolved(utterances).counts == (7, 1)
    superb = evaluation_recipe("pr")
    assert superb.resolved(utterances) == superb


def test_a_recipe_like_that_of_another_task():
    like_er = evaluation_recipe("accent", {**OWN, "like": "er", "steps": 50})
    er = evaluation_recipe("er", {"protocol": "quick", "steps": 50})
    differing = {key for key, value in like_er.model_dump().items() if value != er.model_dump().get(key)}
    assert differing == {"task", "kind", "task_options"}
    assert evaluation_recipe("ks", {"like": "regression"}).steps == "auto"
    assert evaluation_recipe("ks", {"like": "ks"}) == evaluation_recipe("ks")
    with pytest.raises(ConfigError, match=r"recipe of ks: like: Unknown task 'kss'. Did you mean 'ks'"):
        evaluation_recipe("ks", {"like": "kss"})
    with pytest.raises(ConfigError, match=r"batch_size=4 is not SUPERB's \(32\)"):
        evaluation_recipe("ks", {"like": "er", "steps": 200_000, "accumulate": 1, "eval_every": 5000})


def test_a_recipe_says_nothing_of_kinds_where_there_is_none():
    assert "kind" not in evaluation_recipe("pr").model_dump(mode="json")
    assert evaluation_recipe("accent", OWN).model_dump(mode="json")["kind"] == "classification"


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("accent", {}, "Unknown task 'accent'.* A task of your own needs a kind: classification, regression"),
        ("accent", {"kind": "clasification"}, "Did you mean 'classification'"),
        ("er", {"kind": "classification"}, "Task 'er' already exists and has no kind"),
        ("accent", {**OWN, "protocol": "superb"}, "not SUPERB's; omit it, or write quick"),
        ("accent", {"kind": "classification", "task_options": {"metric": "mse"}}, "Unknown metric of kind classification 'mse'"),
        ("voice", {"kind": "verification", "crop_draws": 2}, "is not possible with task 'voice'"),
        ("accent", {**OWN, "steps": "many"}, "steps"),
    ],
)
def test_recipes_of_ones_own_that_cannot_be(task, changes, message):
    with pytest.raises(ConfigError, match=message):
        evaluation_recipe(task, changes)


def test_every_key_is_explained():
    page = (ROOT / "docs/tasks.md").read_text()
    keys = set(EvaluationRecipe.model_fields) - {"task", "kind"} | {"like"}
    assert {key for key in keys if f"| `{key}` |" not in page} == set()
    assert all(f"`{kind}`" in page and all(f"`{metric.key}`" in page for metric in entry.metrics) for kind, entry in KINDS.items())
