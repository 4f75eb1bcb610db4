import json

import pytest
import torch

from speechft.encoders import export_checkpoint, import_checkpoint, load_encoder, store_encoder
from speechft.encoders.directory.layout import read_pretraining_only, read_tensors
from speechft.encoders.directory.random_encoders import random_encoder
from speechft.errors import CheckpointError, OutputError
from speechft.files.hashes import sha256_file
from speechft.merge import merge


@pytest.fixture(scope="module", params=["hubert", "wav2vec2"])
def encoder(request, tmp_path_factory):
    return random_encoder(request.param, tmp_path_factory.mktemp("models") / "full")


@pytest.fixture(scope="module")
def stored(encoder):
    store_encoder(encoder, encoder.parent / "half")
    return encoder.parent / "half"


def test_the_copy_is_half_as_large_and_rounded_to_half_precision(encoder, stored):
    full, half = read_tensors(encoder / "model.safetensors"), read_tensors(stored / "model.safetensors")
    assert all(tensor.dtype == torch.float16 and torch.equal(tensor, full[name].half()) for name, tensor in half.items())
    assert all(tensor.dtype == torch.float16 for tensor in read_pretraining_only(stored).values())
    sizes = [(path / "model.safetensors").stat().st_size for path in (encoder, stored)]
    assert sizes[1] < 0.6 * sizes[0]


def test_it_is_read_as_float32(encoder, stored):
    from transformers import AutoModel

    wave = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.no_grad():
        outputs = [load_encoder(path).encode([wave]).hidden_states[-1] for path in (encoder, stored)]
        model = AutoModel.from_pretrained(stored).eval()
        theirs = model(wave[None]).last_hidden_state
    assert {parameter.dtype for parameter in load_encoder(stored).parameters()} == {torch.float32}
    assert theirs.dtype == torch.float32
    torch.testing.assert_close(outputs[0], outputs[1], atol=0.02, rtol=0)
    torch.testing.assert_close(outputs[1], theirs, atol=1e-5, rtol=0)


def test_provenance_says_what_it_is_a_copy_of(encoder, stored):
    original, copy = (json.loads((path / "provenance.json").read_text()) for path in (encoder, stored))
    assert copy["kind"] == original["kind"]
    assert copy["inputs"]["stored_copy_of"] == {"name": "full", "sha256": sha256_file(encoder / "model.safetensors")}
    assert copy["outputs"]["model.safetensors"] == sha256_file(stored / "model.safetensors")
    assert copy["recipe"] == {**original["recipe"], "stored_as": "fp16"}


def test_it_is_imported_and_exported_like_any_other(stored, tmp_path):
    import_checkpoint(stored, tmp_path / "imported")
    widened = {name: tensor.float() for name, tensor in read_tensors(stored / "model.safetensors").items()}
    imported = read_tensors(tmp_path / "imported/model.safetensors")
    assert all(tensor.dtype == torch.float32 and torch.equal(tensor, widened[name]) for name, tensor in imported.items())
    export_checkpoint(stored, tmp_path / "s3prl.pt", format="s3prl")
    import_checkpoint(tmp_path / "s3prl.pt", tmp_path / "back")
    assert all(torch.equal(tensor, widened[name]) for name, tensor in read_tensors(tmp_path / "back/model.safetensors").items())


def test_a_fine_tuned_encoder_merges_with_it_in_full_precision(stored, tmp_path):
    family = json.loads((stored / "config.json").read_text())["model_type"]
    finetuned = random_encoder(family, tmp_path / "finetuned", seed=1)
    merge(stored, finetuned, tmp_path / "merged", alpha=0.25)
    base, tuned, merged = (read_tensors(path / "model.safetensors") for path in (stored, finetuned, tmp_path / "merged"))
    name = "encoder.layers.0.attention.q_proj.weight"
    assert {tensor.dtype for tensor in merged.values()} == {torch.float32}
    torch.testing.assert_close(merged[name], 0.75 * base[name].float() + 0.25 * tuned[name])


def test_what_can_not_be_stored_is_refused(encoder, tmp_path):
    with pytest.raises(CheckpointError, match="fp16, bf16, fp32"):
        store_encoder(encoder, tmp_path / "out", "fp8")
    with pytest.raises(OutputError, match="is the input"):
        store_encoder(encoder, encoder)
    assert not (tmp_path / "out").exists()


def test_weights_too_large_for_half_precision_are_refused(tmp_path):
    from speechft.encoders.directory.layout import write_encoder
    from speechft.encoders.directory.provenance import make_provenance

    source = random_encoder("hubert", tmp_path / "full")
    tensors = read_tensors(source / "model.safetensors")
    tensors["encoder.layer_norm.weight"][0] = 1e6
    write_encoder(tmp_path / "large", tensors=tensors, like=source, provenance=make_provenance("random", {}, {}))
    with pytest.raises(CheckpointError, match=r"encoder\.layer_norm\.weight has values up to 1e\+06"):
        store_encoder(tmp_path / "large", tmp_path / "out")
    store_encoder(tmp_path / "large", tmp_path / "out", "bf16")


def test_a_copy_of_which_only_a_part_is_left_is_replaced_and_nothing_else(encoder, tmp_path):
    store_encoder(encoder, tmp_path / "copy")
    for name in ("model.safetensors", "config.json", "provenance.json"):
        (tmp_path / "copy" / name).unlink()
    store_encoder(encoder, tmp_path / "copy")
    load_encoder(tmp_path / "copy")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/letter.txt").write_text("keep me")
    with pytest.raises(OutputError, match="is not replaced"):
        store_encoder(encoder, tmp_path / "other")
