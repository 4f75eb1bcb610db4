"""`merge_files`: the recorded merges, properties of the linear merge, refusals, and how files are read and written."""

import json
import struct
import subprocess
import sys

import hypothesis.strategies as st
import pytest
import torch
from conftest import ROOT
from encoders.tiny import equal, files
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from safetensors.torch import load_file, save, save_file

from speechft.errors import MergeError, OutputError
from speechft.files.structured import read_json
from speechft.merge import get_method, merge_files
from speechft.merge.tensors import TensorReader, TensorWriter

FOLDER = ROOT / "tests/golden/merge"
CASES = read_json(FOLDER / "merge.json")["cases"]
assert len(CASES) == 6


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_recorded_merge(case, tmp_path):
    options = {} if case["alpha"] is None else {"alpha": case["alpha"]}
    finetuned = [FOLDER / f"finetuned_{index}.safetensors" for index in range(case["n_finetuned"])]
    keep = ("model.final_proj*", "model.label_embs_concat*")
    merge_files(FOLDER / "base.safetensors", finetuned, tmp_path / "out.safetensors", keep=keep, **options)
    found, recorded, base = (load_file(path) for path in (tmp_path / "out.safetensors", FOLDER / case["file"], FOLDER / "base.safetensors"))
    torch.testing.assert_close(found, recorded, rtol=0, atol=1e-6)
    same = {name for name, tensor in found.items() if torch.equal(tensor, base[name])}
    assert {name for name in found if name.startswith(("model.final_proj", "model.label_embs_concat"))} <= same < found.keys()


# Finite float32, subnormals and both zeros among them; far from the largest, where theta' - theta0 would overflow.
VALUES = st.floats(min_value=-(2.0**100), max_value=2.0**100, width=32)
ALPHAS = st.floats(min_value=0.0, max_value=1.0)
quick = settings(max_examples=40, deadline=None, database=None)


def models(count, values=VALUES):
    array = arrays("float32", (2, 3), elements=values).map(torch.tensor)
    return st.lists(st.fixed_dictionaries({"encoder.weight": array, "bias": array}), min_size=count, max_size=count)


@quick
@given(models(2), ALPHAS)
def test_the_ends_are_the_models_and_a_copy_of_the_base_leaves_it(merged, pair, alpha):
    base, finetuned = pair
    assert equal(merged(base, [finetuned], 0.0), base)
    assert equal(merged(base, [finetuned], 1.0), finetuned)
    assert equal(merged(base, [base], alpha), base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("alpha", [-1.5, -0.25, 0.1, 0.25, 0.5, 0.75, 0.9, 1.5, 2.0])
def test_values_that_both_models_share_stay_bit_for_bit(merged, alpha, dtype):
    shared = torch.tensor([-0.0, 0.0, 1.0, -1e-6, 3.0, 0.1, -0.0] * 7).to(dtype)
    base, finetuned = ({"x": torch.cat([shared, torch.full((3,), value, dtype=dtype)])} for value in (1.0, 0.0))
    found = merged(base, [finetuned], alpha, extrapolate=True)["x"]
    assert equal({"x": found[:-3]}, {"x": shared})
    assert found[-3:].tolist() == pytest.approx([1 - alpha] * 3, abs=0.004)


def test_finite_values_whose_sum_overflows_are_merged(merged):
    base, finetuned = ({"x": torch.full((8,), value)} for value in (3e38, 2e38))
    assert merged(base, [finetuned], 0.5)["x"].tolist() == pytest.approx([2.5e38] * 8)


@quick
@given(models(5, st.floats(min_value=-100, max_value=100, width=32)), ALPHAS)
def test_it_is_theta0_plus_alpha_times_the_mean_task_vector(merged, all_models, alpha):
    base, *finetuned = all_models
    if any(equal(left, right) for index, left in enumerate(finetuned) for right in finetuned[:index]):
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


NAN, INF = float("nan"), float("inf")
PLAIN = {"weight": torch.ones(2, 3), "bias": torch.zeros(3)}
TUNED, OTHER = ({**PLAIN, "bias": torch.full((3,), value)} for value in (1.0, 2.0))
EXOTIC = json.dumps({"weight": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()


def broken(value):
    return {**PLAIN, "weight": torch.tensor([[0, 1, 2], [3, value, 5]])}


@pytest.mark.parametrize(
    ("contents", "options", "message"),
    [
        ([PLAIN], {}, "at least one"),
        ([PLAIN, TUNED, TUNED], {}, "are the same file"),
        ([PLAIN, None], {}, "1: no such file"),
        ([None, TUNED], {}, "0: no such file"),
        *(([PLAIN, save(TUNED)[:keep]], {}, "1: cannot be read as safetensors") for keep in (0, 4, 40, -1)),
        ([PLAIN, struct.pack("<Q", len(EXOTIC)) + EXOTIC + b"\0\0"], {}, "dtype F8_E4M3"),
        ([PLAIN, {**PLAIN, "extra": torch.ones(1)}], {}, "1: extra F32 [1] is unexpected"),
        ([PLAIN, {**PLAIN, "weight": torch.ones(3, 2)}], {}, "1: weight is F32 [3, 2], but F32 [2, 3] in the pre-trained model"),
        ([PLAIN, TUNED, {**PLAIN, "bias": torch.zeros(3).double()}], {}, "2: bias is F64 [3], but F32 [3] in the pre-trained model"),
        ([PLAIN, {"weight": torch.ones(1)}, {"weight": torch.ones(2, 3)}], {}, "2: bias F32 [3] is missing"),
        ([PLAIN, {**PLAIN, **{f"extra{index}": torch.ones(1) for index in range(30)}}], {}, "and 10 more"),
        ([{**PLAIN, "steps": torch.tensor(2)}, {**PLAIN, "steps": torch.tensor(3)}], {}, "steps (I64) differs from"),
        *(
            (contents, {"alpha": alpha}, message)
            for value in (NAN, INF, -INF)
            for alpha in (0.0, 0.25)
            for contents, message in (
                ([PLAIN, TUNED, broken(value)], "2: tensor 'weight' contains NaN or Inf"),
                ([broken(value), TUNED], "0: tensor 'weight' contains NaN or Inf"),
            )
        ),
        (
            [{"weight": torch.full((2, 3), value).half()} for value in (60000.0, -60000.0)],
            {"alpha": -1.0, "extrapolate": True},
            "merged model, stored as F16: tensor 'weight'",
        ),
        *(([PLAIN, TUNED], {"alpha": alpha}, "outside [0, 1]") for alpha in (-0.01, 1.01, 2)),
        *(([PLAIN, TUNED], {"alpha": alpha, "extrapolate": True}, "is not a number") for alpha in (NAN, INF, "0.25", None, True)),
        ([PLAIN, TUNED, OTHER], {"method": get_method("slerp")}, "'slerp' needs 1 fine-tuned model, got 2"),
        ([PLAIN, TUNED], {"method": get_method("model_stock")}, "'model_stock' needs at least 2 fine-tuned models, got 1"),
        (
            [PLAIN, TUNED, OTHER],
            {"method": get_method("task_arithmetic", {"weights": [1, 2, 3]})},
            "weights has 3 values for 2 fine-tuned models",
        ),
    ],
)
def test_refusals_leave_an_older_output(tmp_path, contents, options, message):
    paths = [tmp_path / str(index) for index in range(len(contents))]
    for path, content in zip([*paths, tmp_path / "out"], [*contents, OTHER], strict=True):
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else save(content))
    before = files(tmp_path)
    with pytest.raises(MergeError) as caught:
        merge_files(paths[0], paths[1:], tmp_path / "out", **options)
    assert message in str(caught.value)
    assert files(tmp_path) == before


def test_no_file_is_given_twice(tmp_path):
    base, finetuned = tmp_path / "base", tmp_path / "finetuned"
    save_file(PLAIN, base)
    save_file(TUNED, finetuned)
    with pytest.raises(MergeError, match="as the pre-trained and as a fine-tuned"):
        merge_files(base, [finetuned, base], tmp_path / "out")
    for out in (finetuned, tmp_path / ".." / tmp_path.name / "base"):
        with pytest.raises(OutputError, match="is the input"):
            merge_files(base, [finetuned], out)
    assert files(tmp_path) == {"base": save(PLAIN), "finetuned": save(TUNED)}


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("tise", {}, r"Unknown merge method 'tise'. Did you mean 'ties'\? Available: linear"),
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


TENSORS = {
    "z.half": torch.arange(3).half(),
    "scalar": torch.tensor(2.5),
    "a.bfloat": torch.arange(4).bfloat16(),
    "double": torch.arange(5).double(),
    "flags": torch.tensor([True, False, True]),
    "empty": torch.empty(0, 2),
    "bytes": torch.arange(7, dtype=torch.uint8),
    "matrix": torch.arange(6.0).reshape(2, 3),
    "naïve": torch.ones(1),
}


def test_every_dtype_and_shape_survives_aligned_to_its_elements(tmp_path):
    save_file(TENSORS, tmp_path / "in.safetensors")
    reader = TensorReader(tmp_path / "in.safetensors")
    writer = TensorWriter(tmp_path / "out.safetensors", reader.tensors)
    for name in writer.order:
        writer.append(name, reader.piece(name, 0, reader.tensors[name].size))
    writer.close()
    assert equal(load_file(tmp_path / "out.safetensors"), TENSORS)
    content = (tmp_path / "out.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    for name, entry in header.items():
        assert (8 + length + entry["data_offsets"][0]) % TENSORS[name].element_size() == 0


MEASURE = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from speechft.merge import get_method, merge_files

folder = Path(sys.argv[1])
torch.set_num_threads(1)


def peak():
    # Not ru_maxrss, which a process inherits from the one that started it.
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")).split()[1]) / 1024


for name, value in (("small_a", 0.0), ("small_b", 1.0), ("small_c", 2.0)):
    save_file({"x": torch.full((1,), value)}, folder / name)
for kind in ("small_", ""):
    before = peak()
    for method in ("linear", "ties", "dare", "model_stock"):
        a, b, c = (folder / (kind + name) for name in "abc")
        merge_files(a, [b, c], folder / "out", get_method(method))
print(peak() - before)
"""


def test_peak_memory_is_a_few_pieces_however_large_the_tensors_are(tmp_path):
    for seed, name in enumerate("abc"):
        generator = torch.Generator().manual_seed(seed)
        save_file({"one": torch.randn(10 * 2**20, generator=generator), "other": torch.randn(2**20, generator=generator)}, tmp_path / name)
    done = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True)
    # One tensor of one model is 40 MB; three models are read.
    assert 0 < float(done.stdout) < 40
