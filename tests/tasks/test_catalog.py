"""Entries of tasks are looked up when they are needed, so that one that is added is known everywhere."""

import pytest

from speechft.errors import TaskError
from speechft.evaluate.protocols import default, protocol_of
from speechft.planning.shapes import base_shape, head_arithmetic
from speechft.recipes.evaluation import evaluation_recipe
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.presets import stage1_recipes
from speechft.tables.metrics import METRICS, task_metrics
from speechft.tasks import get_task
from speechft.tasks.catalog import CLASSES, TASKS, TaskEntry, known_entry, task_entry
from speechft.tasks.er import EmotionRecognition
from speechft.tasks.metric import Metric

GAIN = Metric("MINE_GAIN", "gain", "mine", higher_is_better=True, unit="dB", decimals=1, lowest=-30.0, highest=30.0)


class Mine(EmotionRecognition):
    name = "mine"
    metrics = (GAIN,)


@pytest.fixture
def mine(monkeypatch):
    recipe = {"protocol": "quick", "steps": 5, "batch_size": 2, "eval_every": 5}
    entry = TaskEntry(f"{__name__}:Mine", (GAIN,), recipe, {**CLASSES, "batch_size": 3}, superb=False)
    monkeypatch.setitem(TASKS, "mine", entry)
    return entry


def test_an_added_task_is_known_everywhere(mine):
    assert task_entry("mine") is known_entry("mine") is mine
    task = get_task("mine")
    assert isinstance(task, Mine)
    assert protocol_of(task) is default
    assert evaluation_recipe("mine").steps == 5
    assert (METRICS["MINE_GAIN"], task_metrics(["mine"])) == (GAIN, [GAIN])
    assert FinetuneRecipe.model_validate({"like": "mine"}).batch_size == stage1_recipes()["mine"]["batch_size"] == 3
    assert head_arithmetic("mine", {}, base_shape("hubert")) > 0
    with pytest.raises(TaskError, match="Task 'mine' already exists"):
        task_entry("mine", "regression")


def test_without_it_the_task_is_unknown():
    assert "MINE_GAIN" not in METRICS
    with pytest.raises(TaskError, match="Unknown task 'mine'"):
        task_entry("mine")


@pytest.mark.parametrize(("value", "fits"), [(-30.0, True), (-30.1, False), (30.0, True), (30.1, False)])
def test_values_of_a_metric_stay_in_its_range(value, fits):
    assert GAIN.can_be(value) is fits
    assert (GAIN.range, GAIN.title) == ("-30 to 30", "MINE gain dB ↑")
