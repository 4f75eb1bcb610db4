"""Damaged, unsafe and wrong files each give one clear error and leave nothing behind."""

import os
import pickle
import shutil
from argparse import Namespace
from fractions import Fraction

import numpy as np
import pytest
import torch

from speechft.encoders import export_checkpoint, import_checkpoint, inspect_checkpoint, load_encoder
from speechft.encoders.directory.layout import load_backbone
from speechft.errors import CheckpointError


@pytest.fixture
def content(hubert):
    return torch.load(hubert.checkpoint, weights_only=True)


@pytest.fixture
def refused(tmp_path):
    """Function that saves a checkpoint, asserts that import refuses it without leaving anything, and returns the message."""

    def check(content, **options):
        path = tmp_path / "bad.pt"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        with pytest.raises(CheckpointError) as caught:
            import_checkpoint(path, tmp_path / "out", **options)
        assert [entry.name for entry in tmp_path.iterdir()] == ["bad.pt"]
        return str(caught.value)

    return check


class Exploit:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.system, (f"touch {self.target}",))


@pytest.mark.parametrize("kind", ["zip", "old", "pickle"])
def test_checkpoints_with_code_are_refused_and_named(content, tmp_path, kind):
    path, target = tmp_path / "evil.pt", tmp_path / "executed"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Exploit(target)))
    else:
        torch.save({**content, "extra": Exploit(target)}, path, _use_new_zipfile_serialization=kind == "zip")
    for action in (lambda: import_checkpoint(path, tmp_path / "out"), lambda: inspect_checkpoint(path)):
        with pytest.raises(CheckpointError, match=None if kind == "pickle" else r"posix\.system.*container without network"):
            action()
    assert [entry.name for entry in tmp_path.iterdir()] == ["evil.pt"]


def test_allowed_names_stay_inert(content, tmp_path):
    """Classes on the allow-list are replaced: building an "argparse.Namespace" runs nothing of argparse."""
    torch.save({**content, "extra": [Namespace(a=1), np.float64(3.0), np.arange(3)]}, tmp_path / "ok.pt")
    import_checkpoint(tmp_path / "ok.pt", tmp_path / "out")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_files(hubert, refused, share):
    data = hubert.checkpoint.read_bytes()
    message = refused(data[: int(share * len(data))])
    assert "bad.pt" in message
    assert "Download it again" in message


def test_flipped_bits(hubert, refused):
    data = bytearray(hubert.checkpoint.read_bytes())
    data[len(data) // 2] ^= 0x10
    assert "checksum" in refused(bytes(data))


@pytest.mark.parametrize("data", [b"not a checkpoint at all\n", b"\x80\x02", b"PK\x03\x04", b"\x00" * 4096])
def test_not_a_checkpoint(refused, data):
    assert "bad.pt" in refused(data)


@pytest.mark.parametrize("value", [[1, 2], {"weights": {}}, torch.zeros(3), {"model": {}}, {"state_dict": {"a": torch.zeros(1)}}])
def test_unknown_layouts(refused, value):
    assert "known layout" in refused(value)


LAYER = "encoder.layers.0"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (f"{LAYER}.fc1.weight", lambda tensor: tensor.index_fill(0, torch.tensor(3), float("nan")), "intermediate_dense.weight holds NaN"),
        ("final_proj.bias", lambda tensor: tensor + float("inf"), "final_proj.bias holds NaN or Inf"),
        (f"{LAYER}.fc1.bias", lambda tensor: tensor[:-1], "intermediate_dense.bias has shape [127], the configuration asks for [128]"),
        (f"{LAYER}.fc2.weight", None, f"{LAYER}.feed_forward.output_dense.weight is missing"),
        ("layer_norm.weight", lambda tensor: tensor.double(), "layer_norm.weight has dtype torch.float64"),
        ("encoder.adapter.weight", lambda _: torch.zeros(3), "encoder.adapter.weight"),
    ],
)
def test_tensors_are_named(content, refused, name, change, message):
    tensor = content["model_weight"].pop(name, None)
    if change is not None:
        content["model_weight"][name] = change(tensor)
    assert message in refused(content)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("layer_type", "conformer", "layer_type='conformer'"),
        ("encoder_layers", 4, "encoder.layers.3"),
        ("encoder_attention_heads", 5, "describes no possible model"),
        ("encoder_layers", None, "lacks encoder_layers"),
        ("conv_feature_layers", "__import__('os').system('touch executed')", "conv_feature_layers"),
    ],
)
def test_configurations(content, refused, key, value, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content["model_cfg"].pop(key, None)
    content["model_cfg"] |= {} if value is None else {key: value}
    assert message in refused(content)


def test_given_configuration_must_agree(content, refused):
    assert "config says encoder_layers=2, the checkpoint itself says 3" in refused(content, config={"encoder_layers": 2})


def test_other_classes_are_refused_by_name(content, refused):
    assert "fractions.Fraction" in refused({**content, "extra": Fraction(1, 2)})


def test_heads_of_an_unpublished_size_must_be_given(golden, tmp_path):
    with pytest.raises(CheckpointError, match="encoder_attention_heads"):
        import_checkpoint(golden / "upstream" / "decoar2.pt", tmp_path / "out")


def test_bare_transformers_weights_need_their_configuration(tiny_hubert, tmp_path):
    shutil.copyfile(tiny_hubert / "model.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"config\.json beside it"):
        import_checkpoint(tmp_path / "model.safetensors", tmp_path / "out")


def test_names_that_do_not_exist(hubert, tmp_path):
    out = tmp_path / "out"
    for use, message in (
        (lambda: import_checkpoint(tmp_path / "none.pt", out), "no such file"),
        (lambda: import_checkpoint(hubert.checkpoint, out, format="onnx"), "no format 'onnx'"),
        (lambda: import_checkpoint(hubert.checkpoint, out, family="bert"), "no encoder family 'bert'"),
        (lambda: export_checkpoint(hubert.directory, out, format="onnx"), "no export format 'onnx'"),
        (lambda: load_encoder(tmp_path / "none"), "no such file"),
    ):
        with pytest.raises(CheckpointError, match=message):
            use()


def test_damaged_weights_of_an_encoder_directory(tiny_hubert, tmp_path):
    path = shutil.copytree(tiny_hubert, tmp_path / "copy") / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:])
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_encoder(tmp_path / "copy")
    path.write_bytes(data[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        load_backbone(tmp_path / "copy")
