"""Each merge method against its formula, written out on whole tensors in float64."""

import itertools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from safetensors.torch import load_file, save_file

from speechft.errors import MergeError
from speechft.merge import METHODS, get_method, merge_files, models

SHAPES = {"encoder.layers.0.attention.q_proj.weight": (40, 25), "encoder.layers.1.feed_forward.bias": (7,), "scalar": ()}
KEYS = tuple(SHAPES)
quick = settings(max_examples=15, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Tensors come in several pieces, the last one shorter."""
    monkeypatch.setattr(models, "PIECE", 333)


def write(folder, name, seed, near=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    tensors = {key: torch.randn(shape, generator=generator) for key, shape in SHAPES.items()}
    if near is not None:
        start = load_file(near)
        # A third of the values stays, as in a frozen extractor.
        tensors = {
            k: torch.where(torch.rand(t.shape, generator=generator) < 1 / 3, start[k], start[k] + 0.1 * t) for k, t in tensors.items()
        }
    save_file({key: tensor.to(dtype) for key, tensor in tensors.items()}, folder / f"{name}.safetensors", metadata={"format": "pt"})
    return folder / f"{name}.safetensors"


@pytest.fixture
def base(tmp_path):
    return write(tmp_path, "base", 0)


@pytest.fixture
def three(tmp_path, base):
    return [write(tmp_path, f"finetuned_{seed}", seed, near=base) for seed in (1, 2, 3)]


def merged(base, finetuned, method, alpha=1.0, parameters=None, **options):
    out = base.parent / "out.safetensors"
    merge_files(base, finetuned, out, get_method(method, parameters), alpha, **options)
    return load_file(out)


def task_vectors(base, finetuned):
    start = load_file(base)
    return [{key: load_file(path)[key].double() - start[key].double() for key in KEYS} for path in finetuned]


def close(found, base, step, alpha=1.0, tolerance=1e-6):
    start = load_file(base)
    for key in KEYS:
        torch.testing.assert_close(found[key].double(), start[key].double() + alpha * step[key], rtol=tolerance, atol=tolerance)


def fewest_or_two(method):
    return METHODS[method].most or 2


@pytest.mark.parametrize("method", METHODS)
def test_alpha_zero_is_the_pretrained_model_bit_for_bit(base, three, method):
    count = fewest_or_two(method)
    found = merged(base, three[:count], method, 0.0)
    assert all(torch.equal(found[key].view(torch.int32), tensor.view(torch.int32)) for key, tensor in load_file(base).items())


@pytest.mark.parametrize(
    ("method", "parameters"),
    [("linear", {}), ("task_arithmetic", {}), ("ties", {"density": 1.0}), ("dare", {"drop": 0.0}), ("slerp", {})],
)
def test_alpha_one_with_a_single_model_is_that_model_bit_for_bit(base, three, method, parameters):
    found = merged(base, three[:1], method, 1.0, parameters)
    assert all(torch.equal(found[key], tensor) for key, tensor in load_file(three[0]).items())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_what_fine_tuning_did_not_change_keeps_its_value(base, tmp_path, method, alpha):
    start = load_file(base)
    for index in range(2):  # models may not be identical, so each changes another value of one tensor
        changed = {key: tensor.clone() for key, tensor in start.items()}
        changed[KEYS[1]][index] += 0.5
        save_file(changed, tmp_path / f"{index}.safetensors")
    count = fewest_or_two(method)
    found = merged(base, [tmp_path / f"{index}.safetensors" for index in range(count)], method, alpha)
    assert torch.equal(found[KEYS[0]].view(torch.int32), start[KEYS[0]].view(torch.int32))
    if method != "slerp":  # which turns the whole tensor
        assert torch.equal(found[KEYS[1]][2:], start[KEYS[1]][2:])


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].most is None])
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_the_order_of_the_models_does_not_change_a_bit(base, three, method, alpha):
    results = set()
    for order in itertools.permutations(three):
        merged(base, order, method, alpha)
        results.add((base.parent / "out.safetensors").read_bytes())
    assert len(results) == 1


@pytest.mark.parametrize("method", METHODS)
def test_pieces_give_what_whole_tensors_give(base, three, method, monkeypatch):
    count = fewest_or_two(method)
    in_pieces = merged(base, three[:count], method, 0.4)
    monkeypatch.setattr(models, "PIECE", 10**6)
    whole = merged(base, three[:count], method, 0.4)
    for key in KEYS:
        torch.testing.assert_close(in_pieces[key], whole[key], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_and_out(tmp_path, method, dtype):
    base = write(tmp_path, "half", 0, dtype=dtype)
    count = fewest_or_two(method)
    finetuned = [write(tmp_path, f"half_{seed}", seed, near=base, dtype=dtype) for seed in (1, 2)][:count]
    stored = merged(base, finetuned, method, 0.5)
    exact = merged(base, finetuned, method, 0.5, dtype="fp32")
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    assert {tensor.dtype for tensor in exact.values()} == {torch.float32}
    assert all(torch.equal(stored[key], exact[key].to(dtype)) for key in KEYS), "computed in float32, rounded once"


@quick
@given(st.lists(st.floats(-2, 2), min_size=3, max_size=3), st.floats(0, 1))
def test_task_arithmetic_is_the_signed_sum(base, three, weights, alpha):
    found = merged(base, three, "task_arithmetic", alpha, {"weights": weights})
    vectors = task_vectors(base, three)
    step = {key: sum(weight * vector[key] for weight, vector in zip(weights, vectors, strict=True)) for key in KEYS}
    close(found, base, step, alpha)


def test_task_arithmetic_adds_and_takes_away(base, three):
    close(merged(base, three[:2], "task_arithmetic"), base, {k: sum(v[k] for v in task_vectors(base, three[:2])) for k in KEYS})
    forget = merged(base, three[:1], "task_arithmetic", 1.0, {"weights": [-1]})
    close(forget, base, {key: -tensor for key, tensor in task_vectors(base, three[:1])[0].items()})


def ties_step(vectors, density, groups):
    """TIES on flattened task vectors of one group of tensors each."""
    steps = {}
    for group in groups:
        flat = torch.stack([torch.cat([vector[key].flatten() for key in group]) for vector in vectors])
        kept = max(1, round(density * flat.shape[1]))
        smallest = flat.abs().sort(dim=1, descending=True).values[:, kept - 1 : kept]
        trimmed = torch.where(flat.abs() >= smallest, flat, 0.0)
        sign = trimmed.sum(0).sign()
        agree = (trimmed.sign() == sign) & (trimmed != 0)
        mean = (trimmed * agree).sum(0) / agree.sum(0).clamp(min=1)
        for key, part in zip(group, mean.split([math.prod(SHAPES[key]) for key in group]), strict=True):
            steps[key] = part.reshape(SHAPES[key])
    return steps


def float32_vectors(base, finetuned):
    start = load_file(base)
    return [{key: (load_file(path)[key] - start[key]).double() for key in KEYS} for path in finetuned]


@pytest.mark.parametrize("density", [0.001, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("trim", "groups"), [("model", [KEYS]), ("tensor", [(key,) for key in KEYS])])
@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_ties_trims_elects_and_averages(base, three, density, trim, groups, alpha):
    found = merged(base, three, "ties", alpha, {"density": density, "trim": trim})
    close(found, base, ties_step(float32_vectors(base, three), density, groups), alpha)


def test_ties_keeps_the_base_where_changes_cancel_out(tmp_path):
    for name, values in [("base", [0.0, 0.0, 1.0]), ("up", [1.0, 2.0, 3.0]), ("down", [-1.0, -1.0, 4.0])]:
        save_file({"w": torch.tensor(values)}, tmp_path / f"{name}.safetensors")
    found = merged(tmp_path / "base.safetensors", [tmp_path / "up.safetensors", tmp_path / "down.safetensors"], "ties", 1.0, {"density": 1})
    assert found["w"].tolist() == [0.0, 2.0, 3.5]


@pytest.mark.parametrize("drop", [0.0, 0.5, 0.9])
def test_dare_drops_and_rescales_and_keeps_the_expectation(base, three, drop):
    found, vector, start = merged(base, three[:1], "dare", 1.0, {"drop": drop}), task_vectors(base, three[:1])[0], load_file(base)
    key = KEYS[0]
    step, changed = found[key].double() - start[key].double(), vector[key] != 0
    kept = (step != 0) & changed
    torch.testing.assert_close(step[kept], vector[key][kept] / (1 - drop), rtol=1e-4, atol=1e-6)
    assert (step[~changed] == 0).all()
    assert abs(kept.sum() / changed.sum() - (1 - drop)) < 0.08  # four standard deviations of 670 draws


def test_dare_averages_models_with_masks_of_their_own(base, three):
    key, start, vectors = KEYS[0], load_file(base), task_vectors(base, three[:2])
    found = merged(base, three[:2], "dare", 1.0, {"drop": 0.5})
    step = found[key].double() - start[key].double()
    # Each value is the sum of one of four choices: neither, one, the other, both (times 1 / (1 - drop) / 2 = 1).
    choices = torch.stack([torch.zeros_like(step), vectors[0][key], vectors[1][key], vectors[0][key] + vectors[1][key]])
    distance, choice = (choices - step).abs().min(0)
    assert distance.max() < 1e-6
    both_changed = (vectors[0][key] != 0) & (vectors[1][key] != 0)
    assert all(0.15 < (choice[both_changed] == index).double().mean() < 0.35 for index in range(4))


def test_dare_with_ties_averages_what_agrees(base, three):
    key, start, vectors = KEYS[0], load_file(base), task_vectors(base, three)
    found = merged(base, three, "dare", 1.0, {"drop": 0.0, "combine": "ties"})
    close(found, base, ties_step(float32_vectors(base, three), 1.0, [KEYS]))
    step = merged(base, three, "dare", 1.0, {"drop": 0.5, "combine": "ties"})[key].double() - start[key].double()
    signs = torch.stack([vector[key].sign() for vector in vectors])
    assert ((step.sign() == signs) | (step.sign() == 0)).any(0).all()
    largest = torch.stack([vector[key].abs() for vector in vectors]).max(0).values * 2
    assert (step.abs() <= largest + 1e-6).all()


def test_seeds_decide_the_masks(base, three):
    first, again, other = (merged(base, three[:1], "dare", 0.5, {"seed": seed})[KEYS[0]] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@quick
@given(st.integers(0, 10**6), st.floats(0.01, 0.99))
def test_slerp_goes_along_the_arc(tmp_path, seed, alpha):
    base, other = write(tmp_path, "a", seed), write(tmp_path, "b", seed + 1)
    found, back = merged(base, [other], "slerp", alpha), merged(other, [base], "slerp", 1 - alpha)
    for key in KEYS[:2]:
        a, b = load_file(base)[key].double().flatten(), load_file(other)[key].double().flatten()
        angle = math.acos(float(a @ b / a.norm() / b.norm()))
        expected = (math.sin((1 - alpha) * angle) * a + math.sin(alpha * angle) * b) / math.sin(angle)
        torch.testing.assert_close(found[key].double().flatten(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(back[key], found[key], rtol=1e-5, atol=1e-6)


def test_slerp_of_unit_vectors_stays_on_the_sphere_and_small_angles_are_linear(tmp_path):
    a, b = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0])
    for name, value in [("a", a), ("b", b), ("near", torch.tensor([1.0, 1e-3, 0])), ("opposite", -a), ("zero", 0 * a)]:
        save_file({"w": value}, tmp_path / f"{name}.safetensors")
    halfway = merged(tmp_path / "a.safetensors", [tmp_path / "b.safetensors"], "slerp", 0.5)["w"]
    torch.testing.assert_close(halfway, torch.tensor([0.5**0.5, 0.5**0.5, 0]))
    near = merged(tmp_path / "a.safetensors", [tmp_path / "near.safetensors"], "slerp", 0.5)["w"]
    torch.testing.assert_close(near, torch.tensor([1.0, 5e-4, 0]), rtol=0, atol=2e-7)
    for name in ("opposite", "zero"):
        straight = merged(tmp_path / "a.safetensors", [tmp_path / f"{name}.safetensors"], "slerp", 0.25)["w"]
        torch.testing.assert_close(straight, torch.lerp(a, load_file(tmp_path / f"{name}.safetensors")["w"], 0.25))


@pytest.mark.parametrize("count", [2, 3])
def test_model_stock_goes_as_far_as_the_angle_says(base, three, count):
    vectors, step = task_vectors(base, three[:count]), {}
    for key in KEYS:
        flat = [vector[key].flatten() for vector in vectors]
        pairs = [float(a @ b / max(a.norm() * b.norm(), 1e-300)) for a, b in itertools.combinations(flat, 2)]
        cosine = min(max(sum(pairs) / len(pairs), 0), 1)
        ratio = count * cosine / (1 + (count - 1) * cosine)
        step[key] = ratio * sum(vector[key] for vector in vectors) / count
    close(merged(base, three[:count], "model_stock"), base, step)
    close(merged(base, three[:count], "model_stock", 0.25), base, step, 0.25)


def test_model_stock_of_contradicting_models_is_the_base(tmp_path):
    for name, values in [("base", [0.0, 0.0]), ("up", [1.0, 0.5]), ("down", [-1.0, 0.5])]:
        save_file({"w": torch.tensor(values)}, tmp_path / f"{name}.safetensors")
    found = merged(tmp_path / "base.safetensors", [tmp_path / "up.safetensors", tmp_path / "down.safetensors"], "model_stock")
    assert found["w"].tolist() == [0.0, 0.0]


def refused(base, finetuned, method, parameters=None):
    with pytest.raises(MergeError) as caught:
        merged(base, finetuned, method, 0.5, parameters)
    assert not (base.parent / "out.safetensors").exists()
    return str(caught.value)


def test_numbers_of_models_and_weights_that_a_method_does_not_take(base, three, tmp_path):
    assert "'slerp' takes 1 fine-tuned model, got 2" in refused(base, three[:2], "slerp")
    assert "'model_stock' takes at least 2 fine-tuned models, got 1" in refused(base, three[:1], "model_stock")
    assert "weights has 3 values for 2 fine-tuned models" in refused(base, three[:2], "task_arithmetic", {"weights": [1, 2, 3]})


@pytest.mark.parametrize(
    ("method", "parameters", "expected"),
    [
        ("ties", {"density": 0}, "density: Input should be greater than 0, found 0"),
        ("ties", {"densty": 0.5}, "densty: unknown key; did you mean 'density'?"),
        ("ties", {"trim": "layer"}, "trim: Input should be 'model' or 'tensor', found 'layer'"),
        ("dare", {"drop": 1}, "drop: Input should be less than 1"),
        ("task_arithmetic", {"weights": [1, float("nan")]}, "weights.1: Input should be a finite number"),
    ],
)
def test_impossible_parameters(method, parameters, expected):
    with pytest.raises(MergeError) as caught:
        get_method(method, parameters)
    assert expected in str(caught.value)
