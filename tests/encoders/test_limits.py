"""Configurations from elsewhere: impossible sizes are refused before anything is built from them."""

import shutil
import time

import pytest
import torch
from encoders.tiny import edit_json

from speechft.encoders import export_checkpoint, import_checkpoint, load_encoder
from speechft.errors import CheckpointError


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 900},
        {"num_hidden_layers": -1},
        {"hidden_size": 10**12},
        {"intermediate_size": 10**15},
        {"conv_dim": [32] * 10**5, "conv_kernel": [3] * 10**5, "conv_stride": [2] * 10**5},
        {"conv_dim": [10**13] * 7},
        {"num_conv_pos_embeddings": 10**10},
    ],
)
def test_sizes_beyond_every_encoder(tiny_hubert, tmp_path, changes):
    copy = shutil.copytree(tiny_hubert, tmp_path / "encoder")
    edit_json(copy / "config.json", **changes)
    started = time.monotonic()
    for use in (lambda: load_encoder(copy), lambda: import_checkpoint(copy, tmp_path / "out")):
        with pytest.raises(CheckpointError, match=next(iter(changes))):
            use()
    assert time.monotonic() - started < 20
    assert not (tmp_path / "out").exists()


@pytest.fixture
def content(tiny_hubert, tmp_path):
    export_checkpoint(tiny_hubert, tmp_path / "c.pt", format="s3prl")
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    return {"cfg": {"model": {"_name": "hubert", **content["model_cfg"]}, "task": content["task_cfg"]}, "model": content["model_weight"]}


def refused(content, folder, message):
    torch.save(content, folder / "bad.pt")
    with pytest.raises(CheckpointError, match=message) as caught:
        import_checkpoint(folder / "bad.pt", folder / "out")
    assert not (folder / "out").exists()
    return str(caught.value)


def itself(cfg):
    cfg["model"]["self"] = cfg


def doubled(cfg):
    value = []
    for _ in range(60):
        value = [value, value]
    cfg["model"]["shared"] = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_layers": 10**9}, "num_hidden_layers=1000000000"),
        ({"latent_temp": "__import__('os').system('touch executed')"}, "latent_temp"),
        ({"latent_temp": "(" * 100_000}, "latent_temp"),
        ({"latent_temp": "5"}, "latent_temp"),
        ({"conv_feature_layers": "(" * 100_000}, "conv_feature_layers"),
        ({"conv_feature_layers": "[(32,10,5)]" + " * 100" * 5}, "conv_feature_layers"),
        ({"conv_feature_layers": 7}, "conv_feature_layers"),
        ({"dropout": "many"}, "dropout"),
        ({"attention_dropout": [0.1]}, "attention_dropout"),
        (itself, "contains itself"),
        (doubled, "more than 1000000 entries"),
    ],
)
def test_configurations_in_checkpoints(content, tmp_path, change, message):
    if callable(change):
        change(content["cfg"])
    else:
        content["cfg"]["model"].update(change)
    refused(content, tmp_path, message)


def test_names_that_a_terminal_obeys(content, tmp_path):
    content["model"]["x\x1b[2J"] = torch.zeros(1)
    for bad in (content, {"odd\x1b[2J": 1}):
        assert "\x1b" not in refused(bad, tmp_path, "")
