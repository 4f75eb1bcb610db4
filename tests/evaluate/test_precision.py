"""Features have the precision that the recipe says, on every device, and cells record it."""

import json

import pytest
import torch
from conftest import ROOT
from evaluate.corpora import QUICK
from safetensors.torch import load_file
from torch import backends

from speechft.encoders import load_encoder
from speechft.evaluate import evaluate
from speechft.evaluate.data.features import FrozenEncoder, encoder_autocast, exact_fp32
from speechft.evaluate.probes.stacked import StackedProbes
from speechft.recipes.cell import read_cell

LIBRARIES = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
LIBRARIES += (backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn)


def allowed():
    return [library.fp32_precision for library in LIBRARIES]


def test_features_are_rounded_in_bf16_only(model_dir, prepare):
    cpu, clips = torch.device("cpu"), prepare("ks").train.clips[:3]
    exact, lengths = FrozenEncoder(load_encoder(model_dir), cpu)(clips)
    rounded, same = FrozenEncoder(load_encoder(model_dir), cpu, precision="bf16")(clips)
    assert exact.dtype == rounded.dtype == torch.float32
    assert torch.equal(lengths, same)
    error = (rounded - exact).abs().mean() / exact.abs().mean()
    assert 1e-4 < error < 0.05
    # The precision is the recipe's, whatever surrounds the call.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again, _ = FrozenEncoder(load_encoder(model_dir), cpu)(clips)
    assert torch.equal(again, exact)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_fp32_is_no_autocast_on_any_device(device):
    with encoder_autocast(torch.device(device), "fp32"):
        assert not torch.is_autocast_enabled(device)


@pytest.mark.parametrize("setting", ["highest", "medium"])
def test_an_evaluation_allows_no_tf32_and_leaves_the_settings_alone(model_dir, manifests, tmp_path, monkeypatch, setting):
    seen = []

    def listening(owner, name):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given: (seen.append((name, allowed())), original(*given))[1])

    listening(FrozenEncoder, "__call__")
    listening(StackedProbes, "train_step")
    before_all = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(setting)
        before = allowed()
        # Otherwise the test shows nothing: PyTorch allows TF32 in convolutions and recurrent layers.
        assert before[1:3] == ["tf32", "tf32"]
        evaluate(model_dir, "ks", manifests, tmp_path / "a.json", QUICK["ks"])
        assert allowed() == before
        assert {name for name, _ in seen} == {"__call__", "train_step"}
        assert all(found == ["ieee"] * len(LIBRARIES) for _, found in seen)
        with pytest.raises(KeyError), exact_fp32():
            assert allowed() == ["ieee"] * len(LIBRARIES)
            raise KeyError
        assert allowed() == before, "after an error"
    finally:
        torch.set_float32_matmul_precision(before_all)


def test_cells_record_the_precision_and_share_no_features(model_dir, manifests, cell_of, tmp_path):
    work = {"work_dir": tmp_path / "work", "keep_features": True}
    exact = evaluate(model_dir, "ks", manifests, tmp_path / "a.json", QUICK["ks"], **work)
    recipe = {**QUICK["ks"], "precision": "bf16"}
    rounded = evaluate(model_dir, "ks", manifests, tmp_path / "b.json", recipe, **work)
    assert [(cell["precision"], cell["recipe"]["precision"]) for cell in (exact, rounded)] == [("fp32", "fp32"), ("bf16", "bf16")]
    assert read_cell(tmp_path / "b.json").precision == "bf16"
    assert rounded["trials"] == cell_of("ks", precision="bf16")["trials"]
    first, second = (load_file(path)["means"] for path in sorted((tmp_path / "work").glob("*/train-00000.safetensors")))
    assert first.shape == second.shape
    assert 1e-5 < (first - second).abs().mean() < 0.1


def test_cells_of_earlier_versions_say_it_among_their_software(tmp_path):
    committed = sorted((ROOT / "docs/results/recorded/cells").rglob("*.json"))
    assert {read_cell(path).precision for path in committed} == {"fp32"}
    content = json.loads(committed[0].read_text())
    assert "precision" not in content
    for written, found in (("bf16 autocast", "bf16"), ("fp32", "fp32"), (None, None)):
        software = {key: value for key, value in content["software"].items() if key != "encoder_precision"}
        software |= {"encoder_precision": written} if written else {}
        (tmp_path / "cell.json").write_text(json.dumps({**content, "software": software}))
        assert read_cell(tmp_path / "cell.json").precision == found
