"""Recipes that are SUPERB's, and changes that need `protocol: quick`."""

import pytest
from evaluate.corpora import SMALL

from speechft.errors import ConfigError
from speechft.recipes.evaluation import EvaluationRecipe, evaluation_recipe

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
        ("asv", {"crop_draws": 4}, "does not go with task 'asv'"),
        ("sid", {"crop_draws": "all"}, "crop_draws"),
        ("ks", {"precision": "fp16"}, "precision"),
        ("ks", {"learning_rates": []}, "trains a head"),
        ("qbe", {"steps": 3}, "trains nothing"),
    ],
)
def test_what_no_protocol_allows(task, changes, message):
    with pytest.raises(ConfigError, match=message):
        evaluation_recipe(task, changes | QUICKLY)
