"""Merging checkpoints and directories of other programs: imported on the fly, merged, exported."""

import json
import shutil

import pytest
import torch
import transformers
from encoders.tiny import LARGE, WEIGHTS, build, equal, weights
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from speechft.cli import app
from speechft.encoders import export_checkpoint, import_checkpoint, random_encoder, store_encoder
from speechft.errors import CheckpointError, MergeError, SpeechFTError
from speechft.files.hashes import sha256_file
from speechft.merge import merge


@pytest.fixture
def speechft(tmp_path, monkeypatch):
    """Function that runs a verb in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def made(encoders, tmp_path_factory):
    """A published checkpoint (s3prl's layout) and fine-tuned ones of other layouts, and the encoder directories that they are of."""
    folder = tmp_path_factory.mktemp("made")
    for source, name in (("base", "base"), ("first", "tuned")):
        shutil.copytree(encoders / source, folder / name)
        export_checkpoint(folder / name, folder / f"{name}.pt", format="s3prl")
    content = torch.load(folder / "tuned.pt", weights_only=True)["model_weight"]
    # A run of s3prl carries no configuration, and its width is no published one. Nor do its names tell HuBERT from wav2vec 2.0.
    bare = {name: tensor for name, tensor in content.items() if not name.startswith(("label_embs", "final_proj"))}
    torch.save({"Upstream": {f"model.{name}": tensor for name, tensor in bare.items()}, "Step": 7}, folder / "dev-best.ckpt")
    (folder / "downloaded").mkdir()
    shutil.copy(folder / "tuned/config.json", folder / "downloaded")
    tensors = {f"hubert.{name}": tensor for name, tensor in weights(folder / "tuned").items()}
    torch.save(tensors, folder / "downloaded/pytorch_model.bin")
    return folder


@pytest.fixture(scope="module")
def expected(made):
    merge(made / "base", made / "tuned", made / "expected", alpha=0.25)
    return weights(made / "expected")


@pytest.mark.parametrize("tuned", ["tuned.pt", "dev-best.ckpt", "downloaded", "tuned"])
def test_every_layout_of_the_same_model_gives_the_same_merge(made, tmp_path, expected, tuned):
    merge(made / "base.pt", made / tuned, tmp_path / "out" / "merged", alpha=0.25)
    assert equal(weights(tmp_path / "out/merged"), expected)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["merged"], "what was imported on the fly is gone"


def test_what_is_written_beside_the_weights(made, tmp_path):
    merge(made / "base.pt", [made / "dev-best.ckpt"], tmp_path / "merged")
    found, base = (load_file(folder / "pretraining_only.safetensors") for folder in (tmp_path / "merged", made / "base"))
    assert equal(found, base)
    assert found.keys() == {"final_proj.weight", "final_proj.bias", "label_embs_concat"}
    inputs = json.loads((tmp_path / "merged/provenance.json").read_text())["inputs"]
    for role, name in (("base", "base.pt"), ("finetuned_0", "dev-best.ckpt")):
        assert (inputs[role]["name"], inputs[role]["sha256"]) == (name, sha256_file(made / name))
    assert inputs["base"]["weights_sha256"] == sha256_file(made / "base" / WEIGHTS)
    card = (tmp_path / "merged/README.md").read_text()
    hashes = (sha256_file(made / "base.pt"), sha256_file(tmp_path / "merged" / WEIGHTS))
    assert all(text in card for text in (*hashes, "AutoModel", "hubert_local", "load_model_ensemble"))


def test_two_files_on_the_command_line_and_back_to_fairseq_and_s3prl(made, tmp_path, expected, speechft):
    shutil.copy(made / "base.pt", tmp_path / "hubert_base_ls960.pt")
    shutil.copy(made / "dev-best.ckpt", tmp_path / "my_finetuned.pt")
    done = speechft("merge", "hubert_base_ls960.pt", "my_finetuned.pt", "--alpha", "0.25", "-o", "merged/")
    assert done.exit_code == 0, done.output
    for format in ("fairseq", "s3prl"):
        done = speechft("export", "merged/", "--format", format)
        assert (done.exit_code, done.stdout.strip()) == (0, str(tmp_path / f"merged_{format}.pt")), done.output
        import_checkpoint(tmp_path / f"merged_{format}.pt", tmp_path / format)
        assert equal(weights(tmp_path / format), expected)


def test_parameters_and_factors_on_the_command_line(made, tmp_path, speechft):
    options = ["--method", "ties", "--set", "density=0.5", "--set", "trim=tensor", "--scale", "attention=0:1", "--scale", "rest=0"]
    done = speechft("merge", made / "base", made / "tuned", *options, "--alpha", "0.5", "--dtype", "fp16", "-o", "merged")
    assert done.exit_code == 0, done.output
    recipe = json.loads((tmp_path / "merged/provenance.json").read_text())["recipe"]
    assert (recipe["method"], recipe["density"], recipe["trim"], recipe["alpha"]) == ("ties", 0.5, "tensor", 0.5)
    assert recipe["scale"] == {"attention": "0:1", "rest": 0}
    found, base = weights(tmp_path / "merged"), weights(made / "base")
    changed = {name for name in found if not torch.equal(found[name], base[name].half())}
    assert {tensor.dtype for tensor in found.values()} == {torch.float16}
    reached = {name for name in base if name.startswith("encoder.layers.1.attention.") and name.endswith("weight")}
    assert changed == reached, "all biases are zero"
    for wrong in (["--set", "density"], ["--set", "=2"], ["--scale", "rest=[1"]):
        assert speechft("merge", made / "base", made / "tuned", *wrong, "-o", "x").exit_code == 2


def test_refusals_name_the_files_that_were_given(made, tmp_path):
    def refused(error, *texts, base=made / "base.pt", finetuned):
        before = set(tmp_path.iterdir())
        with pytest.raises(error) as caught:
            merge(base, finetuned, tmp_path / "out")
        assert set(tmp_path.iterdir()) == before
        assert all(str(text) in str(caught.value) for text in texts)

    for family, sizes, error, message in (
        ("hubert", {"encoder_layers": 3}, MergeError, "num_hidden_layers is 3, but 2 in the pre-trained model"),
        ("wav2vec2", {}, CheckpointError, "contains a wav2vec2 model, not hubert"),
    ):
        path = tmp_path / f"{family}.pt"
        export_checkpoint(random_encoder(family, tmp_path / family, **sizes), path, format="s3prl")
        refused(error, f"{path}: {message}", finetuned=path)
    content = torch.load(made / "tuned.pt", weights_only=True)
    content["model_weight"]["encoder.layers.1.fc1.bias"][0] = float("nan")
    torch.save(content, tmp_path / "nan.pt")
    name = "encoder.layers.1.feed_forward.intermediate_dense.bias"
    refused(SpeechFTError, f"{tmp_path / 'nan.pt'}: tensor {name} contains NaN", finetuned=tmp_path / "nan.pt")
    (tmp_path / "notes.txt").write_text("no checkpoint")
    refused(SpeechFTError, "notes.txt", finetuned=tmp_path / "notes.txt")
    refused(SpeechFTError, "no such directory or file", base=tmp_path / "absent.pt", finetuned=made / "tuned.pt")
    refused(MergeError, "Name each model once", finetuned=made / "base.pt")
    shutil.copy(made / "tuned.pt", tmp_path / "copy.pt")
    pair = [made / "tuned.pt", tmp_path / "copy.pt"]
    refused(MergeError, f"{pair[1]} and {pair[0]} are the same file", finetuned=pair)
    # The same weights in another layout.
    refused(MergeError, "are the same file", finetuned=[made / "tuned.pt", made / "dev-best.ckpt"])


def save(folder, seed, head="HubertModel", dtype=torch.float32, **changes):
    build(head, seed, num_hidden_layers=1, **changes).to(dtype).save_pretrained(folder)
    return folder


def refused(base, finetuned, out, match):
    with pytest.raises(SpeechFTError, match=match):
        merge(base, finetuned, out)
    assert not out.exists()


@pytest.mark.parametrize("head", ["HubertModel", "HubertForCTC", "Wav2Vec2ForSequenceClassification", "WavLMForXVector"])
@pytest.mark.parametrize("large", [True, False])
def test_bare_directories_are_what_import_makes_of_them(head, large, tmp_path):
    changes = LARGE if large else {}
    base = save(tmp_path / "base", 0, head.split("For")[0].removesuffix("Model") + "Model", **changes)
    tuned = save(tmp_path / "tuned", 1, head, **changes)
    merge(base, tuned, tmp_path / "a/direct")
    import_checkpoint(base, tmp_path / "i/base")
    import_checkpoint(tuned, tmp_path / "i/tuned")
    merge(tmp_path / "i/base", tmp_path / "i/tuned", tmp_path / "b/direct")
    for file in (WEIGHTS, "config.json", "preprocessor_config.json", "pretraining_only.safetensors"):
        assert (tmp_path / "a/direct" / file).read_bytes() == (tmp_path / "b/direct" / file).read_bytes(), file
    assert json.loads((tmp_path / "a/direct/config.json").read_text())["speechft_normalize"] is large
    inputs = json.loads((tmp_path / "a/direct/provenance.json").read_text())["inputs"]
    assert [inputs[role]["name"] for role in ("base", "finetuned_0")] == ["base", "tuned"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_of_either_side(dtype, tmp_path):
    base, tuned, half, full = (
        save(tmp_path / name, seed, dtype=kind)
        for name, seed, kind in (("base", 0, torch.float32), ("tuned", 1, dtype), ("half", 0, dtype), ("full", 1, torch.float32))
    )
    merge(base, tuned, tmp_path / "merged", alpha=0.25)
    ours, theirs = weights(base), weights(tuned)
    expected = {name: 0.75 * tensor + 0.25 * theirs[name].float() for name, tensor in ours.items()}
    torch.testing.assert_close(weights(tmp_path / "merged"), expected, rtol=1e-6, atol=1e-7)
    for finetuned, stored in ((tuned, dtype), (full, torch.float32)):
        merge(half, finetuned, tmp_path / "other")
        assert {tensor.dtype for tensor in weights(tmp_path / "other").values()} == {stored}


def test_stored_copies_are_merged_in_float32(encoders, tmp_path):
    for name in ("base", "first"):
        store_encoder(encoders / name, tmp_path / name)
    for base, finetuned in ((encoders / "base", tmp_path / "first"), (tmp_path / "base", encoders / "first")):
        merge(base, finetuned, tmp_path / "merged", alpha=1.0)
        assert equal(weights(tmp_path / "merged"), {name: tensor.float() for name, tensor in weights(finetuned).items()})


@pytest.mark.parametrize("layout", ["copy", "fp16", "bf16", "s3prl", "bare", "head"])
def test_a_copy_of_the_base_in_any_layout(layout, encoders, tmp_path):
    base, copy = encoders / "base", tmp_path / "twin"
    if layout == "s3prl":
        export_checkpoint(base, copy, format="s3prl")
    elif layout in ("fp16", "bf16"):
        store_encoder(base, copy, layout)
    else:
        shutil.copytree(base, copy)
    if layout in ("bare", "head"):
        (copy / "provenance.json").unlink()
        prefix, head = ("hubert.", {"lm_head.bias": torch.zeros(3)}) if layout == "head" else ("", {})
        tensors = {prefix + name: tensor for name, tensor in weights(base).items()} | head
        save_file(tensors, copy / WEIGHTS, metadata={"format": "pt"})
    refused(base, copy, tmp_path / "merged", "has the same weights as .*base, so nothing was fine-tuned")
    refused(base, [encoders / "first", copy], tmp_path / "merged", "twin.* has the same weights")


@pytest.mark.parametrize("lacking", ["base", "tuned"])
def test_a_mask_embedding_on_one_side(lacking, tmp_path, caplog):
    without = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    base, tuned = (save(tmp_path / name, seed, **(without if name == lacking else {})) for seed, name in enumerate(("base", "tuned")))
    merge(base, tuned, tmp_path / "merged")
    found, ours = weights(tmp_path / "merged"), weights(base)
    assert found.keys() == ours.keys()
    assert ("masked_spec_embed" in found) == (lacking == "tuned")
    if lacking == "tuned":
        assert torch.equal(found["masked_spec_embed"], ours["masked_spec_embed"])
    assert sum("masked_spec_embed" in line for line in caplog.messages) == 1
    assert transformers.AutoModel.from_pretrained(tmp_path / "merged").state_dict().keys() == found.keys()


def test_what_import_refuses(tmp_path):
    base, other, out = save(tmp_path / "base", 0), save(tmp_path / "other", 1, add_adapter=True), tmp_path / "merged"
    refused(base, other, out, "are not supported")
    refused(other, base, out, "are not supported")
    for name in ("theirs", "tuned"):
        config = transformers.UniSpeechConfig(hidden_size=48, num_hidden_layers=1, num_attention_heads=4, conv_dim=[32] * 7)
        transformers.UniSpeechModel(config).save_pretrained(tmp_path / name)
    refused(tmp_path / "theirs", tmp_path / "tuned", out, "unispeech' is not an encoder family")
    (base / "config.json").write_text('{"model_type": "bert"}')
    refused(random_encoder("hubert", tmp_path / "hubert"), base, out, "'bert' is not an encoder family")
