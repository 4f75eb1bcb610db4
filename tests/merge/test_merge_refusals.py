"""Each refusal of `merge_files` is one MergeError that says what, where and what to do, and leaves no file behind."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from speechft.errors import MergeError, OutputError
from speechft.merge import get_method, merge_files


def save(path, **tensors):
    save_file({"weight": torch.ones(2, 3), "bias": torch.zeros(3), **tensors}, path)
    return path


@pytest.fixture
def base(tmp_path):
    return save(tmp_path / "base.safetensors")


@pytest.fixture
def finetuned(tmp_path):
    return save(tmp_path / "finetuned.safetensors", bias=torch.ones(3))


def refused(base, finetuned, out, **options):
    before = sorted(path.name for path in out.parent.iterdir())
    with pytest.raises((MergeError, OutputError)) as caught:
        merge_files(base, finetuned, out, **options)
    assert sorted(path.name for path in out.parent.iterdir()) == before
    return str(caught.value)


def test_all_differences_are_listed_at_once(tmp_path, base):
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.ones(3, 2), "bias": torch.zeros(3).double(), "extra": torch.ones(1)}, other)
    lacking = tmp_path / "lacking.safetensors"
    save_file({"weight": torch.ones(2, 3)}, lacking)
    message = refused(base, [other, lacking], tmp_path / "out.safetensors")
    for expected in (
        f"{other}: has extra F32 [1] in addition",
        f"{other}: weight is F32 [3, 2], pre-trained it is F32 [2, 3]",
        f"{other}: bias is F64 [3], pre-trained it is F32 [3]",
        f"{lacking}: lacks bias F32 [3]",
    ):
        assert expected in message


def test_a_long_list_of_differences_is_cut_with_their_number(tmp_path, base):
    other = save(tmp_path / "other.safetensors", **{f"extra{index}": torch.ones(1) for index in range(30)})
    assert "and 10 more" in refused(base, [other], tmp_path / "out.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("alpha", [0.0, 0.25])
def test_nan_and_inf_name_the_tensor_and_the_file(tmp_path, base, finetuned, value, alpha):
    broken = save(tmp_path / "broken.safetensors", weight=torch.tensor([[0, 1, 2], [3, value, 5]]))
    message = refused(base, [finetuned, broken], tmp_path / "out.safetensors", alpha=alpha)
    assert "broken.safetensors" in message
    assert "'weight' holds NaN or Inf" in message
    assert "broken.safetensors" in refused(broken, [finetuned], tmp_path / "out.safetensors", alpha=alpha)


def test_a_result_that_overflows_its_dtype_is_refused(tmp_path):
    base = save(tmp_path / "a.safetensors", weight=torch.full((2, 3), 60000.0).half())
    finetuned = save(tmp_path / "b.safetensors", weight=torch.full((2, 3), -60000.0).half())
    message = refused(base, [finetuned], tmp_path / "out.safetensors", alpha=-1.0, extrapolate=True)
    assert "merged model, stored as F16: tensor 'weight'" in message


@pytest.mark.parametrize("alpha", [-0.01, 1.01, 2])
def test_alpha_outside_the_unit_interval(tmp_path, base, finetuned, alpha):
    assert "outside [0, 1]" in refused(base, [finetuned], tmp_path / "out.safetensors", alpha=alpha)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), "0.25", None, True])
def test_alpha_that_is_no_number(tmp_path, base, finetuned, alpha):
    assert "is not a number" in refused(base, [finetuned], tmp_path / "out.safetensors", alpha=alpha, extrapolate=True)


def test_no_finetuned_model(tmp_path, base):
    assert "at least one" in refused(base, [], tmp_path / "out.safetensors")


def test_the_same_model_twice(tmp_path, base, finetuned):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(finetuned.read_bytes())
    assert "are the same file" in refused(base, [finetuned, copy], tmp_path / "out.safetensors")
    assert "are the same file" in refused(base, [finetuned, finetuned], tmp_path / "out.safetensors")


def test_the_base_as_finetuned_model(tmp_path, base, finetuned):
    assert "as the pre-trained and as a fine-tuned" in refused(base, [finetuned, base], tmp_path / "out.safetensors")


def test_the_output_is_an_input(tmp_path, base, finetuned):
    before = finetuned.read_bytes()
    assert "is the input" in refused(base, [finetuned], finetuned)
    (tmp_path / "sub").mkdir()
    assert "is the input" in refused(base, [finetuned], tmp_path / "sub" / ".." / "base.safetensors")
    assert finetuned.read_bytes() == before


def test_a_missing_file(tmp_path, base, finetuned):
    assert "no such file" in refused(base, [tmp_path / "absent.safetensors"], tmp_path / "out.safetensors")
    assert "no such file" in refused(tmp_path / "absent.safetensors", [finetuned], tmp_path / "out.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_a_truncated_file(tmp_path, base, finetuned, keep):
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(finetuned.read_bytes()[:keep])
    message = refused(base, [damaged], tmp_path / "out.safetensors")
    assert "damaged.safetensors: cannot be read as safetensors" in message


def test_a_dtype_that_can_not_be_merged(tmp_path, base):
    header = json.dumps({"weight": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    exotic = tmp_path / "exotic.safetensors"
    exotic.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0")
    assert "dtype F8_E4M3" in refused(base, [exotic], tmp_path / "out.safetensors")


def test_integers_that_differ(tmp_path):
    base = save(tmp_path / "a.safetensors", steps=torch.tensor([1, 2]))
    finetuned = save(tmp_path / "b.safetensors", steps=torch.tensor([1, 3]))
    assert "steps holds I64 numbers other than" in refused(base, [finetuned], tmp_path / "out.safetensors")


def test_an_older_output_survives_a_failure(tmp_path, base):
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"older")
    broken = save(tmp_path / "broken.safetensors", weight=torch.full((2, 3), float("nan")))
    refused(base, [broken], out)
    assert out.read_bytes() == b"older"


def test_unknown_method_and_parameter():
    with pytest.raises(MergeError, match=r"no merge method 'tise'. Did you mean 'ties'\? There are linear"):
        get_method("tise")
    with pytest.raises(MergeError, match=r"density: unknown key"):
        get_method("linear", {"density": 0.5})
