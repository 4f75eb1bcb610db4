"""Encoder directories: how they are written, and stored in half precision."""

import json
import subprocess
import sys

import pytest
import torch
from encoders.tiny import equal, same_weights, weights
from safetensors.torch import load_file
from transformers import AutoModel

from speechft.encoders import export_checkpoint, import_checkpoint, load_encoder, random_encoder, store_encoder
from speechft.encoders.directory.layout import write_encoder
from speechft.encoders.directory.provenance import make_provenance
from speechft.errors import CheckpointError, OutputError
from speechft.files.hashes import sha256_file

TUNED = make_provenance("finetune", {}, {})


def test_importing_the_package_is_cheap():
    heavy = {"torch", "transformers", "numpy"}
    code = f"import sys, speechft.encoders, speechft.encoders.directory.provenance; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_random_encoders_are_reproducible_and_leave_the_generator_alone(tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second, other = (random_encoder("hubert", tmp_path / str(index), seed=seed) for index, seed in enumerate((5, 5, 6)))
    load_encoder(other)
    assert torch.equal(before, torch.get_rng_state())
    assert same_weights(first, second)
    name = "encoder.layers.0.attention.q_proj.weight"
    assert not torch.equal(weights(first)[name], weights(other)[name])


def test_changed_weights_like_a_base(tiny_hubert, tmp_path):
    """What fine-tuning writes: new weights, and everything else from the encoder it started from."""
    encoder = load_encoder(tiny_hubert)
    with torch.no_grad():
        encoder.backbone.encoder.layer_norm.weight.mul_(2)
    provenance = make_provenance("finetune", {"base": tiny_hubert}, {"task": "ks"})
    write_encoder(tmp_path / "tuned", backbone=encoder.backbone, like=tiny_hubert, provenance=provenance)
    tuned, base = weights(tmp_path / "tuned"), weights(tiny_hubert)
    assert {name for name in base if not torch.equal(base[name], tuned[name])} == {"encoder.layer_norm.weight"}
    for file in ("config.json", "pretraining_only.safetensors", "source_config.json", "preprocessor_config.json"):
        assert (tmp_path / "tuned" / file).read_bytes() == (tiny_hubert / file).read_bytes()
    recorded = json.loads((tmp_path / "tuned" / "provenance.json").read_text())
    assert recorded["inputs"]["base"]["name"] == tiny_hubert.name
    card = (tmp_path / "tuned" / "README.md").read_text()
    assert card.count("# tuned") == 1
    assert recorded["inputs"]["base"]["sha256"] in card


def test_weights_must_fit_the_base(tiny_hubert, tmp_path):
    other = load_encoder(random_encoder("hubert", tmp_path / "other", encoder_ffn_embed_dim=96))
    with pytest.raises(CheckpointError, match=r"intermediate_dense.* has shape \[96"):
        write_encoder(tmp_path / "out", backbone=other.backbone, like=tiny_hubert, provenance={})
    assert not (tmp_path / "out").exists()


def test_a_diverged_model_leaves_nothing_but_large_values_are_not_taken_for_inf(tiny_hubert, tmp_path):
    tensors = weights(tiny_hubert)
    tensors["encoder.layer_norm.bias"][3] = float("nan")
    with pytest.raises(CheckpointError, match=r"encoder\.layer_norm\.bias contains NaN"):
        write_encoder(tmp_path / "out", tensors=tensors, like=tiny_hubert, provenance=TUNED)
    assert not list(tmp_path.iterdir())
    tensors["encoder.layer_norm.bias"].fill_(3e38)
    write_encoder(tmp_path / "out", tensors=tensors, like=tiny_hubert, provenance=TUNED)


def test_other_directories_are_not_replaced_by_exports(tiny_hubert, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    (tmp_path / "file").write_text("text")
    for out in ("mine", "file"):
        with pytest.raises(OutputError, match="not replaced"):
            export_checkpoint(tiny_hubert, tmp_path / out, format="transformers")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years"


def test_provenance_refuses_missing_inputs(tmp_path):
    with pytest.raises(CheckpointError, match="as base"):
        make_provenance("merge", {"base": tmp_path / "none"}, {})


def test_weights_are_as_readable_as_any_new_file(tiny_hubert, tmp_path):
    usual = tmp_path / "usual"
    usual.touch()
    assert {file.stat().st_mode for file in tiny_hubert.iterdir()} == {usual.stat().st_mode}


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
