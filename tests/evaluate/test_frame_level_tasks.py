"""Frame-level heads: learning rates are trained beside each other as they are alone."""

import pytest
import torch
from evaluate.corpora import SMALL

from speechft.evaluate.data.features import FrameFeatures
from speechft.evaluate.probes.bank import isolated_rng
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.evaluate.probes.training import train_probes
from speechft.evaluate.protocols.default import SplitTraining

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
def test_training_does_not_depend_on_how_often_it_is_evaluated(task, prepare):
    """The reference resets its generators before each evaluation, and dropout after it repeats."""
    states = []
    for eval_every in (1, 6):
        made = prepare(task, learning_rates=[1e-3], steps=6, eval_every=eval_every)
        features = {name: FrameFeatures(made.encoder, split.clips) for name, split in made.splits.items()}
        bank = SeparateProbes(made.setting, made.states, made.head)
        with isolated_rng(5, CPU):
            train_probes(bank, SplitTraining(made.setting.task, made.setting.recipe, made.splits, features), seed=0)
        states.append(bank.training_state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("task", ["asr", "sf"])
def test_recurrent_heads_learn(task, bank_of):
    bank, features, batch = bank_of(task, [1e-2], spec_augment=False, dropout=0.0)
    features.keep(1e9, "train")
    losses = [bank.train_step(features, [batch(list(range(6)))])[0] for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]
