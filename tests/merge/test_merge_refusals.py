"""Each refusal of `merge_files` is one error that says what, where and what to do, and leaves no file behind."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from speechft.errors import MergeError, OutputError
from speechft.merge import get_method, merge_files

PLAIN = {"weight": torch.ones(2, 3), "bias": torch.zeros(3)}
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def save(tmp_path):
    """Function that saves tensors, or bytes, as a file, and returns its path."""

    def save(name, content=None, **tensors):
        path = tmp_path / f"{name}.safetensors"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            save_file({**PLAIN, **tensors} if content is None else content, path)
        return path

    return save


@pytest.fixture
def base(save):
    return save("base")


@pytest.fixture
def finetuned(save):
    return save("finetuned", bias=torch.ones(3))


@pytest.fixture
def refused(base, finetuned, tmp_path):
    """Function that merges, asserts that it is refused without a trace, and returns the message."""

    def check(base=base, finetuned=(finetuned,), out=tmp_path / "out.safetensors", **options):
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises((MergeError, OutputError)) as caught:
            merge_files(base, finetuned, out, **options)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        return str(caught.value)

    return check


def test_all_differences_are_listed_at_once(save, refused):
    other = save("other", {"weight": torch.ones(3, 2), "bias": torch.zeros(3).double(), "extra": torch.ones(1)})
    lacking = save("lacking", {"weight": torch.ones(2, 3)})
    message = refused(finetuned=[other, lacking])
    for expected in (
        f"{other}: has extra F32 [1] in addition",
        f"{other}: weight is F32 [3, 2], pre-trained it is F32 [2, 3]",
        f"{other}: bias is F64 [3], pre-trained it is F32 [3]",
        f"{lacking}: lacks bias F32 [3]",
    ):
        assert expected in message
    assert "and 10 more" in refused(finetuned=[save("long", **{f"extra{index}": torch.ones(1) for index in range(30)})])


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("alpha", [0.0, 0.25])
def test_nan_and_inf_name_the_tensor_and_the_file(save, refused, finetuned, value, alpha):
    broken = save("broken", weight=torch.tensor([[0, 1, 2], [3, value, 5]]))
    for models in ({"finetuned": [finetuned, broken]}, {"base": broken}):
        message = refused(**models, alpha=alpha)
        assert "broken.safetensors" in message
        assert "'weight' holds NaN or Inf" in message


def test_a_result_that_overflows_its_dtype_is_refused(save, refused):
    base, finetuned = (save(name, weight=torch.full((2, 3), sign * 60000.0).half()) for name, sign in (("a", 1), ("b", -1)))
    message = refused(base, [finetuned], alpha=-1.0, extrapolate=True)
    assert "merged model, stored as F16: tensor 'weight'" in message


@pytest.mark.parametrize(
    ("alpha", "extrapolate", "message"),
    [
        *((alpha, False, "outside [0, 1]") for alpha in (-0.01, 1.01, 2)),
        *((alpha, True, "is not a number") for alpha in (NAN, INF, "0.25", None, True)),
    ],
)
def test_alpha(refused, alpha, extrapolate, message):
    assert message in refused(alpha=alpha, extrapolate=extrapolate)


def test_which_models_are_given(tmp_path, save, refused, base, finetuned):
    copy, absent = save("copy", finetuned.read_bytes()), tmp_path / "absent.safetensors"
    assert "at least one" in refused(finetuned=[])
    assert "are the same file" in refused(finetuned=[finetuned, copy])
    assert "are the same file" in refused(finetuned=[finetuned, finetuned])
    assert "as the pre-trained and as a fine-tuned" in refused(finetuned=[finetuned, base])
    assert "is the input" in refused(out=finetuned)
    assert "is the input" in refused(out=tmp_path / ".." / tmp_path.name / "base.safetensors")
    assert "no such file" in refused(finetuned=[absent])
    assert "no such file" in refused(base=absent)


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_a_truncated_file(save, refused, finetuned, keep):
    damaged = save("damaged", finetuned.read_bytes()[:keep])
    assert "damaged.safetensors: cannot be read as safetensors" in refused(finetuned=[damaged])


def test_a_dtype_that_can_not_be_merged(save, refused):
    header = json.dumps({"weight": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    assert "dtype F8_E4M3" in refused(finetuned=[save("exotic", struct.pack("<Q", len(header)) + header + b"\0\0")])


def test_integers_that_differ(save, refused):
    base, finetuned = (save(name, steps=torch.tensor([1, last])) for name, last in (("a", 2), ("b", 3)))
    assert "steps holds I64 numbers other than" in refused(base, [finetuned])


def test_an_older_output_survives_a_failure(save, refused):
    older = save("out", b"older")
    refused(finetuned=[save("broken", weight=torch.full((2, 3), NAN))], out=older)


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("tise", {}, r"no merge method 'tise'. Did you mean 'ties'\? There are linear"),
        ("linear", {"density": 0.5}, "density: unknown key"),
        ("ties", {"density": 0}, "density: Input should be greater than 0, found 0"),
        ("ties", {"densty": 0.5}, r"densty: unknown key; did you mean 'density'\?"),
        ("ties", {"trim": "layer"}, "trim: Input should be 'model' or 'tensor', found 'layer'"),
        ("dare", {"drop": 1}, "drop: Input should be less than 1"),
        ("task_arithmetic", {"weights": [1, NAN]}, "weights.1: Input should be a finite number"),
    ],
)
def test_unknown_methods_and_impossible_parameters(method, parameters, message):
    with pytest.raises(MergeError, match=message):
        get_method(method, parameters)


@pytest.mark.parametrize(
    ("method", "parameters", "count", "message"),
    [
        ("slerp", {}, 2, "'slerp' takes 1 fine-tuned model, got 2"),
        ("model_stock", {}, 1, "'model_stock' takes at least 2 fine-tuned models, got 1"),
        ("task_arithmetic", {"weights": [1, 2, 3]}, 2, "weights has 3 values for 2 fine-tuned models"),
    ],
)
def test_numbers_of_models_that_a_method_does_not_take(save, refused, finetuned, method, parameters, count, message):
    models = [finetuned, save("other", bias=2 * torch.ones(3))][:count]
    assert message in refused(finetuned=models, method=get_method(method, parameters))
