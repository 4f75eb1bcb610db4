"""Encoder directories in half precision."""

import json

import pytest
import torch
from encoders.tiny import equal, weights
from safetensors.torch import load_file
from transformers import AutoModel

from speechft.encoders import export_checkpoint, import_checkpoint, load_encoder, random_encoder, store_encoder
from speechft.encoders.directory.layout import write_encoder
from speechft.encoders.directory.provenance import make_provenance
from speechft.errors import CheckpointError
from speechft.files.hashes import sha256_file


@pytest.fixture(scope="module", params=["hubert", "wav2vec2"])
def encoder(request, tmp_path_factory):
    return random_encoder(request.param, tmp_path_factory.mktemp("models") / "full")


@pytest.fixture(scope="module")
def stored(encoder):
    store_encoder(encoder, encoder.parent / "half")
    return encoder.parent / "half"


def test_the_copy_is_rounded_to_half_precision(encoder, stored):
    for file in ("model.safetensors", "pretraining_only.safetensors"):
        assert equal(load_file(stored / file), {name: tensor.half() for name, tensor in load_file(encoder / file).items()})


def test_it_is_read_as_float32(encoder, stored):
    wave = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.no_grad():
        full, half = (load_encoder(path).encode([wave]).hidden_states[-1] for path in (encoder, stored))
        theirs = AutoModel.from_pretrained(stored).eval()(wave[None]).last_hidden_state
    assert {parameter.dtype for parameter in load_encoder(stored).parameters()} == {torch.float32}
    torch.testing.assert_close(full, half, atol=0.02, rtol=0)
    torch.testing.assert_close(half, theirs, atol=1e-5, rtol=0)


def test_provenance_says_what_it_is_a_copy_of(encoder, stored):
    original, copy = (json.loads((path / "provenance.json").read_text()) for path in (encoder, stored))
    assert copy["kind"] == original["kind"]
    assert copy["inputs"]["stored_copy_of"] == {"name": "full", "sha256": sha256_file(encoder / "model.safetensors")}
    assert copy["outputs"]["model.safetensors"] == sha256_file(stored / "model.safetensors")
    assert copy["recipe"] == {**original["recipe"], "stored_as": "fp16"}


def test_it_is_imported_and_exported_like_any_other(stored, tmp_path):
    import_checkpoint(stored, tmp_path / "imported")
    export_checkpoint(stored, tmp_path / "s3prl.pt", format="s3prl")
    import_checkpoint(tmp_path / "s3prl.pt", tmp_path / "back")
    widened = {name: tensor.float() for name, tensor in weights(stored).items()}
    assert equal(weights(tmp_path / "imported"), widened)
    assert equal(weights(tmp_path / "back"), widened)


def test_what_can_not_be_stored_is_refused(tiny_hubert, tmp_path):
    with pytest.raises(CheckpointError, match="fp16, bf16, fp32"):
        store_encoder(tiny_hubert, tmp_path / "out", "fp8")
    tensors = weights(tiny_hubert)
    tensors["encoder.layer_norm.weight"][0] = 1e6
    write_encoder(tmp_path / "large", tensors=tensors, like=tiny_hubert, provenance=make_provenance("random", {}, {}))
    with pytest.raises(CheckpointError, match=r"encoder\.layer_norm\.weight has values up to 1e\+06"):
        store_encoder(tmp_path / "large", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    store_encoder(tmp_path / "large", tmp_path / "out", "bf16")
