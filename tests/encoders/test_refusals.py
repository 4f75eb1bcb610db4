"""Damaged, unsafe and wrong files each give one clear error and leave nothing behind."""

import os
import pickle

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
        assert caught.value.__cause__ is None or not isinstance(caught.value.__cause__, AssertionError)
        return str(caught.value)

    return check


class Exploit:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.system, (f"touch {self.target}",))


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_with_code_are_refused_and_named(content, tmp_path, zipped):
    path, target = tmp_path / "evil.pt", tmp_path / "executed"
    torch.save({**content, "extra": Exploit(target)}, path, _use_new_zipfile_serialization=zipped)
    for action in (lambda: import_checkpoint(path, tmp_path / "out"), lambda: inspect_checkpoint(path)):
        with pytest.raises(CheckpointError, match=r"posix\.system.*container without network"):
            action()
    assert not target.exists()
    assert not (tmp_path / "out").exists()


def test_a_plain_pickle_with_code_is_refused(tmp_path):
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Exploit(tmp_path / "executed")))
    with pytest.raises(CheckpointError):
        import_checkpoint(tmp_path / "evil.pkl", tmp_path / "out")
    assert not (tmp_path / "executed").exists()


def test_allowed_names_stay_inert(content, tmp_path):
    """Classes on the allow-list are replaced: building an "argparse.Namespace" runs nothing of argparse."""
    from argparse import Namespace

    torch.save({**content, "extra": [Namespace(a=1), np.float64(3.0), np.arange(3)]}, tmp_path / "ok.pt")
    import_checkpoint(tmp_path / "ok.pt", tmp_path / "out")


def test_other_classes_are_refused_by_name(content, refused):
    from fractions import Fraction

    assert "fractions.Fraction" in refused({**content, "extra": Fraction(1, 2)})


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


def test_nan_is_named(content, refused):
    content["model_weight"]["encoder.layers.1.fc1.weight"][3, 4] = float("nan")
    assert "encoder.layers.1.feed_forward.intermediate_dense.weight holds NaN or Inf" in refused(content)


def test_inf_in_a_pretraining_tensor_is_named(content, refused):
    content["model_weight"]["final_proj.bias"][0] = float("inf")
    assert "final_proj.bias holds NaN or Inf" in refused(content)


def test_wrong_shape_is_named(content, refused):
    content["model_weight"]["encoder.layers.0.fc1.bias"] = torch.zeros(127)
    assert "intermediate_dense.bias has shape [127], the configuration asks for [128]" in refused(content)


def test_missing_tensor_is_named(content, refused):
    del content["model_weight"]["encoder.layers.2.fc2.weight"]
    assert "encoder.layers.2.feed_forward.output_dense.weight is missing" in refused(content)


def test_unknown_tensor_is_named(content, refused):
    content["model_weight"]["encoder.adapter.weight"] = torch.zeros(3)
    assert "encoder.adapter.weight" in refused(content)


def test_float64_is_refused(content, refused):
    content["model_weight"]["layer_norm.weight"] = content["model_weight"]["layer_norm.weight"].double()
    assert "layer_norm.weight has dtype torch.float64" in refused(content)


def test_network_of_another_kind(content, refused):
    content["model_cfg"]["layer_type"] = "conformer"
    assert "layer_type='conformer'" in refused(content)


def test_configuration_that_does_not_fit(content, refused):
    content["model_cfg"]["encoder_layers"] = 4
    assert "encoder.layers.3" in refused(content)


def test_impossible_configuration(content, refused):
    content["model_cfg"]["encoder_attention_heads"] = 5
    assert "describes no possible model" in refused(content)


def test_missing_configuration(content, refused):
    del content["model_cfg"]["encoder_layers"]
    assert "lacks encoder_layers" in refused(content)


def test_given_configuration_must_agree(content, refused):
    assert "config says encoder_layers=2, the checkpoint itself says 3" in refused(content, config={"encoder_layers": 2})


def test_code_in_the_configuration_is_not_evaluated(content, refused, tmp_path):
    content["model_cfg"]["conv_feature_layers"] = f"__import__('os').system('touch {tmp_path}/executed')"
    assert "conv_feature_layers" in refused(content)


def test_heads_of_an_unpublished_size_must_be_given(golden, tmp_path):
    with pytest.raises(CheckpointError, match="encoder_attention_heads"):
        import_checkpoint(golden / "upstream" / "decoar2.pt", tmp_path / "out")


def test_bare_transformers_weights_need_their_configuration(tiny_hubert, tmp_path):
    import shutil

    shutil.copyfile(tiny_hubert / "model.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"config\.json beside it"):
        import_checkpoint(tmp_path / "model.safetensors", tmp_path / "out")


def test_names_that_do_not_exist(hubert, tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        import_checkpoint(tmp_path / "none.pt", tmp_path / "out")
    with pytest.raises(CheckpointError, match="no format 'onnx'"):
        import_checkpoint(hubert.checkpoint, tmp_path / "out", format="onnx")
    with pytest.raises(CheckpointError, match="no encoder family 'bert'"):
        import_checkpoint(hubert.checkpoint, tmp_path / "out", family="bert")
    with pytest.raises(CheckpointError, match="no export format 'onnx'"):
        export_checkpoint(hubert.directory, tmp_path / "out", format="onnx")
    with pytest.raises(CheckpointError, match="no such file"):
        load_encoder(tmp_path / "none")


@pytest.fixture
def copied(tiny_hubert, tmp_path):
    import shutil

    return shutil.copytree(tiny_hubert, tmp_path / "copy")


def test_flipped_bit_in_an_encoder_directory(copied):
    data = bytearray((copied / "model.safetensors").read_bytes())
    data[-1000] ^= 1
    (copied / "model.safetensors").write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_encoder(copied)


def test_truncated_encoder_directory(copied):
    data = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(data[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        load_backbone(copied)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "holds a list"),
        ('{"model_type": "bert"}', "'bert' is no encoder family"),
        ('{"model_type": "hubert", "hidden_size": "x"}', "hidden_size"),
    ],
)
def test_damaged_configuration(copied, text, message):
    (copied / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        load_encoder(copied)
