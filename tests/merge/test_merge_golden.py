"""Merges equal to those of the released merge code."""

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

from speechft.files.structured import read_json
from speechft.merge import merge_files

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
