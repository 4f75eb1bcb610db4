"""Values that no recipe can have: one error that names the key."""

import copy
import math

import pytest
from experiment.edits import put

from speechft.errors import ConfigError
from speechft.recipes.evaluation import EvaluationRecipe
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.pretraining import PretrainRecipe
from speechft.recipes.values import validate

NOT_FINITE = [math.inf, -math.inf, math.nan]
EVALUATION = {"task": "ks", "protocol": "quick", "steps": 4, "batch_size": 4, "eval_every": 2, "learning_rates": [0.1]}
FINETUNING = {"task": "sid", "updates": 2, "batch_size": 4, "validate_every": 1}


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize(
    ("model", "values", "key"),
    [
        *((EvaluationRecipe, EVALUATION, key) for key in ("clip_norm", "cache_gb", "learning_rates.1", "task_options.silence")),
        *((FinetuneRecipe, FINETUNING, key) for key in ("peak_lr", "l2", "max_batch_seconds")),
        (PretrainRecipe, {}, "peak_lr"),
    ],
)
def test_numbers_that_are_not_finite_are_refused_by_key(model, values, key, value):
    filled = copy.deepcopy(values)
    put(filled, key, value)
    with pytest.raises(ConfigError, match=rf"r\.json: 1 problem\n  {key}: Input should be a finite number, found {value}$"):
        validate(model, filled, "r.json")


def test_a_long_value_is_not_printed_whole():
    for value in (10**5000, "x" * 5000):
        with pytest.raises(ConfigError) as refused:
            validate(FinetuneRecipe, {**FINETUNING, "peak_lr": value}, "r.json")
        assert len(str(refused.value)) < 300
