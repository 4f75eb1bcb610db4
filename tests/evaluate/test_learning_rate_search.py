"""`lr_search: halving`: which learning rates are dropped, when, and that the others train as they do in a grid."""

from copy import deepcopy

import pytest
import torch
from evaluate.corpora import QUICK

from speechft.errors import ConfigError
from speechft.evaluate.data.features import FrameFeatures, mean_vectors
from speechft.evaluate.probes.bank import ProbeBank, isolated_rng
from speechft.evaluate.probes.checkpoints import TrainingFile
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.evaluate.probes.stacked import StackedProbes
from speechft.evaluate.probes.training import select, train_probes
from speechft.evaluate.protocols.default import SplitTraining
from speechft.recipes.evaluation import evaluation_recipe

SEVEN = tuple(10.0**-power for power in range(1, 8))
SEARCH = {"lr_search": "halving", "steps": 50, "eval_every": 10, "learning_rates": SEVEN}
"""Rungs at 4 and 14 steps."""


@pytest.mark.parametrize("changes", [{}, {"protocol": "quick"}, {"protocol": "quick", "lr_search": "halving"}])
def test_halving_is_for_those_who_ask(changes):
    recipe = evaluation_recipe("ks", changes)
    assert recipe.lr_search == changes.get("lr_search", "grid")
    # Recipes that say nothing of it keep their hash, and every recipe is read as it was written.
    assert recipe.model_dump(mode="json").get("lr_search") == changes.get("lr_search")
    assert evaluation_recipe("ks", recipe.model_dump(mode="json")) == recipe


def test_superb_is_a_grid():
    with pytest.raises(ConfigError, match=r"lr_search=halving is not SUPERB's \(grid\); write `protocol: quick`"):
        evaluation_recipe("ks", {"lr_search": "halving"})


@pytest.mark.parametrize(
    ("count", "rungs", "rates"), [(7, {160: 4, 560: 2}, 2.8), (3, {560: 2}, 2.28), (5, {160: 3, 560: 2}, 2.44), (2, {}, 2), (1, {}, 1)]
)
def test_rungs_and_their_cost(count, rungs, rates):
    changes = {"protocol": "quick", "steps": 2000, "lr_search": "halving", "learning_rates": SEVEN[:count]}
    recipe = evaluation_recipe("ks", changes)
    assert recipe.rungs == rungs
    assert recipe.mean_rates == pytest.approx(rates)
    assert recipe.mean_rates <= max(0.4 * 7, count - 0.5)


def test_few_steps_have_rungs_too():
    recipe = evaluation_recipe("ks", {"protocol": "quick", "lr_search": "halving", "steps": 2, "eval_every": 2})
    assert (recipe.rungs, recipe.scored_after) == ({1: 2}, [1, 2])
    assert recipe.model_copy(update={"steps": 1}).rungs == {}


class Scored(ProbeBank):
    """Probes whose scores on dev are given."""

    frame_level = False
    load_state = training_state = load_training_state = logits = None

    def __init__(self, setting, scores, breaks, at):
        super().__init__(setting)
        self.given, self.breaks, self.at, self.trained = scores, breaks, at, []

    def train_step(self, features, batches):
        self.trained.append(list(self.living))
        for index in self.breaks if len(self.trained) == self.at else ():
            self.alive[index] = False
        return []

    def scores(self, features, batches, probes):
        return [{"KS": self.given[index]} for index in probes]

    def state(self, index):
        return {}


@pytest.mark.parametrize(
    ("scores", "breaks", "at", "left", "chosen"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], (), 0, [[3, 4, 5, 6], [5, 6]], 6),
        # Of equal ones the larger learning rates go on; at the end the smaller one is chosen.
        ([0.5] * 7, (), 0, [[0, 1, 2, 3], [0, 1]], 1),
        # What diverged is the worst, whatever its score would be.
        ([0.9, 0.8, 0.7, 0.1, 0.2, 0.3, 0.4], (0, 1), 1, [[2, 4, 5, 6], [2, 6]], 2),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.3, 0.4], (0, 1, 2, 3), 1, [[4, 5, 6], [4, 6]], 4),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.3, 0.4], (0,), 5, [[0, 1, 2, 3], [1, 2]], 1),
    ],
)
def test_which_learning_rates_go_on(scores, breaks, at, left, chosen, prepare):
    made = prepare("ks", **SEARCH)
    bank = Scored(made.setting, scores, breaks, at)
    training = SplitTraining(made.setting.task, made.setting.recipe, made.splits, dict.fromkeys(made.splits))
    trials = train_probes(bank, training, seed=0)
    assert [bank.trained[step] for step in (4, 14)] == left
    assert bank.trained[49] == left[1]
    dropped = [trial.dropped for trial in trials]
    assert [dropped.count(step) for step in (4, 14, None)] == [3, 2, 2]
    assert {index for index, step in enumerate(dropped) if step is None} == set(left[1])
    assert [trial.diverged for trial in trials] == [index in breaks for index in range(7)]
    assert select(trials, training.metric, 0) == chosen


@pytest.fixture
def trained(prepare, tmp_path):
    """Train the probes of a task, all from the same start; the bank and its trials."""

    def make(task, search, file=None):
        made = prepare(task, **{**QUICK[task], **SEARCH, "batch_size": 4, "lr_search": search})
        if task == "ks":
            features = {name: mean_vectors(made.encoder, split.clips, tmp_path / "means", name) for name, split in made.splits.items()}
        else:
            features = {name: FrameFeatures(made.encoder, split.clips) for name, split in made.splits.items()}
        bank = (StackedProbes if task == "ks" else SeparateProbes)(made.setting, made.states, deepcopy(made.head))
        training = SplitTraining(made.setting.task, made.setting.recipe, made.splits, features)
        with isolated_rng(0, made.encoder.device):
            return bank, train_probes(bank, training, 0, None if file is None else TrainingFile(file, made.encoder))

    return make


@pytest.mark.parametrize("task", ["ks", "pr"])
def test_finalists_train_as_in_the_grid(task, trained):
    halving, trials = trained(task, "halving")
    grid, _ = trained(task, "grid")
    assert len(halving.kept) == 2
    for index in halving.kept:
        found, expected = halving.state(index), grid.state(index)
        for name, value in expected.items():
            # Of modules of their own to the bit; a smaller stack rounds otherwise.
            torch.testing.assert_close(found[name], value, rtol=1e-4 * (task == "ks"), atol=1e-6 * (task == "ks"))
    assert all(trial.best_step <= trial.dropped for trial in trials if trial.dropped)
    if task == "ks":
        assert halving.parameters.shape[0] == halving.optimizer.first.shape[0] == 2


@pytest.mark.parametrize("task", ["ks", "pr"])
@pytest.mark.parametrize("killed_at", [7, 22])
def test_a_resumed_search_is_the_same(task, killed_at, trained, tmp_path, kill_after):
    expected, expected_trials = trained(task, "halving")
    kill_after(killed_at)
    with pytest.raises(KeyboardInterrupt):
        trained(task, "halving", tmp_path / "state.safetensors")
    steps = kill_after()
    bank, trials = trained(task, "halving", tmp_path / "state.safetensors")
    assert steps["steps"] == {7: 46, 22: 30}[killed_at]
    found = bank.training_state()
    assert found.keys() == expected.training_state().keys()
    assert all(torch.equal(found[name], value) for name, value in expected.training_state().items())
    assert [(trial.dropped, trial.dev, trial.best_step) for trial in trials] == [
        (trial.dropped, trial.dev, trial.best_step) for trial in expected_trials
    ]


def test_the_cell_says_how_far_each_rate_trained(cell_of):
    cell = cell_of("ks", steps=50, eval_every=25, learning_rates=list(SEVEN), lr_search="halving")
    assert sorted(trial.get("dropped", 50) for trial in cell["trials"]) == [4, 4, 4, 14, 14, 50, 50]
    assert "dropped" not in next(trial for trial in cell["trials"] if trial["selected"])
    assert all("dropped" not in trial for trial in cell_of("ks")["trials"])
