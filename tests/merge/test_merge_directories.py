"""`merge` and `merge_family` over encoder directories: what they write, what they refuse."""

import json
import shutil

import pytest
import torch
from encoders.tiny import WEIGHTS, edit_json, equal, files, weights
from safetensors.torch import load_file, save_file
from transformers import AutoModel
from typer.testing import CliRunner

from speechft.cli import app
from speechft.encoders import load_encoder, random_encoder
from speechft.errors import MergeError, SpeechFTError
from speechft.files.hashes import sha256_file
from speechft.merge import METHODS, merge, merge_family


@pytest.fixture(scope="module")
def result(encoders, tmp_path_factory):
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


def test_a_merged_encoder_interpolates_and_loads(encoders, result):
    base, first, second = (weights(encoders / name) for name in ("base", "first", "second"))
    expected = {name: 0.7 * tensor + 0.15 * (first[name] + second[name]) for name, tensor in base.items()}
    torch.testing.assert_close(weights(result), expected, rtol=1e-6, atol=1e-7)
    assert all(state.isfinite().all() for state in load_encoder(result).encode([torch.randn(4000)]).hidden_states)
    assert equal(AutoModel.from_pretrained(result).state_dict(), weights(result))


def test_pretraining_only_tensors_and_configuration_are_the_base_ones(encoders, result):
    before, after = files(encoders / "base"), files(result)
    assert after.keys() == before.keys()
    for name in ("pretraining_only.safetensors", "source_config.json", "config.json", "preprocessor_config.json"):
        assert after[name] == before[name]
    assert load_file(result / "pretraining_only.safetensors")
    assert {path.stat().st_mode for path in result.iterdir()} == {(encoders / "base" / WEIGHTS).stat().st_mode}


def test_provenance_and_model_card_say_what_was_merged(encoders, result):
    provenance, card = json.loads((result / "provenance.json").read_text()), (result / "README.md").read_text()
    assert (provenance["kind"], provenance["recipe"]["method"], provenance["recipe"]["alpha"]) == ("merge", "linear", 0.3)
    assert provenance["outputs"][WEIGHTS] == sha256_file(result / WEIGHTS)
    for role, name in [("base", "base"), ("finetuned_0", "first"), ("finetuned_1", "second")]:
        digest = sha256_file(encoders / name / WEIGHTS)
        assert provenance["inputs"][role] == {"name": name, "sha256": digest}
        assert digest in card
    for text in ("alpha: 0.3", "method: linear", "arXiv 2502.12672", "load_encoder", "AutoModel.from_pretrained"):
        assert text in card


def test_the_same_inputs_give_the_same_bytes_in_any_order(encoders, result, tmp_path):
    pair = [encoders / "first", encoders / "second"]
    merge(encoders / "base", pair, tmp_path / "a/out", alpha=0.3)
    merge(encoders / "base", pair[::-1], tmp_path / "b/out", alpha=0.3)
    assert files(tmp_path / "a/out") == files(result)
    assert files(tmp_path / "b/out")[WEIGHTS] == files(result)[WEIGHTS]


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
    assert "model_type is 'wav2vec2', but 'hubert' in the pre-trained model" in refused(
        base, random_encoder("wav2vec2", tmp_path / "other"), out
    )
    deep = random_encoder("hubert", tmp_path / "deep", encoder_layers=3)
    edit_json(deep / "config.json", num_hidden_layers=2)
    assert "encoder.layers.2." in refused(base, deep, out)
    # The number of heads shows in no tensor's shape.
    edit_json(changed / "config.json", num_attention_heads=2, conv_stride=[5, 2, 2, 2, 2, 2, 1])
    message = refused(base, changed, out)
    assert "num_attention_heads is 2, but 4 in the pre-trained model" in message
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
        ({"method": "mean"}, "Unknown merge method"),
        ({"beta": 0.2}, "unknown key"),
        ({"dtype": "fp8"}, "dtype='fp8' is unknown. Allowed: fp32"),
    ):
        assert message in refused(tmp_path, tmp_path, tmp_path / "out", **options)
    assert "at least one" in refused(tmp_path, [], tmp_path / "out")
    assert "no such directory" in refused(tmp_path / "base", tmp_path / "absent", tmp_path / "out")


@pytest.mark.parametrize("method", [name for name in METHODS if name != "regmean"])
def test_members_are_what_single_merges_give(encoders, tmp_path, method):
    finetuned = [encoders / "first", encoders / "second"][: METHODS[method].most or 2]
    family = merge_family(encoders / "base", finetuned, tmp_path / "family", [0.0, 0.125, 0.5, 1.0], method=method)
    assert [path.name for path in family.values()] == ["alpha_0.00", "alpha_0.125", "alpha_0.50", "alpha_1.00"]
    for alpha, member in family.items():
        merge(encoders / "base", finetuned, tmp_path / "single" / member.name, method=method, alpha=alpha)
        assert files(member) == files(tmp_path / "single" / member.name)


def test_a_range_on_the_command_line(encoders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["merge", str(encoders / "base"), str(encoders / "first"), "-o", "family"]
    done = CliRunner().invoke(app, [*command, "--alpha", "0:1:0.25"])
    names = [f"family/alpha_{alpha}" for alpha in ("0.00", "0.25", "0.50", "0.75", "1.00")]
    assert (done.exit_code, done.stdout.split()) == (0, names), done.output
    for member, name in ((names[0], "base"), (names[-1], "first")):
        assert equal(weights(tmp_path / member), weights(encoders / name))
    done = CliRunner().invoke(app, [*command, "--alpha", "0.1,0.9"])
    assert done.stdout.split() == ["family/alpha_0.10", "family/alpha_0.90"], done.output
    found = sorted(path.name for path in (tmp_path / "family").iterdir())
    assert found == [".speechft.json", "alpha_0.10", "alpha_0.90"], "the older family is replaced"
    for wrong in ("0:1", "a", "0,b", "0:2:1"):
        assert isinstance(CliRunner().invoke(app, [*command, "--alpha", wrong]).exception, MergeError)


def test_refusals_leave_what_was_there(encoders, tmp_path):
    def refused(out, alphas, message, finetuned=encoders / "first"):
        before = files(tmp_path)
        with pytest.raises(SpeechFTError, match=message):
            merge_family(encoders / "base", finetuned, tmp_path / out, alphas)
        assert files(tmp_path) == before

    refused("out", [0.5, 1.5], r"outside \[0, 1\]")
    refused("out", [0.5, 0.5], "without repetitions")
    refused("out", [], "at least one")
    shutil.copytree(encoders / "second", tmp_path / "encoder")
    refused("encoder", [0.5], "was made by `speechft random`")
    (tmp_path / "work/alpha_1").mkdir(parents=True)
    (tmp_path / "work/alpha_1/thesis.tex").write_text("precious")
    refused("work", [0.5], "contains alpha_1/thesis.tex")
    family = merge_family(encoders / "base", encoders / "first", tmp_path / "family", [-0.5, 1.5], extrapolate=True)
    assert set(family) == {-0.5, 1.5}
    (tmp_path / "encoder" / WEIGHTS).write_bytes(b"damaged")
    refused("family", [0.25, 0.75], "encoder", finetuned=tmp_path / "encoder")
