"""Properties of the linear merge, over files with values of any kind."""

import hypothesis.strategies as st
import pytest
import torch
from encoders.tiny import equal
from hypothesis import HealthCheck, given, settings
from hypothesis.extra.numpy import arrays
from safetensors.torch import load_file, save_file

from speechft.merge import merge_files

# Finite float32, subnormals and both zeros among them; far from the largest, where theta' - theta0 would overflow.
VALUES = st.floats(min_value=-(2.0**100), max_value=2.0**100, width=32)
ALPHAS = st.floats(min_value=0.0, max_value=1.0)
quick = settings(max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def models(count, values=VALUES):
    array = arrays("float32", (2, 3), elements=values)
    return st.lists(st.tuples(array, array), min_size=count, max_size=count)


@pytest.fixture
def merged(tmp_path):
    """Function that merges models, given as dicts of tensors."""

    def merge(base, finetuned, alpha, **options):
        paths = [tmp_path / str(index) for index in range(1 + len(finetuned))]
        for path, tensors in zip(paths, (base, *finetuned), strict=True):
            save_file(tensors, path)
        merge_files(paths[0], paths[1:], tmp_path / "out", alpha=alpha, **options)
        return load_file(tmp_path / "out")

    return merge


def tensors_of(pair):
    return {"encoder.weight": torch.tensor(pair[0]), "bias": torch.tensor(pair[1])}


def same_bits(found, expected):
    """Zeros of either sign are different."""
    return equal({name: tensor.view(torch.uint8) for name, tensor in found.items()}, {k: v.view(torch.uint8) for k, v in expected.items()})


@quick
@given(models(2), ALPHAS)
def test_the_ends_are_the_models_and_a_copy_of_the_base_leaves_it(merged, pair, alpha):
    base, finetuned = map(tensors_of, pair)
    assert same_bits(merged(base, [finetuned], 0.0), base)
    assert same_bits(merged(base, [finetuned], 1.0), finetuned)
    assert same_bits(merged(base, [base], alpha), base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("alpha", [-1.5, -0.25, 0.1, 0.25, 0.5, 0.75, 0.9, 1.5, 2.0])
def test_values_that_both_models_share_stay_bit_for_bit(merged, alpha, dtype):
    shared = torch.tensor([-0.0, 0.0, 1.0, -1e-6, 3.0, 0.1, -0.0] * 7).to(dtype)
    base, finetuned = ({"x": torch.cat([shared, torch.full((3,), value, dtype=dtype)])} for value in (1.0, 0.0))
    found = merged(base, [finetuned], alpha, extrapolate=True)["x"]
    assert same_bits({"x": found[:-3].contiguous()}, {"x": shared})
    assert found[-3:].tolist() == pytest.approx([1 - alpha] * 3, abs=0.004)
    assert found.dtype == dtype


def test_finite_values_whose_sum_overflows_are_merged(merged):
    base, finetuned = ({"x": torch.full((8,), value)} for value in (3e38, 2e38))
    assert merged(base, [finetuned], 0.5)["x"].tolist() == pytest.approx([2.5e38] * 8)


@quick
@given(models(5, st.floats(min_value=-100, max_value=100, width=32)), ALPHAS)
def test_it_is_theta0_plus_alpha_times_the_mean_task_vector(merged, all_models, alpha):
    base, *finetuned = map(tensors_of, all_models)
    if any(same_bits(left, right) for index, left in enumerate(finetuned) for right in finetuned[:index]):
        return
    for name, tensor in merged(base, finetuned, alpha).items():
        task_vectors = [model[name].double() - base[name].double() for model in finetuned]
        expected = base[name].double() + alpha * sum(task_vectors) / len(task_vectors)
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=2e-5)


def test_half_precision_is_merged_in_single_precision(merged):
    # In float16, 1/3 of 1 added to 2048 would vanish at every step; the exact mean is 2049.33, of which float16 keeps 2050.
    base, *finetuned = ({"x": torch.tensor([value, own]).half()} for value, own in ((2048, 1), (2048, 2), (2050, 3), (2050, 4)))
    assert merged(base, finetuned, 1.0)["x"][0] == torch.tensor(6148 / 3).half()


def test_kept_tensors_are_neither_merged_nor_compared(merged):
    base = {"proj": torch.ones(3), "body": torch.zeros(2)}
    found = merged(base, [{"proj": torch.zeros(5), "body": torch.ones(2), "proj_new": torch.ones(1)}], 0.5, keep=["proj*"])
    assert equal(found, {"proj": torch.ones(3), "body": torch.full((2,), 0.5)})


def test_equal_integers_and_empty_tensors_are_copied(merged):
    others = {"steps": torch.tensor(7), "none": torch.empty(0, 3)}
    assert equal(merged({**others, "x": torch.zeros(2)}, [{**others, "x": torch.ones(2)}], 0.5), {**others, "x": torch.full((2,), 0.5)})
