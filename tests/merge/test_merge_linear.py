"""Properties of the linear merge, over files with values of any kind."""

import itertools
import struct

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis.extra.numpy import arrays
from safetensors.torch import load_file, save_file

from speechft.merge import merge_files

# Finite float32, subnormals and both zeros among them; far from the largest, where theta' - theta0 would overflow.
VALUES = st.floats(min_value=-(2.0**100), max_value=2.0**100, width=32)
ALPHAS = st.floats(min_value=0.0, max_value=1.0)
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
quick = settings(max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def models(count, values=VALUES):
    array = arrays("float32", (2, 3), elements=values)
    return st.lists(st.tuples(array, array), min_size=count, max_size=count)


def write(folder, name, pair, dtype=torch.float32):
    tensors = {"encoder.weight": torch.tensor(pair[0]).to(dtype), "bias": torch.tensor(pair[1]).to(dtype)}
    save_file(tensors, folder / f"{name}.safetensors", metadata={"format": "pt"})
    return folder / f"{name}.safetensors"


def merged(folder, base, finetuned, alpha, **options):
    merge_files(base, finetuned, folder / "out.safetensors", alpha=alpha, **options)
    return load_file(folder / "out.safetensors")


def same_bits(left, right):
    return left.keys() == right.keys() and all(
        left[key].dtype == right[key].dtype and left[key].numpy().tobytes() == right[key].numpy().tobytes() for key in left
    )


def distinct(*paths):
    return len({path.read_bytes() for path in paths}) == len(paths)


@quick
@given(models(2))
def test_alpha_zero_is_the_pretrained_model_and_one_the_finetuned(tmp_path, pair):
    base, finetuned = (write(tmp_path, name, model) for name, model in zip("ab", pair, strict=True))
    assert same_bits(merged(tmp_path, base, [finetuned], 0.0), load_file(base))
    assert same_bits(merged(tmp_path, base, [finetuned], 1.0), load_file(finetuned))


@quick
@given(models(1), ALPHAS)
def test_a_model_merged_with_a_copy_of_itself_stays(tmp_path, pair, alpha):
    base, copy = write(tmp_path, "a", pair[0]), write(tmp_path, "b", pair[0])
    assert same_bits(merged(tmp_path, base, [copy], alpha), load_file(base))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("alpha", [-1.5, -0.25, 0.1, 0.25, 0.5, 0.75, 0.9, 1.5, 2.0])
def test_values_that_both_models_share_stay_bit_for_bit(tmp_path, alpha, dtype):
    shared = torch.tensor([-0.0, 0.0, 1.0, -1e-6, 3.0, 0.1, -0.0] * 7).to(dtype)
    save_file({"x": torch.cat([shared, torch.ones(3).to(dtype)])}, tmp_path / "a")
    save_file({"x": torch.cat([shared, torch.zeros(3).to(dtype)])}, tmp_path / "b")
    found = merged(tmp_path, tmp_path / "a", [tmp_path / "b"], alpha, extrapolate=True)["x"]
    assert found[:-3].view(torch.uint8).tolist() == shared.view(torch.uint8).tolist()
    assert found[-3:].tolist() == pytest.approx([1 - alpha] * 3, abs=0.004)


def test_finite_values_whose_sum_overflows_are_merged(tmp_path):
    for name, value in [("a", 3e38), ("b", 2e38)]:
        save_file({"x": torch.full((8,), value)}, tmp_path / name)
    assert merged(tmp_path, tmp_path / "a", [tmp_path / "b"], 0.5)["x"].tolist() == pytest.approx([2.5e38] * 8)


@quick
@given(models(4), ALPHAS)
def test_the_order_of_the_models_does_not_change_a_bit(tmp_path, quadruple, alpha):
    base, *finetuned = (write(tmp_path, name, model) for name, model in zip("abcd", quadruple, strict=True))
    if not distinct(*finetuned):
        return
    results = {merge_bytes(tmp_path, base, order, alpha) for order in itertools.permutations(finetuned)}
    assert len(results) == 1


def merge_bytes(folder, base, finetuned, alpha):
    merged(folder, base, finetuned, alpha)
    return (folder / "out.safetensors").read_bytes()


@quick
@given(models(5, st.floats(min_value=-100, max_value=100, width=32)), ALPHAS)
def test_it_is_theta0_plus_alpha_times_the_mean_task_vector(tmp_path, all_models, alpha):
    base, *finetuned = (write(tmp_path, name, model) for name, model in zip("abcde", all_models, strict=True))
    if not distinct(*finetuned):
        return
    result, start = merged(tmp_path, base, finetuned, alpha), load_file(base)
    for key, tensor in result.items():
        task_vectors = [load_file(path)[key].double() - start[key].double() for path in finetuned]
        expected = start[key].double() + alpha * sum(task_vectors) / len(task_vectors)
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=2e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_are_stored_in_the_dtype_of_the_pretrained_model(tmp_path, dtype):
    base = write(tmp_path, "a", ([[1.0, -2.0, 0.5]] * 2, [[0.0, 3.0, 8.0]] * 2), dtype)
    finetuned = write(tmp_path, "b", ([[2.0, -2.0, 1.0]] * 2, [[1.0, 3.0, 4.0]] * 2), dtype)
    result = merged(tmp_path, base, [finetuned], 0.25)
    assert {tensor.dtype for tensor in result.values()} == {dtype}
    assert result["encoder.weight"][0].tolist() == [1.25, -2.0, 0.625]
    assert result["bias"][1].tolist() == [0.25, 3.0, 7.0]


def test_half_precision_is_merged_in_single_precision(tmp_path):
    # In float16, 1/3 of 1 added to 2048 would vanish at every step; the exact mean is 2049.33, of which float16 keeps 2050.
    base = write(tmp_path, "a", ([[2048.0] * 3] * 2,) * 2, torch.float16)
    finetuned = [write(tmp_path, name, ([[value] * 3] * 2,) * 2, torch.float16) for name, value in [("b", 2048.0), ("c", 2050.0)]]
    finetuned.append(write(tmp_path, "d", ([[2050.0] * 3] * 2, [[2050.0] * 3, [2048.0] * 3]), torch.float16))
    result = merged(tmp_path, base, finetuned, 1.0)
    assert result["encoder.weight"][0, 0] == torch.tensor(6148 / 3).half()


def test_extrapolation_goes_beyond_the_finetuned_model(tmp_path):
    base, finetuned = write(tmp_path, "a", ([[1.0] * 3] * 2,) * 2), write(tmp_path, "b", ([[2.0] * 3] * 2,) * 2)
    assert merged(tmp_path, base, [finetuned], 1.5, extrapolate=True)["bias"].eq(2.5).all()
    assert merged(tmp_path, base, [finetuned], -1.0, extrapolate=True)["bias"].eq(0.0).all()


def test_kept_tensors_are_neither_merged_nor_compared(tmp_path):
    save_file({"proj": torch.ones(3), "body": torch.zeros(2)}, tmp_path / "a.safetensors")
    save_file({"proj": torch.zeros(5), "body": torch.ones(2), "proj_new": torch.ones(1)}, tmp_path / "b.safetensors")
    result = merged(tmp_path, tmp_path / "a.safetensors", [tmp_path / "b.safetensors"], 0.5, keep=["proj*"])
    assert result["proj"].tolist() == [1, 1, 1]
    assert result["body"].tolist() == [0.5, 0.5]
    assert result.keys() == {"proj", "body"}


def test_equal_integers_are_copied(tmp_path):
    for name, value in [("a", 0.0), ("b", 1.0)]:
        save_file({"steps": torch.tensor(7), "body": torch.full((2,), value)}, tmp_path / f"{name}.safetensors")
    result = merged(tmp_path, tmp_path / "a.safetensors", [tmp_path / "b.safetensors"], 0.5)
    assert result["steps"] == 7
    assert result["steps"].dtype == torch.int64


def test_empty_tensors_pass(tmp_path):
    for name in "ab":
        save_file({"none": torch.empty(0, 3), "body": torch.full((1,), float(ord(name)))}, tmp_path / f"{name}.safetensors")
    result = merged(tmp_path, tmp_path / "a.safetensors", [tmp_path / "b.safetensors"], 0.5)
    assert result["none"].shape == (0, 3)


def test_the_file_says_that_it_is_of_torch(tmp_path):
    base, finetuned = write(tmp_path, "a", ([[1.0] * 3] * 2,) * 2), write(tmp_path, "b", ([[2.0] * 3] * 2,) * 2)
    content = merge_bytes(tmp_path, base, [finetuned], 0.25)
    (length,) = struct.unpack("<Q", content[:8])
    assert content[8:].startswith(b'{"__metadata__":{"format":"pt"}')
    assert (8 + length) % 8 == 0
