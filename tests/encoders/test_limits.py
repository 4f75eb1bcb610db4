"""Configurations from elsewhere: impossible sizes are refused before anything is built from them."""

import json
import time

import pytest
import torch

from speechft.encoders import export_checkpoint, import_checkpoint, load_encoder, random_encoder
from speechft.errors import CheckpointError


@pytest.fixture
def made(tmp_path):
    random_encoder("hubert", tmp_path / "encoder")
    return tmp_path


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
def test_sizes_beyond_every_encoder(made, changes):
    path = made / "encoder/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    started = time.monotonic()
    for use in (lambda: load_encoder(made / "encoder"), lambda: import_checkpoint(made / "encoder", made / "out")):
        with pytest.raises(CheckpointError, match=next(iter(changes))):
            use()
    assert time.monotonic() - started < 20
    assert not (made / "out").exists()


def itself(content):
    content["cfg"]["model"]["self"] = content["cfg"]


def doubled(content):
    value = []
    for _ in range(60):
        value = [value, value]
    content["cfg"]["model"]["shared"] = value


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
def test_configurations_in_checkpoints(made, change, message):
    export_checkpoint(made / "encoder", made / "c.pt", format="s3prl")
    content = torch.load(made / "c.pt", weights_only=True)
    content = {"cfg": {"model": {"_name": "hubert", **content["model_cfg"]}, "task": content["task_cfg"]}, "model": content["model_weight"]}
    if callable(change):
        change(content)
    else:
        content["cfg"]["model"].update(change)
    torch.save(content, made / "bad.pt")
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(made / "bad.pt", made / "out")
    assert not (made / "out").exists()


def test_names_that_a_terminal_obeys(made):
    export_checkpoint(made / "encoder", made / "c.pt", format="s3prl")
    content = torch.load(made / "c.pt", weights_only=True)
    content["model_weight"]["x\x1b[2J"] = torch.zeros(1)
    torch.save(content, made / "bad.pt")
    torch.save({"odd\x1b[2J": 1}, made / "odd.pt")
    for file in ("bad.pt", "odd.pt"):
        with pytest.raises(CheckpointError) as caught:
            import_checkpoint(made / file, made / "out")
        assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", '{"outputs": 3}', '{"outputs": {"../secret": "0"}}', "[" * 5000 + "]" * 5000])
def test_damaged_provenance(made, text):
    (made / "encoder/provenance.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"provenance\.json"):
        load_encoder(made / "encoder")
