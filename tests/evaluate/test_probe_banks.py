from copy import deepcopy

import numpy as np
import pytest
import torch
from evaluate.tone_corpus import INTENT_OPTIONS, make_cut, make_splits, with_intents, write_splits

from speechft.corpora import load_audio
from speechft.encoders import load_encoder
from speechft.evaluate.data.features import FrameFeatures, FrozenEncoder, mean_vectors
from speechft.evaluate.data.splits import load_splits
from speechft.evaluate.probes.bank import MeanProbe, Probe, Setting, new_head
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.evaluate.probes.stacked import StackedAdam, StackedProbes
from speechft.recipes.evaluation import evaluation_recipe
from speechft.tasks import get_task
from speechft.tasks.base import LabelSet

CPU = torch.device("cpu")
RATES = (1e-1, 1e-2, 1e-3, 1e-5)


@pytest.fixture(scope="module")
def intents(tmp_path_factory):
    """Manifests of tones with two slots."""
    folder = tmp_path_factory.mktemp("intents")
    return write_splits(folder, with_intents(make_splits(folder)))


def setting(task="ks", labels=3, **changes):
    recipe = evaluation_recipe(task, {"protocol": "quick", "steps": 10, "eval_every": 5, "learning_rates": RATES, **changes})
    options = INTENT_OPTIONS if task == "ic" else {}
    return Setting(get_task(task, **options), LabelSet(tuple(f"c{i}" for i in range(labels))), recipe, CPU)


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
    shared = setting(optimizer=optimizer, clip_norm=0.5)
    # In float64, because large learning rates amplify rounding.
    features, steps = random_batches(60, accumulate)
    features, head = features.double(), new_head(shared.task, 16, shared.labels, seed=3).double()
    bank = StackedProbes(shared, 4, deepcopy(head))
    modules = [MeanProbe(4, deepcopy(head)).double() for _ in RATES]
    optimizers = [getattr(torch.optim, optimizer)(module.parameters(), lr=rate) for module, rate in zip(modules, RATES, strict=True)]
    for step in steps:
        losses = bank.train_step(features, step)
        for module, optim, loss in zip(modules, optimizers, losses, strict=True):
            expected = sum(
                torch.nn.functional.cross_entropy(module(features[rows].transpose(0, 1)), torch.stack(targets)) / accumulate
                for rows, targets in step
            )
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
def test_mean_vectors_train_as_frames_do(task, model_dir, manifests, intents, tmp_path):
    """The shortcut on real hidden states: same initial weights and batches, same losses to 1e-5 for 200 steps."""
    shared = setting(task, learning_rates=(1e-2, 1e-4))
    encoder = FrozenEncoder(load_encoder(model_dir), CPU, shared.task.gain)
    labels, splits = load_splits(shared.task, intents if task == "ic" else manifests, encoder.encoder, crop_draws=1)
    shared = Setting(shared.task, labels, shared.recipe, CPU)
    train = splits["train"]
    head = new_head(shared.task, encoder.encoder.hidden_size, labels, seed=7)
    stacked = StackedProbes(shared, encoder.encoder.num_states, deepcopy(head))
    separate = SeparateProbes(shared, encoder.encoder.num_states, deepcopy(head))
    means = mean_vectors(encoder, train.clips, tmp_path, "train")
    frames = FrameFeatures(encoder, train.clips)
    frames.keep(1e9, "train")
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(200):
        rows = torch.randint(len(train), (6,), generator=generator).tolist()
        batch = (rows, [train.targets[row] for row in rows])
        losses.append((stacked.train_step(means, [batch]), separate.train_step(frames, [batch])))
    pooled, direct = (torch.tensor([pair[k] for pair in losses]) for k in range(2))
    assert (pooled - direct).abs().max() < 1e-5
    assert direct[-1, 0] < 0.5 * direct[0, 0], "nothing was learned, so nothing was compared"


@pytest.mark.parametrize("task", POOLED)
def test_nothing_depends_on_who_else_is_in_the_batch(task, model_dir, manifests, intents, tmp_path):
    """Features, losses and scores of an utterance are those that it has alone, whatever the lengths of the others."""
    shared = setting(task, learning_rates=(1e-2,))
    encoder = FrozenEncoder(load_encoder(model_dir), CPU, shared.task.gain)
    labels, splits = load_splits(shared.task, intents if task == "ic" else manifests, encoder.encoder, crop_draws=1)
    shared = Setting(shared.task, labels, shared.recipe, CPU)
    test = splits["test"]
    assert len({clip.num_samples for clip in test.clips}) == len(test)
    bank = StackedProbes(shared, encoder.encoder.num_states, new_head(shared.task, encoder.encoder.hidden_size, labels, seed=7))
    together = mean_vectors(encoder, test.clips, tmp_path / "together", "test")
    alone = torch.cat([mean_vectors(encoder, [clip], tmp_path / clip.cut.id, "test") for clip in test.clips])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)
    probe = MeanProbe(encoder.encoder.num_states, new_head(shared.task, encoder.encoder.hidden_size, labels, seed=7))

    def loss(rows):
        return shared.task.loss(probe(together[rows].transpose(0, 1)), torch.ones(len(rows)), [test.targets[row] for row in rows])

    rows = list(range(len(test)))
    torch.testing.assert_close(loss(rows), torch.stack([loss([row]) for row in rows]).mean())
    batches = [[(rows, list(test.targets))], [([row], [test.targets[row]]) for row in reversed(rows)]]
    assert bank.scores(together, batches[0], [0]) == bank.scores(alone, batches[1], [0])


def test_the_weights_of_the_layers_are_trained():
    shared = setting()
    features, steps = random_batches(5)
    bank = StackedProbes(shared, 4, new_head(shared.task, 16, shared.labels, 0))
    for step in steps:
        bank.train_step(features, step)
    assert bank.state(0)["weighted_sum.weights"].abs().min() > 0.01


def test_a_diverged_rate_stops_alone():
    shared = setting(learning_rates=(1e-2, 1e-3))
    features, steps = random_batches(6)
    head = new_head(shared.task, 16, shared.labels, 0)
    bank, healthy = (StackedProbes(shared, 4, deepcopy(head)) for _ in range(2))
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


def test_a_diverged_rate_of_separate_probes_stops_alone(model_dir, manifests):
    shared = setting("pr", learning_rates=(1e-2, 1e-3))
    encoder = FrozenEncoder(load_encoder(model_dir), CPU)
    labels, splits = load_splits(shared.task, manifests, encoder.encoder, crop_draws=1)
    shared = Setting(shared.task, labels, shared.recipe, CPU)
    bank = SeparateProbes(shared, encoder.encoder.num_states, new_head(shared.task, encoder.encoder.hidden_size, labels, 0))
    before = bank.state(1)
    bank.probes[0].head.projector.bias.data[0] = float("nan")
    train = splits["train"]
    losses = bank.train_step(FrameFeatures(encoder, train.clips), [([0, 1, 2], train.targets[:3])])
    assert bank.alive == [False, True]
    assert not torch.tensor(losses[0]).isfinite()
    assert not torch.equal(bank.state(1)["head.classifier.bias"], before["head.classifier.bias"])
    assert torch.equal(bank.state(0)["head.classifier.bias"], before["head.classifier.bias"])


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
    shared = setting()
    features, steps = random_batches(3)
    bank = StackedProbes(shared, 4, new_head(shared.task, 16, shared.labels, 0))
    saved = bank.state(2)
    for step in steps:
        bank.train_step(features, step)
    assert not torch.equal(bank.state(2)["head.projector.weight"], saved["head.projector.weight"])
    others = bank.state(1)
    bank.load_state(2, saved)
    assert all(torch.equal(bank.state(2)[name], value) for name, value in saved.items())
    assert all(torch.equal(bank.state(1)[name], value) for name, value in others.items())
    Probe(4, new_head(shared.task, 16, shared.labels, 1)).load_state_dict(saved)


def test_heads_depend_on_the_seed_and_leave_the_global_generator_alone():
    shared = setting()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    heads = [new_head(shared.task, 16, shared.labels, seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    weights = [head.state_dict()["projector.weight"] for head in heads]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_long_training_utterances_are_cropped_and_silence_is_too(model_dir, tmp_path):
    generator = np.random.default_rng(0)
    splits = make_splits(tmp_path, {"train": 6, "dev": 3, "test": 3})
    splits["train"].append(make_cut(tmp_path / "wav", "long", 0.1 * generator.standard_normal(9 * 16000)))
    splits["dev"].append(make_cut(tmp_path / "wav", "longdev", 0.1 * generator.standard_normal(9 * 16000)))
    manifests = write_splits(tmp_path, splits)
    encoder = load_encoder(model_dir)
    _, found = load_splits(get_task("sid"), manifests, encoder, crop_draws=3)
    train, dev = found["train"], found["dev"]
    assert [train.first_clip[i + 1] - train.first_clip[i] for i in range(len(train))] == [1] * 6 + [3]
    crops = train.clips[-3:]
    assert {crop.num_samples for crop in crops} == {128_000}
    assert len({crop.start for crop in crops}) == 3
    torch.testing.assert_close(crops[1].load(), load_audio(crops[1].cut)[crops[1].start : crops[1].start + 128_000])
    assert len(crops[1].load()) == 128_000
    assert dev.clips[-1].num_samples == 9 * 16000
    drawn = {train.draw_clips([6], torch.Generator().manual_seed(seed))[0] for seed in range(20)}
    assert drawn == {6, 7, 8}
