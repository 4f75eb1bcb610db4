"""Values that no recipe and no experiment can have: one error that names the key."""

import copy
import math

import pytest

from speechft.errors import ConfigError
from speechft.experiment.schema import load_experiment
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
        (EvaluationRecipe, {**EVALUATION, "clip_norm": None}, "clip_norm"),
        (EvaluationRecipe, {**EVALUATION, "cache_gb": None}, "cache_gb"),
        (EvaluationRecipe, {**EVALUATION, "learning_rates": [0.1, None]}, "learning_rates.1"),
        (EvaluationRecipe, {**EVALUATION, "task_options": {"silence": None}}, "task_options.silence"),
        (FinetuneRecipe, {**FINETUNING, "peak_lr": None}, "peak_lr"),
        (FinetuneRecipe, {**FINETUNING, "l2": None}, "l2"),
        (FinetuneRecipe, {**FINETUNING, "max_batch_seconds": None}, "max_batch_seconds"),
        (PretrainRecipe, {"peak_lr": None}, "peak_lr"),
    ],
)
def test_numbers_that_are_not_finite_are_refused_by_key(model, values, key, value):
    filled = copy.deepcopy(values)
    place, last = filled, key.split(".")
    for part in last[:-1]:
        place = place[part]
    place[int(last[-1]) if last[-1].isdigit() else last[-1]] = value
    with pytest.raises(ConfigError, match=rf"r\.json: 1 problem\n  {key}: Input should be a finite number, found {value}$"):
        validate(model, filled, "r.json")


@pytest.mark.parametrize("text", ["results: 2024-13-45", "[" * 5000, f"results: {'9' * 5000}", "results: [x", "? [a]\n: b"])
def test_text_that_is_no_yaml_is_one_error(tmp_path, text):
    (tmp_path / "e.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"e\.yaml: "):
        load_experiment(tmp_path / "e.yaml")


def test_a_long_value_is_not_printed_whole():
    for value in (10**5000, "x" * 5000):
        with pytest.raises(ConfigError) as refused:
            validate(FinetuneRecipe, {**FINETUNING, "peak_lr": value}, "r.json")
        assert len(str(refused.value)) < 300
