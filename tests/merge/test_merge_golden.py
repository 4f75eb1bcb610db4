"""Merges equal to those of the released merge code."""

import pytest
import torch
from safetensors.torch import load_file

from speechft.files.structured import read_json
from speechft.merge import merge_files

PRETRAINING_ONLY = ("model.final_proj*", "model.label_embs_concat*")
CASES = [
    ("merged_n1_alpha0.25", 1, 0.25),
    ("merged_n1_alpha0.5", 1, 0.5),
    ("merged_n1_alphadefault", 1, None),
    ("merged_n2_alpha0.25", 2, 0.25),
    ("merged_n2_alpha0.5", 2, 0.5),
    ("merged_n2_alphadefault", 2, None),
]


def test_all_recorded_cases_are_here(golden):
    recorded = read_json(golden / "merge/merge.json")["cases"]
    found = {(case["file"].removesuffix(".safetensors"), case["n_finetuned"], case["alpha"]) for case in recorded}
    assert found == set(CASES)


@pytest.mark.parametrize(("name", "count", "alpha"), CASES)
def test_recorded_merge(golden, tmp_path, name, count, alpha):
    folder = golden / "merge"
    options = {} if alpha is None else {"alpha": alpha}
    finetuned = [folder / f"finetuned_{index}.safetensors" for index in range(count)]
    merge_files(folder / "base.safetensors", finetuned, tmp_path / "out.safetensors", keep=PRETRAINING_ONLY, **options)
    ours, recorded = load_file(tmp_path / "out.safetensors"), load_file(folder / f"{name}.safetensors")
    base = load_file(folder / "base.safetensors")
    assert ours.keys() == recorded.keys()
    changed = 0
    for key, tensor in recorded.items():
        assert ours[key].dtype == tensor.dtype
        torch.testing.assert_close(ours[key], tensor, rtol=0, atol=1e-6)
        if key.startswith(("model.final_proj", "model.label_embs_concat")):
            assert torch.equal(ours[key], base[key])
        else:
            changed += not torch.equal(ours[key], base[key])
    assert changed > 0
