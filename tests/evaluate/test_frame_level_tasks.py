"""Frame-level heads: learning rates are trained beside each other as they are alone."""

import pytest
import torch
from evaluate.corpora import SMALL

from speechft.errors import ConfigError
from speechft.evaluate.data.features import FrameFeatures
from speechft.evaluate.probes.bank import isolated_rng
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.recipes.evaluation import SUPERB_RECIPES, evaluation_recipe

CPU = torch.device("cpu")


@pytest.fixture
def bank_of(prepare):
    def bank(task, rates, **options):
        made = prepare(task, learning_rates=rates, options={**SMALL, **options})
        targets = made.train.targets
        features = FrameFeatures(made.encoder, made.train.clips)
        return SeparateProbes(made.setting, made.states, made.head), features, lambda rows: (rows, [targets[row] for row in rows])

    return bank


@pytest.mark.parametrize("task", ["asr", "sf"])
def test_weights_of_a_rate_do_not_depend_on_other_rates(task, bank_of):
    """Dropout and augmentation are random, and still do not depend on which other rates there are."""
    states = []
    for rates in ([1e-1, 1e-3, 1e-2], [1e-3]):
        bank, features, batch = bank_of(task, rates)
        with isolated_rng(5, CPU):
            for step in range(4):
                bank.train_step(features, [batch([step, step + 6])] * 2)
        states.append(bank.state(rates.index(1e-3)))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_batches_and_steps_have_dropout_of_their_own(bank_of):
    bank, features, batch = bank_of("asr", [1e-9])
    with isolated_rng(5, CPU):
        losses = [bank.train_step(features, [batch([0, 1])])[0] for _ in range(3)]
    assert len(set(losses)) == 3


@pytest.mark.parametrize("task", ["asr", "sf"])
def test_recurrent_heads_learn(task, bank_of):
    bank, features, batch = bank_of(task, [1e-2], spec_augment=False, dropout=0.0)
    features.keep(1e9, "train")
    losses = [bank.train_step(features, [batch(list(range(6)))])[0] for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]


def test_recipes_are_the_published_ones():
    for task in ("asr", "sf"):
        recipe = evaluation_recipe(task)
        found = (recipe.steps, recipe.batch_size, recipe.accumulate, recipe.optimizer, recipe.clip_norm, recipe.eval_every)
        assert found == (200_000, 32, 1, "Adam", 1.0, 2000)
    assert SUPERB_RECIPES["pc"]["steps"] == 20_000


@pytest.mark.parametrize(
    ("task", "options"), [("asr", SMALL), ("sf", {"spec_augment": False}), ("asv", {"width": 8}), ("sd", {"hidden": 8})]
)
def test_another_head_is_not_superb(task, options):
    with pytest.raises(ConfigError, match=f"task_options {', '.join(sorted(options))}: not SUPERB's head or loss; write"):
        evaluation_recipe(task, {"task_options": options})
    assert evaluation_recipe(task, {"task_options": options, "protocol": "quick"}).task_options == options
