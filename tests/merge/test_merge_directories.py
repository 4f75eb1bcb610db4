"""`merge` over encoder directories: what it writes, what it refuses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechft.encoders import load_encoder
from speechft.encoders.directory.random_encoders import random_encoder
from speechft.errors import SpeechFTError
from speechft.files.hashes import sha256_file
from speechft.merge import merge

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Three models of one architecture that differ in all tensors; tests copy what they change."""
    folder = tmp_path_factory.mktemp("encoders")
    for seed, name in enumerate(("base", "first", "second")):
        random_encoder("hubert", folder / name, seed=seed)
    return folder


def damaged(encoders, tmp_path, name="first"):
    """A copy without provenance, free to be changed."""
    copy = tmp_path / "changed"
    shutil.copytree(encoders / name, copy)
    (copy / "provenance.json").unlink()
    return copy


def change_config(model, **changes):
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(base, finetuned, out, **options):
    with pytest.raises(SpeechFTError) as caught:
        merge(base, finetuned, out, **options)
    return str(caught.value)


def test_a_merged_encoder_loads_and_interpolates(encoders, tmp_path):
    merge(encoders / "base", [encoders / "first"], tmp_path / "out")
    base, finetuned, out = (load_file(folder / WEIGHTS) for folder in (encoders / "base", encoders / "first", tmp_path / "out"))
    assert out.keys() == base.keys()
    for name, tensor in out.items():
        torch.testing.assert_close(tensor, 0.75 * base[name] + 0.25 * finetuned[name], rtol=1e-6, atol=1e-7)
    states = load_encoder(tmp_path / "out").encode([torch.randn(4000)]).hidden_states
    assert all(state.isfinite().all() for state in states)


def test_transformers_loads_it_alone(encoders, tmp_path):
    from transformers import AutoModel

    merge(encoders / "base", [encoders / "first"], tmp_path / "out")
    loaded = AutoModel.from_pretrained(tmp_path / "out").state_dict()
    for name, tensor in load_file(tmp_path / "out" / WEIGHTS).items():
        assert torch.equal(loaded[name], tensor)


def test_pretraining_only_tensors_and_configuration_are_the_base_ones(encoders, tmp_path):
    merge(encoders / "base", [encoders / "first"], tmp_path / "out", alpha=0.5)
    before, after = files(encoders / "base"), files(tmp_path / "out")
    assert after.keys() == before.keys()
    for name in ("pretraining_only.safetensors", "source_config.json", "config.json", "preprocessor_config.json"):
        assert after[name] == before[name]
    assert load_file(tmp_path / "out" / "pretraining_only.safetensors")


def test_provenance_and_model_card_say_what_was_merged(encoders, tmp_path):
    merge(encoders / "base", [encoders / "first", encoders / "second"], tmp_path / "out", alpha=0.3)
    provenance = json.loads((tmp_path / "out/provenance.json").read_text())
    card = (tmp_path / "out/README.md").read_text()
    assert provenance["kind"] == "merge"
    assert provenance["recipe"]["method"] == "linear"
    assert provenance["recipe"]["alpha"] == 0.3
    assert provenance["outputs"][WEIGHTS] == sha256_file(tmp_path / "out" / WEIGHTS)
    for role, name in [("base", "base"), ("finetuned_0", "first"), ("finetuned_1", "second")]:
        digest = sha256_file(encoders / name / WEIGHTS)
        assert provenance["inputs"][role] == {"name": name, "sha256": digest}
        assert digest in card
    for text in ("alpha: 0.3", "method: linear", "arXiv 2502.12672", "load_encoder", "AutoModel.from_pretrained"):
        assert text in card


def test_the_same_inputs_give_the_same_bytes_in_any_order(encoders, tmp_path):
    pair = [encoders / "first", encoders / "second"]
    merge(encoders / "base", pair, tmp_path / "a/out")
    merge(encoders / "base", pair, tmp_path / "b/out")
    merge(encoders / "base", pair[::-1], tmp_path / "c/out")
    assert files(tmp_path / "a/out") == files(tmp_path / "b/out")
    assert files(tmp_path / "a/out")[WEIGHTS] == files(tmp_path / "c/out")[WEIGHTS]


def test_an_older_result_or_what_is_left_of_it_is_replaced(encoders, tmp_path):
    merge(encoders / "base", [encoders / "first"], tmp_path / "out", alpha=0.5)
    (tmp_path / "out/config.json").unlink()
    (tmp_path / "out/provenance.json").unlink()
    merge(encoders / "base", [encoders / "first"], tmp_path / "out", alpha=0.25)
    assert json.loads((tmp_path / "out/provenance.json").read_text())["recipe"]["alpha"] == 0.25


def test_other_folders_and_files_are_not_replaced(encoders, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("precious")
    (tmp_path / "file").write_text("precious")
    assert "holds thesis.tex" in refused(encoders / "base", [encoders / "first"], tmp_path / "home")
    assert "is a file" in refused(encoders / "base", [encoders / "first"], tmp_path / "file")
    assert (tmp_path / "home/thesis.tex").read_text() == (tmp_path / "file").read_text() == "precious"


def test_a_failure_leaves_the_older_result(encoders, tmp_path):
    merge(encoders / "base", [encoders / "first"], tmp_path / "out")
    before = files(tmp_path / "out")
    broken = damaged(encoders, tmp_path)
    tensors = load_file(broken / WEIGHTS)
    last = sorted(tensors)[-1]
    tensors[last].view(-1)[0] = float("nan")
    save_file(tensors, broken / WEIGHTS, metadata={"format": "pt"})
    message = refused(encoders / "base", [broken], tmp_path / "out")
    assert last in message
    assert str(broken / WEIGHTS) in message
    assert files(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["changed", "out"]


def test_outputs_in_and_around_inputs(encoders, tmp_path):
    copy = tmp_path / "models/first"
    shutil.copytree(encoders / "first", copy)
    assert "is the input" in refused(encoders / "base", [copy], copy)
    assert "lies inside the input" in refused(encoders / "base", [copy], copy / "merged")
    assert "lies inside the output" in refused(encoders / "base", [copy], tmp_path / "models")
    (tmp_path / "link").symlink_to(copy)
    assert "is a link" in refused(encoders / "base", [copy], tmp_path / "link")
    assert files(copy) == files(encoders / "first")


def test_other_families_and_sizes(encoders, tmp_path):
    random_encoder("wav2vec2", tmp_path / "other", seed=1)
    assert "model_type is 'wav2vec2', pre-trained it is 'hubert'" in refused(encoders / "base", [tmp_path / "other"], tmp_path / "out")
    deeper = damaged(encoders, tmp_path)
    # The number of heads shows in no tensor's shape.
    change_config(deeper, num_attention_heads=2, conv_stride=[5, 2, 2, 2, 2, 2, 1])
    message = refused(encoders / "base", [deeper], tmp_path / "out")
    assert "num_attention_heads is 2, pre-trained it is 4" in message
    assert "conv_stride" in message


def test_settings_of_the_training_may_differ(encoders, tmp_path):
    other = damaged(encoders, tmp_path)
    change_config(other, hidden_dropout=0.3, layerdrop=0.2, mask_time_length=5, transformers_version="4.0")
    merge(encoders / "base", [other], tmp_path / "out")


def test_more_layers_are_listed_as_extra_tensors(encoders, tmp_path):
    random_encoder("hubert", tmp_path / "deep", seed=1, encoder_layers=3)
    change_config(tmp_path / "deep", num_hidden_layers=2)
    assert "encoder.layers.2." in refused(encoders / "base", [tmp_path / "deep"], tmp_path / "out")


def test_weights_that_are_not_those_of_the_provenance(encoders, tmp_path):
    shutil.copytree(encoders / "first", tmp_path / "flipped")
    content = bytearray((tmp_path / "flipped" / WEIGHTS).read_bytes())
    content[-3] ^= 1
    (tmp_path / "flipped" / WEIGHTS).write_bytes(content)
    assert "damaged or replaced" in refused(encoders / "base", [tmp_path / "flipped"], tmp_path / "out")
    assert "damaged or replaced" in refused(tmp_path / "flipped", [encoders / "second"], tmp_path / "out")


@pytest.mark.parametrize("file", ["config.json", WEIGHTS])
def test_incomplete_directories(encoders, tmp_path, file):
    incomplete = damaged(encoders, tmp_path)
    (incomplete / file).unlink()
    assert f"{incomplete / file}: no such file" in refused(encoders / "base", [incomplete], tmp_path / "out")
    assert "no such directory" in refused(encoders / "base", [tmp_path / "absent"], tmp_path / "out")


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_damaged_configurations(encoders, tmp_path, content):
    broken = damaged(encoders, tmp_path)
    (broken / "config.json").write_text(content)
    assert "config.json" in refused(encoders / "base", [broken], tmp_path / "out")


def test_arguments_are_checked_before_any_file_is_read(tmp_path):
    assert "outside [0, 1]" in refused(tmp_path, [tmp_path], tmp_path / "out", alpha=1.2)
    assert "no merge method" in refused(tmp_path, [tmp_path], tmp_path / "out", method="mean")
    assert "unknown key" in refused(tmp_path, [tmp_path], tmp_path / "out", beta=0.2)
    assert "at least one" in refused(tmp_path, [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_importing_the_package_does_not_import_torch():
    code = "import sys, speechft.merge; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
