"""`merge` over encoder directories: what it writes, what it refuses."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from encoders.tiny import WEIGHTS, edit_json, equal, files, weights
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from speechft.encoders import load_encoder, random_encoder
from speechft.errors import SpeechFTError
from speechft.files.hashes import sha256_file
from speechft.merge import merge


@pytest.fixture(scope="module")
def merged(encoders, tmp_path_factory):
    out = tmp_path_factory.mktemp("merged") / "out"
    merge(encoders / "base", [encoders / "first", encoders / "second"], out, alpha=0.3)
    return out


@pytest.fixture
def changed(encoders, tmp_path):
    """A copy of `first` without provenance, free to be changed."""
    copy = shutil.copytree(encoders / "first", tmp_path / "changed")
    (copy / "provenance.json").unlink()
    return copy


def refused(base, finetuned, out, **options):
    with pytest.raises(SpeechFTError) as caught:
        merge(base, finetuned, out, **options)
    assert not out.exists()
    return str(caught.value)


def test_a_merged_encoder_interpolates_and_loads(encoders, merged):
    base, first, second = (weights(encoders / name) for name in ("base", "first", "second"))
    expected = {name: 0.7 * tensor + 0.15 * (first[name] + second[name]) for name, tensor in base.items()}
    torch.testing.assert_close(weights(merged), expected, rtol=1e-6, atol=1e-7)
    assert all(state.isfinite().all() for state in load_encoder(merged).encode([torch.randn(4000)]).hidden_states)
    assert equal(AutoModel.from_pretrained(merged).state_dict(), weights(merged))


def test_pretraining_only_tensors_and_configuration_are_the_base_ones(encoders, merged):
    before, after = files(encoders / "base"), files(merged)
    assert after.keys() == before.keys()
    for name in ("pretraining_only.safetensors", "source_config.json", "config.json", "preprocessor_config.json"):
        assert after[name] == before[name]
    assert load_file(merged / "pretraining_only.safetensors")
    assert {path.stat().st_mode for path in merged.iterdir()} == {(encoders / "base" / WEIGHTS).stat().st_mode}


def test_provenance_and_model_card_say_what_was_merged(encoders, merged):
    provenance, card = json.loads((merged / "provenance.json").read_text()), (merged / "README.md").read_text()
    assert (provenance["kind"], provenance["recipe"]["method"], provenance["recipe"]["alpha"]) == ("merge", "linear", 0.3)
    assert provenance["outputs"][WEIGHTS] == sha256_file(merged / WEIGHTS)
    for role, name in [("base", "base"), ("finetuned_0", "first"), ("finetuned_1", "second")]:
        digest = sha256_file(encoders / name / WEIGHTS)
        assert provenance["inputs"][role] == {"name": name, "sha256": digest}
        assert digest in card
    for text in ("alpha: 0.3", "method: linear", "arXiv 2502.12672", "load_encoder", "AutoModel.from_pretrained"):
        assert text in card


def test_the_same_inputs_give_the_same_bytes_in_any_order(encoders, merged, tmp_path):
    pair = [encoders / "first", encoders / "second"]
    merge(encoders / "base", pair, tmp_path / "a/out", alpha=0.3)
    merge(encoders / "base", pair[::-1], tmp_path / "b/out", alpha=0.3)
    assert files(tmp_path / "a/out") == files(merged)
    assert files(tmp_path / "b/out")[WEIGHTS] == files(merged)[WEIGHTS]


def test_a_failure_leaves_the_older_result(encoders, changed, tmp_path):
    merge(encoders / "base", [encoders / "first"], tmp_path / "out")
    before = files(tmp_path / "out")
    assert json.loads(before["provenance.json"])["recipe"]["alpha"] == 0.25
    tensors = weights(changed)
    last = sorted(tensors)[-1]
    tensors[last].view(-1)[0] = float("nan")
    save_file(tensors, changed / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(SpeechFTError) as caught:
        merge(encoders / "base", [changed], tmp_path / "out")
    assert last in str(caught.value)
    assert str(changed / WEIGHTS) in str(caught.value)
    assert files(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["changed", "out"]


def test_other_families_and_sizes(encoders, changed, tmp_path):
    base, out = encoders / "base", tmp_path / "out"
    assert "model_type is 'wav2vec2', pre-trained it is 'hubert'" in refused(base, random_encoder("wav2vec2", tmp_path / "other"), out)
    deep = random_encoder("hubert", tmp_path / "deep", encoder_layers=3)
    edit_json(deep / "config.json", num_hidden_layers=2)
    assert "encoder.layers.2." in refused(base, deep, out)
    # The number of heads shows in no tensor's shape.
    edit_json(changed / "config.json", num_attention_heads=2, conv_stride=[5, 2, 2, 2, 2, 2, 1])
    message = refused(base, changed, out)
    assert "num_attention_heads is 2, pre-trained it is 4" in message
    assert "conv_stride" in message


def test_settings_of_the_training_may_differ(encoders, changed, tmp_path):
    edit_json(changed / "config.json", hidden_dropout=0.3, layerdrop=0.2, mask_time_length=5, transformers_version="4.0")
    merge(encoders / "base", [changed], tmp_path / "out")


def test_weights_that_are_not_those_of_the_provenance(encoders, tmp_path):
    flipped = shutil.copytree(encoders / "first", tmp_path / "flipped")
    content = bytearray((flipped / WEIGHTS).read_bytes())
    content[-3] ^= 1
    (flipped / WEIGHTS).write_bytes(content)
    assert "damaged or replaced" in refused(encoders / "base", flipped, tmp_path / "out")
    assert "damaged or replaced" in refused(flipped, encoders / "second", tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, "config.json: no such file"),
        (WEIGHTS, None, f"{WEIGHTS}: no such file"),
        *(("config.json", content, "config.json") for content in ("{", "[]", "{}")),
        # Changed by hand, so that no import looks at it.
        ("config.json", '{"model_type": "hubert", "speechft_normalize": false, "add_adapter": true}', "are not supported"),
    ],
)
def test_incomplete_and_damaged_directories(encoders, changed, tmp_path, file, content, message):
    (changed / file).unlink()
    if content is not None:
        (changed / file).write_text(content)
    assert message in refused(encoders / "base", changed, tmp_path / "out")


def test_arguments_are_checked_before_any_file_is_read(tmp_path):
    for options, message in (
        ({"alpha": 1.2}, "outside [0, 1]"),
        ({"method": "mean"}, "no merge method"),
        ({"beta": 0.2}, "unknown key"),
        ({"dtype": "fp8"}, "dtype='fp8' is unknown. Allowed: fp32"),
    ):
        assert message in refused(tmp_path, tmp_path, tmp_path / "out", **options)
    assert "at least one" in refused(tmp_path, [], tmp_path / "out")
    assert "no such directory" in refused(tmp_path / "base", tmp_path / "absent", tmp_path / "out")


def test_importing_the_package_does_not_import_torch():
    code = "import sys, speechft.merge; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
