from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
import torch
from evaluate.corpora import FEW
from evaluate.tone_corpus import make_cut, make_splits, write_splits

from speechft.corpora import load_audio
from speechft.encoders import load_encoder
from speechft.evaluate.data.features import FrameFeatures, mean_vectors
from speechft.evaluate.data.splits import load_splits
from speechft.evaluate.probes.bank import MeanProbe, Probe, Setting, new_head
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.evaluate.probes.stacked import StackedAdam, StackedProbes
from speechft.recipes.evaluation import evaluation_recipe
from speechft.tasks import get_task
from speechft.tasks.base import LabelSet

RATES = (1e-1, 1e-2, 1e-3, 1e-5)


def setting(**changes):
    recipe = evaluation_recipe("ks", {"protocol": "quick", "steps": 10, "eval_every": 5, "learning_rates": RATES, **changes})
    return Setting(get_task("ks"), LabelSet(("a", "b", "c")), recipe, torch.device("cpu"))


def small_head(seed=0):
    return new_head(get_task("ks"), 16, LabelSet(("a", "b", "c")), seed)


def random_batches(steps, accumulate=1, clips=40, classes=3, size=8):
    """Features and, for every step, `accumulate` batches, the last one smaller, as at the end of an epoch."""
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(clips, 4, 16, generator=generator)
    targets = torch.randint(classes, (clips,), generator=generator)
    sizes = [size] * (accumulate - 1) + [size - 1]

    def batch(length):
        rows = torch.randint(clips, (length,), generator=generator).tolist()
        return rows, [targets[row] for row in rows]

    return features, [[batch(length) for length in sizes] for _ in range(steps)]


@pytest.mark.parametrize(("optimizer", "accumulate"), [("Adam", 1), ("Adam", 3), ("AdamW", 1)])
def test_stacked_training_equals_separate_modules(optimizer, accumulate):
    # In float64, because large learning rates amplify rounding.
    features, steps = random_batches(60, accumulate)
    features, head = features.double(), small_head(3).double()
    bank = StackedProbes(setting(optimizer=optimizer, clip_norm=0.5), 4, deepcopy(head))
    modules = [MeanProbe(4, deepcopy(head)).double() for _ in RATES]
    optimizers = [getattr(torch.optim, optimizer)(module.parameters(), lr=rate) for module, rate in zip(modules, RATES, strict=True)]
    for step in steps:
        losses = bank.train_step(features, step)
        for module, optim, loss in zip(modules, optimizers, losses, strict=True):
            logits = [(module(features[rows].transpose(0, 1)), torch.stack(targets)) for rows, targets in step]
            expected = sum(torch.nn.functional.cross_entropy(*pair) / accumulate for pair in logits)
            optim.zero_grad()
            expected.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
            optim.step()
            assert loss == pytest.approx(expected.item(), abs=1e-9, rel=1e-9)
    for index, module in enumerate(modules):
        for name, value in module.state_dict().items():
            torch.testing.assert_close(bank.state(index)[name], value, atol=1e-9, rtol=1e-9)
    # The learning rates did something, each something else.
    assert len({round(loss, 4) for loss in losses}) == len(RATES)


POOLED = ["ks", "sid", "er", "ic"]


@pytest.mark.parametrize("task", POOLED)
def test_mean_vectors_train_as_frames_do(task, prepare, tmp_path):
    """The shortcut on real hidden states: same initial weights and batches, same losses to 1e-5 for 200 steps."""
    made = prepare(task, seed=7, learning_rates=(1e-2, 1e-4))
    train = made.train
    stacked, separate = (bank(made.setting, made.states, deepcopy(made.head)) for bank in (StackedProbes, SeparateProbes))
    means, frames = mean_vectors(made.encoder, train.clips, tmp_path, "train"), FrameFeatures(made.encoder, train.clips)
    frames.keep(1e9, "train")
    generator, losses = torch.Generator().manual_seed(1), []
    for _ in range(200):
        rows = torch.randint(len(train), (6,), generator=generator).tolist()
        batch = (rows, [train.targets[row] for row in rows])
        losses.append([stacked.train_step(means, [batch]), separate.train_step(frames, [batch])])
    pooled, direct = torch.tensor(losses).unbind(dim=1)
    assert (pooled - direct).abs().max() < 1e-5
    assert direct[-1, 0] < 0.5 * direct[0, 0], "nothing was learned, so nothing was compared"


@pytest.mark.parametrize("task", POOLED)
def test_nothing_depends_on_who_else_is_in_the_batch(task, prepare, tmp_path):
    """Features, losses and scores of an utterance are those that it has alone, whatever the lengths of the others."""
    made = prepare(task, seed=7, learning_rates=(1e-2,))
    test = made.splits["test"]
    assert len({clip.num_samples for clip in test.clips}) == len(test)
    together = mean_vectors(made.encoder, test.clips, tmp_path / "together", "test")
    alone = torch.cat([mean_vectors(made.encoder, [clip], tmp_path / clip.cut.id, "test") for clip in test.clips])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)
    probe, rows = MeanProbe(made.states, made.head), list(range(len(test)))

    def loss(rows):
        logits = probe(together[rows].transpose(0, 1))
        return made.setting.task.loss(logits, torch.ones(len(rows)), [test.targets[row] for row in rows])

    torch.testing.assert_close(loss(rows), torch.stack([loss([row]) for row in rows]).mean())
    bank = StackedProbes(made.setting, made.states, made.head)
    batches = [[(rows, list(test.targets))], [([row], [test.targets[row]]) for row in reversed(rows)]]
    assert bank.scores(together, batches[0], [0]) == bank.scores(alone, batches[1], [0])


def test_a_diverged_rate_stops_alone():
    features, steps = random_batches(6)
    bank, healthy = (StackedProbes(setting(learning_rates=(1e-2, 1e-3)), 4, small_head()) for _ in range(2))
    bank.parameters.data[0, 0] = float("nan")
    frozen = bank.state(0)
    for step in steps:
        bank.train_step(features, step)
        healthy.train_step(features, step)
    assert bank.alive == [False, True]
    assert healthy.alive == [True, True]
    for name, value in healthy.state(1).items():
        torch.testing.assert_close(bank.state(1)[name], value, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(bank.state(0)[name], frozen[name], equal_nan=True)


def test_a_diverged_rate_of_separate_probes_stops_alone(prepare):
    made = prepare("pr", learning_rates=(1e-2, 1e-3))
    bank = SeparateProbes(made.setting, made.states, made.head)
    before = bank.state(1)["head.classifier.bias"]
    bank.probes[0].head.projector.bias.data[0] = float("nan")
    losses = bank.train_step(FrameFeatures(made.encoder, made.train.clips), [([0, 1, 2], made.train.targets[:3])])
    assert bank.alive == [False, True]
    assert not torch.tensor(losses[0]).isfinite()
    assert [torch.equal(bank.state(index)["head.classifier.bias"], before) for index in range(2)] == [True, False]


def test_a_nan_gradient_norm_skips_the_step():
    parameters = torch.zeros(2, 3)
    adam = StackedAdam(parameters, [0.1, 0.1])
    gradients = torch.tensor([[1.0, 2.0, 3.0], [float("nan")] * 3])
    adam.step(gradients, torch.linalg.vector_norm(gradients, dim=1), torch.tensor([True, False]), clip_norm=1.0)
    assert parameters[0].abs().min() > 0
    assert not parameters[1].any()
    assert adam.steps.tolist() == [1, 0]
    assert adam.second.isfinite().all()


def test_states_go_in_and_out():
    features, steps = random_batches(3)
    bank = StackedProbes(setting(), 4, small_head())
    saved = bank.state(2)
    for step in steps:
        bank.train_step(features, step)
    assert not torch.equal(bank.state(2)["head.projector.weight"], saved["head.projector.weight"])
    others = bank.state(1)
    bank.load_state(2, saved)
    for index, expected in ((2, saved), (1, others)):
        assert all(torch.equal(bank.state(index)[name], value) for name, value in expected.items())
    Probe(4, small_head(1)).load_state_dict(saved)


def test_heads_depend_on_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first, again, other = (small_head(seed).projector.weight for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_long_training_utterances_are_cropped(model_dir, tmp_path):
    generator, splits = np.random.default_rng(0), make_splits(tmp_path, FEW)
    for name in ("train", "dev"):
        splits[name].append(make_cut(tmp_path / "wav", f"long-{name}", 0.1 * generator.standard_normal(9 * 16000)))
    _, found = load_splits(get_task("sid"), write_splits(tmp_path, splits), load_encoder(model_dir), crop_draws=3)
    train = found["train"]
    assert [end - first for first, end in pairwise(train.first_clip)] == [1] * 6 + [3]
    crops = train.clips[-3:]
    assert len({crop.start for crop in crops}) == 3
    for crop in crops:
        torch.testing.assert_close(crop.load(), load_audio(crop.cut)[crop.start : crop.start + 128_000], atol=0, rtol=0)
    assert found["dev"].clips[-1].num_samples == 9 * 16000
    drawn = {train.draw_clips([6], torch.Generator().manual_seed(seed))[0] for seed in range(20)}
    assert drawn == {6, 7, 8}
