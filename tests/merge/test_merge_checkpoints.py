"""Merging files as a user downloads them: imported on the fly, merged, exported."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from speechft.cli import app
from speechft.encoders import export_checkpoint, import_checkpoint, load_encoder
from speechft.encoders.directory.random_encoders import random_encoder
from speechft.errors import CheckpointError, MergeError, SpeechFTError
from speechft.files.hashes import sha256_file
from speechft.merge import merge

WEIGHTS = "model.safetensors"


@pytest.fixture
def speechft(tmp_path, monkeypatch):
    """Function that runs a verb in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A published checkpoint (s3prl's layout) and fine-tuned ones of other layouts, and the encoder directories that they are of."""
    folder = tmp_path_factory.mktemp("made")
    for seed, name in enumerate(("base", "tuned")):
        random_encoder("hubert", folder / name, seed=seed)
        export_checkpoint(folder / name, folder / f"{name}.pt", format="s3prl")
    content = torch.load(folder / "tuned.pt", weights_only=True)["model_weight"]
    # A run of s3prl carries no configuration, and its width is no published one. Nor do its names tell HuBERT from wav2vec 2.0.
    bare = {name: tensor for name, tensor in content.items() if not name.startswith(("label_embs", "final_proj"))}
    run = {"Upstream": {f"model.{name}": tensor for name, tensor in bare.items()}, "Step": 7}
    torch.save(run, folder / "dev-best.ckpt")
    transformers = folder / "downloaded"
    shutil.copytree(folder / "tuned", transformers)
    for file in ("provenance.json", "pretraining_only.safetensors", "source_config.json", "README.md", "preprocessor_config.json"):
        (transformers / file).unlink()
    (transformers / WEIGHTS).unlink()
    torch.save(
        {f"hubert.{name}": tensor for name, tensor in load_file(folder / "tuned" / WEIGHTS).items()}, transformers / "pytorch_model.bin"
    )
    return folder


@pytest.fixture
def expected(made, tmp_path):
    merge(made / "base", made / "tuned", tmp_path / "expected", alpha=0.25)
    return load_file(tmp_path / "expected" / WEIGHTS)


@pytest.mark.parametrize("tuned", ["tuned.pt", "dev-best.ckpt", "downloaded", "tuned"])
def test_every_layout_of_the_same_model_gives_the_same_merge(made, tmp_path, expected, tuned):
    merge(made / "base.pt", made / tuned, tmp_path / "out" / "merged", alpha=0.25)
    found = load_file(tmp_path / "out/merged" / WEIGHTS)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["merged"], "what was imported on the fly is gone"
    assert load_encoder(tmp_path / "out/merged").encode([torch.randn(4000)]).hidden_states[0].isfinite().all()


def test_the_provenance_names_the_files_that_were_given(made, tmp_path):
    merge(made / "base.pt", [made / "dev-best.ckpt"], tmp_path / "merged")
    inputs = json.loads((tmp_path / "merged/provenance.json").read_text())["inputs"]
    for role, name in (("base", "base.pt"), ("finetuned_0", "dev-best.ckpt")):
        assert inputs[role]["name"] == name
        assert inputs[role]["sha256"] == sha256_file(made / name)
    assert inputs["base"]["weights_sha256"] == sha256_file(made / "base" / WEIGHTS)
    card = (tmp_path / "merged/README.md").read_text()
    for text in (
        sha256_file(made / "base.pt"),
        sha256_file(tmp_path / "merged" / WEIGHTS),
        "AutoModel",
        "hubert_local",
        "load_model_ensemble",
    ):
        assert text in card


def test_tensors_only_for_pretraining_are_those_of_the_base(made, tmp_path):
    merge(made / "base.pt", [made / "dev-best.ckpt"], tmp_path / "merged", alpha=0.5)
    found, base = (load_file(folder / "pretraining_only.safetensors") for folder in (tmp_path / "merged", made / "base"))
    assert found.keys() == base.keys() == {"final_proj.weight", "final_proj.bias", "label_embs_concat"}
    assert all(torch.equal(found[name], tensor) for name, tensor in base.items())


def test_two_files_on_the_command_line_and_back_to_fairseq_and_s3prl(made, tmp_path, expected, speechft):
    shutil.copy(made / "base.pt", tmp_path / "hubert_base_ls960.pt")
    shutil.copy(made / "dev-best.ckpt", tmp_path / "my_finetuned.pt")
    done = speechft("merge", "hubert_base_ls960.pt", "my_finetuned.pt", "--alpha", "0.25", "-o", "merged/")
    assert done.exit_code == 0, done.output
    for format in ("fairseq", "s3prl"):
        done = speechft("export", "merged/", "--format", format)
        assert (done.exit_code, done.stdout.strip()) == (0, str(tmp_path / f"merged_{format}.pt")), done.output
        import_checkpoint(tmp_path / f"merged_{format}.pt", tmp_path / format)
        found = load_file(tmp_path / format / WEIGHTS)
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_parameters_and_factors_on_the_command_line(made, tmp_path, speechft):
    options = ["--method", "ties", "--set", "density=0.5", "--set", "trim=tensor", "--scale", "attention=0:1", "--scale", "rest=0"]
    done = speechft("merge", made / "base", made / "tuned", *options, "--alpha", "0.5", "--dtype", "fp16", "-o", "merged")
    assert done.exit_code == 0, done.output
    recipe = json.loads((tmp_path / "merged/provenance.json").read_text())["recipe"]
    assert (recipe["method"], recipe["density"], recipe["trim"], recipe["alpha"]) == ("ties", 0.5, "tensor", 0.5)
    assert recipe["scale"] == {"attention": "0:1", "rest": 0}
    found, base = load_file(tmp_path / "merged" / WEIGHTS), load_file(made / "base" / WEIGHTS)
    changed = {name for name in found if not torch.equal(found[name], base[name].half())}
    assert {tensor.dtype for tensor in found.values()} == {torch.float16}
    assert changed == {name for name in base if name.startswith("encoder.layers.1.attention.") and name.endswith("weight")}, (
        "all biases are zero"
    )
    for wrong in (["--set", "density"], ["--set", "=2"], ["--scale", "rest=[1"]):
        assert speechft("merge", made / "base", made / "tuned", *wrong, "-o", "x").exit_code == 2


def refused(base, finetuned, out, **options):
    with pytest.raises(SpeechFTError) as caught:
        merge(base, finetuned, out, **options)
    assert not out.exists()
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")] if out.parent.exists() else True
    return caught.value


def test_messages_name_the_files_that_were_given(made, tmp_path):
    other = random_encoder("hubert", tmp_path / "deep", seed=4, encoder_layers=3)
    export_checkpoint(other, tmp_path / "deep.pt", format="s3prl")
    error = refused(made / "base.pt", tmp_path / "deep.pt", tmp_path / "out")
    assert isinstance(error, MergeError)
    assert f"{tmp_path / 'deep.pt'}: num_hidden_layers is 3, pre-trained it is 2" in str(error)
    random_encoder("wav2vec2", tmp_path / "other", seed=5)
    export_checkpoint(tmp_path / "other", tmp_path / "other.pt", format="s3prl")
    error = refused(made / "base.pt", tmp_path / "other.pt", tmp_path / "out")
    assert isinstance(error, CheckpointError)
    assert f"{tmp_path / 'other.pt'}: holds a wav2vec2 model, not hubert" in str(error)


def test_the_same_checkpoint_twice(made, tmp_path):
    assert "Name each model once" in str(refused(made / "base.pt", made / "base.pt", tmp_path / "out"))
    shutil.copy(made / "tuned.pt", tmp_path / "copy.pt")
    message = str(refused(made / "base.pt", [made / "tuned.pt", tmp_path / "copy.pt"], tmp_path / "out"))
    assert f"{tmp_path / 'copy.pt'} and {made / 'tuned.pt'} are the same file" in message
    # The same weights in another layout.
    assert "are the same file" in str(refused(made / "base.pt", [made / "tuned.pt", made / "dev-best.ckpt"], tmp_path / "out"))


def test_nan_in_a_checkpoint_and_files_that_are_none(made, tmp_path):
    content = torch.load(made / "tuned.pt", weights_only=True)
    content["model_weight"]["encoder.layers.1.fc1.bias"][0] = float("nan")
    torch.save(content, tmp_path / "nan.pt")
    message = str(refused(made / "base.pt", tmp_path / "nan.pt", tmp_path / "out"))
    assert f"{tmp_path / 'nan.pt'}: tensor encoder.layers.1.feed_forward.intermediate_dense.bias holds NaN" in message
    (tmp_path / "notes.txt").write_text("no checkpoint")
    assert "notes.txt" in str(refused(made / "base.pt", tmp_path / "notes.txt", tmp_path / "out"))
    assert "no such directory or file" in str(refused(tmp_path / "absent.pt", made / "tuned.pt", tmp_path / "out"))
