"""Damaged, unsafe and wrong files each give one clear error and leave nothing behind."""

import contextlib
import os
import pickle
import shutil
import time
from argparse import Namespace
from fractions import Fraction

import numpy as np
import pytest
import torch
from encoders.tiny import edit_json, refuses

from speechft.encoders import export_checkpoint, import_checkpoint, inspect_checkpoint, load_encoder, store_encoder
from speechft.encoders.directory.layout import load_backbone
from speechft.errors import CheckpointError, SpeechFTError


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


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        *((lambda data, share=share: data[: int(share * len(data))], "Download it again") for share in (0.0, 0.1, 0.5, 0.99)),
        (lambda data: data[:5000] + bytes([data[5000] ^ 0x10]) + data[5001:], "checksum"),
        *(
            (lambda _, other=other: other, "Download it again")
            for other in (b"no checkpoint at all\n", b"\x80\x02", b"PK\x03\x04", b"\x00" * 4096)
        ),
    ],
)
def test_damaged_files(hubert, refused, damage, message):
    found = refused(damage(hubert.checkpoint.read_bytes()))
    assert "bad.pt" in found
    assert message in found


@pytest.mark.parametrize("value", [[1, 2], {"weights": {}}, torch.zeros(3), {"model": {}}, {"state_dict": {"a": torch.zeros(1)}}])
def test_unknown_layouts(refused, value):
    assert "known layout" in refused(value)


LAYER = "encoder.layers.0"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            f"{LAYER}.fc1.weight",
            lambda tensor: tensor.index_fill(0, torch.tensor(3), float("nan")),
            "intermediate_dense.weight contains NaN",
        ),
        ("final_proj.bias", lambda tensor: tensor + float("inf"), "final_proj.bias contains NaN or Inf"),
        (f"{LAYER}.fc1.bias", lambda tensor: tensor[:-1], "intermediate_dense.bias has shape [127], expected [128]"),
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
        ({"layer_type": "conformer"}, "layer_type='conformer'"),
        ({"encoder_layers": 4}, "encoder.layers.3"),
        ({"encoder_layers": None}, "has no encoder_layers"),
        ({"encoder_layers": 10**9}, "num_hidden_layers=1000000000"),
        ({"encoder_attention_heads": 5}, "no model can be built"),
        *(({"latent_temp": text}, "latent_temp") for text in ("__import__('os').system('touch executed')", "(" * 100_000, "5")),
        *(
            ({"conv_feature_layers": text}, "conv_feature_layers")
            for text in ("__import__('os').system('touch executed')", "(" * 100_000, "[(32,10,5)]" + " * 100" * 5, 7)
        ),
        ({"dropout": "many"}, "dropout"),
        ({"attention_dropout": [0.1]}, "attention_dropout"),
        (itself, "contains itself"),
        (doubled, "more than 1000000 entries"),
    ],
)
def test_configurations(content, refused, change, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = {"model": {"_name": "hubert", **content["model_cfg"]}, "task": content["task_cfg"]}
    if callable(change):
        change(cfg)
    else:
        cfg["model"] = {key: value for key, value in {**cfg["model"], **change}.items() if value is not None}
    assert message in refused({"cfg": cfg, "model": content["model_weight"]})


def test_given_configuration_must_agree(content, refused):
    assert "config says encoder_layers=2, but the checkpoint says 3" in refused(content, config={"encoder_layers": 2})


def test_other_classes_are_refused_by_name(content, refused):
    assert "fractions.Fraction" in refused({**content, "extra": Fraction(1, 2)})


def test_heads_of_an_unpublished_size_must_be_given(golden, tmp_path):
    assert refuses("encoder_attention_heads", golden / "upstream" / "decoar2.pt", tmp_path / "out")


def test_bare_transformers_weights_need_their_configuration(tiny_hubert, tmp_path):
    shutil.copyfile(tiny_hubert / "model.safetensors", tmp_path / "model.safetensors")
    assert refuses(r"directory with its config\.json", tmp_path / "model.safetensors", tmp_path / "out")


def test_names_that_do_not_exist(hubert, tmp_path):
    out = tmp_path / "out"
    for use, message in (
        (lambda: import_checkpoint(tmp_path / "none.pt", out), "no such file"),
        (lambda: import_checkpoint(hubert.checkpoint, out, format="onnx"), "Unknown format 'onnx'"),
        (lambda: import_checkpoint(hubert.checkpoint, out, family="bert"), "Unknown encoder family 'bert'"),
        (lambda: export_checkpoint(hubert.directory, out, format="onnx"), "Unknown export format 'onnx'"),
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


def test_names_that_a_terminal_obeys(content, refused):
    content["model_weight"]["x\x1b[2J"] = torch.zeros(1)
    for bad in (content, {"odd\x1b[2J": 1}):
        assert "\x1b" not in refused(bad)


ANYTHING = ("[]", "null", "3", '"x"', "[1]", "{", "[" * 100_000)
BROKEN = {
    "config.json": [
        *({"model_type": family} for family in (["hubert"], "bert")),
        *({"hidden_act": activation} for activation in ("evil", {"a": 1})),
        *({"hidden_size": size} for size in (None, "x")),
        {"dtype": []},
    ],
    "provenance.json": [
        *({"outputs": outputs} for outputs in ([], {"model.safetensors": 3}, {"../secret": "0"})),
        *({"inputs": inputs} for inputs in ([], {"a": {}})),
        *({key: 3} for key in ("recipe", "versions")),
    ],
    "source_config.json": [
        *({key: 3} for key in ("model_cfg", "task_cfg", "dictionaries")),
        *({"sections": sections} for sections in ([1], {"cfg": 3})),
        {"dictionaries": [3]},
        *({"dictionaries": [{"symbols": symbols, "count": count}]} for symbols, count in ((3, None), ([3], None), (["a"], [1, 2]))),
    ],
}
"""File -> keys that are put into it; ANYTHING is put in place of it."""
CASES = [(file, content) for file, changes in BROKEN.items() for content in (*ANYTHING, *changes)]


@pytest.mark.parametrize(("file", "content"), CASES, ids=lambda value: str(value)[:40])
def test_damaged_side_files_are_clear_errors(tiny_hubert, tmp_path, file, content):
    damaged = shutil.copytree(tiny_hubert, tmp_path / "damaged")
    if isinstance(content, dict):
        edit_json(damaged / file, **content)
    else:
        (damaged / file).write_text(content)
    with pytest.raises(SpeechFTError, match=f"{file}|configuration"):
        export_checkpoint(damaged, tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()
    for verb in (
        lambda: import_checkpoint(damaged, tmp_path / "imported"),
        lambda: store_encoder(damaged, tmp_path / "stored"),
        lambda: inspect_checkpoint(damaged),
    ):
        with contextlib.suppress(SpeechFTError):
            verb()
