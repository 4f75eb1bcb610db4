"""Each merge method against its formula, written out on whole tensors in float64."""

import itertools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from safetensors.torch import load_file, save_file

from speechft.merge import METHODS, get_method, merge_files, models

SHAPES = {"encoder.layers.0.attention.q_proj.weight": (40, 25), "encoder.layers.1.feed_forward.bias": (7,), "scalar": ()}
KEYS = tuple(SHAPES)
quick = settings(max_examples=15, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Tensors come in several pieces, the last one shorter."""
    monkeypatch.setattr(models, "PIECE", 333)


def random_tensors(seed, near=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    tensors = {key: torch.randn(shape, generator=generator) for key, shape in SHAPES.items()}
    if near is not None:  # a third of the values stays, as in a frozen extractor
        frozen = {key: torch.rand(shape, generator=generator) < 1 / 3 for key, shape in SHAPES.items()}
        tensors = {key: torch.where(frozen[key], near[key], near[key] + 0.1 * tensor) for key, tensor in tensors.items()}
    return {key: tensor.to(dtype) for key, tensor in tensors.items()}


BASE = random_tensors(0)
THREE = [random_tensors(seed, near=BASE) for seed in (1, 2, 3)]
VECTORS = [{key: model[key].double() - BASE[key].double() for key in KEYS} for model in THREE]


@pytest.fixture
def merged(tmp_path):
    """Function that merges models, given as dicts of tensors."""

    def merge(base, finetuned, method, alpha=1.0, parameters=None, **options):
        paths = [tmp_path / str(index) for index in range(1 + len(finetuned))]
        for path, tensors in zip(paths, (base, *finetuned), strict=True):
            save_file(tensors, path)
        merge_files(paths[0], paths[1:], tmp_path / "out", get_method(method, parameters), alpha, **options)
        return load_file(tmp_path / "out")

    return merge


def close(found, step, alpha=1.0):
    expected = {key: BASE[key].double() + alpha * step[key] for key in KEYS}
    torch.testing.assert_close({key: tensor.double() for key, tensor in found.items()}, expected, rtol=1e-6, atol=1e-6)


def same_bits(left, right):
    return torch.equal(left.view(torch.int32), right.view(torch.int32))


def some(method, candidates=THREE):
    """As many models as the method takes, two where it takes any number."""
    return candidates[: METHODS[method].most or 2]


@pytest.mark.parametrize(
    ("method", "parameters"),
    [("linear", {}), ("task_arithmetic", {}), ("ties", {"density": 1.0}), ("dare", {"drop": 0.0}), ("slerp", {})],
)
def test_alpha_one_with_a_single_model_is_that_model_bit_for_bit(merged, method, parameters):
    found = merged(BASE, THREE[:1], method, 1.0, parameters)
    assert all(torch.equal(found[key], tensor) for key, tensor in THREE[0].items())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_what_fine_tuning_did_not_change_keeps_its_value_and_alpha_zero_all(merged, method, alpha):
    finetuned = [{key: tensor.clone() for key, tensor in BASE.items()} for _ in range(2)]
    for index, model in enumerate(finetuned):  # models may not be identical, so each changes another value of one tensor
        model[KEYS[1]][index] += 0.5
    found = merged(BASE, some(method, finetuned), method, alpha)
    assert same_bits(found[KEYS[0]], BASE[KEYS[0]])
    if method != "slerp" or alpha == 0:  # which turns the whole tensor
        assert same_bits(found[KEYS[1]][2 if alpha else 0 :], BASE[KEYS[1]][2 if alpha else 0 :])


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].most is None])
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_the_order_of_the_models_does_not_change_a_bit(merged, method, alpha):
    first, *others = (merged(BASE, order, method, alpha) for order in itertools.permutations(THREE))
    assert all(same_bits(found[key], first[key]) for found in others for key in KEYS)


@pytest.mark.parametrize("method", METHODS)
def test_pieces_give_what_whole_tensors_give(merged, method, monkeypatch):
    in_pieces = merged(BASE, some(method), method, 0.4)
    monkeypatch.setattr(models, "PIECE", 10**6)
    torch.testing.assert_close(in_pieces, merged(BASE, some(method), method, 0.4), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_and_out(merged, method, dtype):
    base = random_tensors(0, dtype=dtype)
    finetuned = some(method, [random_tensors(seed, near=base, dtype=dtype) for seed in (1, 2)])
    stored, exact = (merged(base, finetuned, method, 0.5, dtype=wanted) for wanted in (None, "fp32"))
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    assert {tensor.dtype for tensor in exact.values()} == {torch.float32}
    assert all(torch.equal(stored[key], exact[key].to(dtype)) for key in KEYS), "computed in float32, rounded once"


@quick
@given(st.lists(st.floats(-2, 2), min_size=3, max_size=3), st.floats(0, 1))
def test_task_arithmetic_is_the_signed_sum(merged, weights, alpha):
    step = {key: sum(weight * vector[key] for weight, vector in zip(weights, VECTORS, strict=True)) for key in KEYS}
    close(merged(BASE, THREE, "task_arithmetic", alpha, {"weights": weights}), step, alpha)


def test_task_arithmetic_adds_without_weights(merged):
    close(merged(BASE, THREE[:2], "task_arithmetic"), {key: VECTORS[0][key] + VECTORS[1][key] for key in KEYS})


def ties_step(density, groups):
    """TIES on flattened task vectors, computed in float32, of one group of tensors each."""
    steps = {}
    for group in groups:
        flat = torch.stack([torch.cat([(model[key] - BASE[key]).double().flatten() for key in group]) for model in THREE])
        kept = max(1, round(density * flat.shape[1]))
        smallest = flat.abs().sort(dim=1, descending=True).values[:, kept - 1 : kept]
        trimmed = torch.where(flat.abs() >= smallest, flat, 0.0)
        sign = trimmed.sum(0).sign()
        agree = (trimmed.sign() == sign) & (trimmed != 0)
        mean = (trimmed * agree).sum(0) / agree.sum(0).clamp(min=1)
        for key, part in zip(group, mean.split([math.prod(SHAPES[key]) for key in group]), strict=True):
            steps[key] = part.reshape(SHAPES[key])
    return steps


@pytest.mark.parametrize("density", [0.001, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("trim", "groups"), [("model", [KEYS]), ("tensor", [(key,) for key in KEYS])])
@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_ties_trims_elects_and_averages(merged, density, trim, groups, alpha):
    close(merged(BASE, THREE, "ties", alpha, {"density": density, "trim": trim}), ties_step(density, groups), alpha)


@pytest.mark.parametrize(
    ("method", "parameters", "base", "first", "second", "expected"),
    [
        ("ties", {"density": 1}, [0.0, 0.0, 1.0], [1.0, 2.0, 3.0], [-1.0, -1.0, 4.0], [0.0, 2.0, 3.5]),  # the first cancels out
        ("model_stock", {}, [0.0, 0.0], [1.0, 0.5], [-1.0, 0.5], [0.0, 0.0]),
    ],
)
def test_changes_that_contradict_each_other_keep_the_base(merged, method, parameters, base, first, second, expected):
    start, *finetuned = ({"w": torch.tensor(values)} for values in (base, first, second))
    assert merged(start, finetuned, method, 1.0, parameters)["w"].tolist() == expected


def dare_step(merged, count, **parameters):
    key = KEYS[0]
    return merged(BASE, THREE[:count], "dare", 1.0, parameters)[key].double() - BASE[key].double(), [vector[key] for vector in VECTORS]


@pytest.mark.parametrize("drop", [0.0, 0.5, 0.9])
def test_dare_drops_and_rescales_and_keeps_the_expectation(merged, drop):
    step, (vector, *_) = dare_step(merged, 1, drop=drop)
    changed = vector != 0
    kept = (step != 0) & changed
    torch.testing.assert_close(step[kept], vector[kept] / (1 - drop), rtol=1e-4, atol=1e-6)
    assert (step[~changed] == 0).all()
    assert abs(kept.sum() / changed.sum() - (1 - drop)) < 0.08  # four standard deviations of 670 draws


def test_dare_averages_models_with_masks_of_their_own(merged):
    step, (first, second, _) = dare_step(merged, 2, drop=0.5)
    # Each value is the sum of one of four choices: neither, one, the other, both (times 1 / (1 - drop) / 2 = 1).
    distance, choice = (torch.stack([torch.zeros_like(step), first, second, first + second]) - step).abs().min(0)
    assert distance.max() < 1e-6
    both_changed = (first != 0) & (second != 0)
    assert all(0.15 < (choice[both_changed] == index).double().mean() < 0.35 for index in range(4))


def test_dare_with_ties_averages_what_agrees(merged):
    close(merged(BASE, THREE, "dare", 1.0, {"drop": 0.0, "combine": "ties"}), ties_step(1.0, [KEYS]))
    step, vectors = dare_step(merged, 3, drop=0.5, combine="ties")
    signs = torch.stack([vector.sign() for vector in vectors])
    assert ((step.sign() == signs) | (step.sign() == 0)).any(0).all()
    largest = torch.stack([vector.abs() for vector in vectors]).max(0).values * 2
    assert (step.abs() <= largest + 1e-6).all()


def test_seeds_decide_the_masks(merged):
    first, again, other = (dare_step(merged, 1, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@quick
@given(st.integers(0, 10**6), st.floats(0.01, 0.99))
def test_slerp_goes_along_the_arc(merged, seed, alpha):
    base, other = random_tensors(seed), random_tensors(seed + 1)
    found, back = merged(base, [other], "slerp", alpha), merged(other, [base], "slerp", 1 - alpha)
    for key in KEYS[:2]:
        a, b = (model[key].double().flatten() for model in (base, other))
        angle = math.acos(float(a @ b / a.norm() / b.norm()))
        expected = (math.sin((1 - alpha) * angle) * a + math.sin(alpha * angle) * b) / math.sin(angle)
        torch.testing.assert_close(found[key].double().flatten(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(back[key], found[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("other", "alpha", "expected"),
    [
        ([0.0, 1.0, 0.0], 0.5, [0.5**0.5, 0.5**0.5, 0.0]),
        ([1.0, 1e-3, 0.0], 0.5, [1.0, 5e-4, 0.0]),  # small angles are linear
        ([-1.0, 0.0, 0.0], 0.25, [0.5, 0.0, 0.0]),  # so are opposite models
        ([0.0, 0.0, 0.0], 0.25, [0.75, 0.0, 0.0]),  # and zeros
    ],
)
def test_slerp_of_a_unit_vector(merged, other, alpha, expected):
    found = merged({"w": torch.tensor([1.0, 0.0, 0.0])}, [{"w": torch.tensor(other)}], "slerp", alpha)["w"]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=2e-7)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_model_stock_goes_as_far_as_the_angle_says(merged, count, alpha):
    step = {}
    for key in KEYS:
        flat = [vector[key].flatten() for vector in VECTORS[:count]]
        pairs = [float(a @ b / max(a.norm() * b.norm(), 1e-300)) for a, b in itertools.combinations(flat, 2)]
        cosine = min(max(sum(pairs) / len(pairs), 0), 1)
        ratio = count * cosine / (1 + (count - 1) * cosine)
        step[key] = ratio * sum(vector[key] for vector in VECTORS[:count]) / count
    close(merged(BASE, THREE[:count], "model_stock", alpha), step, alpha)
