"""Alpha by part of the model: which tensors a factor reaches, and what a merge does with it."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechft.encoders.directory.random_encoders import random_encoder
from speechft.errors import MergeError
from speechft.merge import get_method, merge_files
from speechft.merge.parts import alpha_factors

NAMES = [
    "masked_spec_embed",
    "feature_extractor.conv_layers.0.conv.weight",
    "feature_projection.layer_norm.weight",
    "encoder.pos_conv_embed.conv.bias",
    "encoder.layer_norm.weight",
    *(
        f"encoder.layers.{layer}.{end}"
        for layer in range(3)
        for end in ("attention.q_proj.weight", "layer_norm.bias", "feed_forward.x.bias")
    ),
]


def changed(scale):
    return {name: factor for name, factor in alpha_factors(scale, NAMES).items() if factor != 1}


def test_without_entries_every_factor_is_one():
    assert changed({}) == {}


def test_transformer_layers_only():
    assert set(changed({"transformer": 1, "rest": 0})) == set(NAMES[:5])


def test_attention_only():
    reached = {name for name, factor in alpha_factors({"attention": 1, "rest": 0}, NAMES).items() if factor}
    assert reached == {f"encoder.layers.{layer}.attention.q_proj.weight" for layer in range(3)}


def test_the_first_entry_that_matches_decides():
    factors = alpha_factors({"norms": 0.5, "transformer": 0.25, "extractor": 0}, NAMES)
    assert factors["encoder.layers.1.layer_norm.bias"] == factors["feature_projection.layer_norm.weight"] == 0.5
    assert factors["encoder.layers.1.feed_forward.x.bias"] == 0.25
    assert factors["feature_extractor.conv_layers.0.conv.weight"] == 0
    assert factors["masked_spec_embed"] == 1


def test_a_ramp_rises_with_the_depth_and_leaves_the_others_to_the_next_entry():
    factors = alpha_factors({"rest": "0.2:1", "positions": 0.7}, NAMES)
    assert [factors[f"encoder.layers.{layer}.attention.q_proj.weight"] for layer in range(3)] == pytest.approx([0.2, 0.6, 1.0])
    assert factors["encoder.pos_conv_embed.conv.bias"] == 0.7
    assert factors["encoder.layer_norm.weight"] == 1
    assert changed({"attention": "1:0", "*": 1}) == {f"encoder.layers.{i}.attention.q_proj.weight": 1 - i / 2 for i in (1, 2)}


def test_patterns_name_tensors():
    assert set(changed({"encoder.layers.[12].*": 0})) == {name for name in NAMES if ".1." in name or ".2." in name}


@pytest.mark.parametrize("family", ["hubert", "wav2vec2", "wavlm", "decoar2"])
def test_the_parts_of_every_family_are_found(tmp_path, family):
    names = load_file(random_encoder(family, tmp_path / family) / "model.safetensors")
    parts = ["projection", "positions", "attention", "feed_forward", "norms", *(["extractor"] if family != "decoar2" else [])]
    for part in parts:
        reached = [name for name, factor in alpha_factors({part: 0}, names).items() if factor == 0]
        assert 0 < len(reached) < len(names)
    everything = dict.fromkeys(parts, 0.0)
    assert {name for name, factor in alpha_factors(everything, names).items() if factor} <= {"masked_spec_embed"}


def test_fairseq_names_have_the_same_parts():
    names = {"encoder.layers.0.self_attn.q_proj.weight": "attention", "encoder.layers.0.fc1.bias": "feed_forward"}
    names |= {
        "post_extract_proj.weight": "projection",
        "encoder.pos_conv.0.bias": "positions",
        "encoder.layers.0.fc2.weight": "transformer",
    }
    for name, part in names.items():
        assert alpha_factors({part: 0}, [name]) == {name: 0}


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ({"atention": 1}, "'atention' matches no tensor. Parts: extractor, projection"),
        ({"encoder.layers.9.*": 1}, "'encoder.layers.9.*' matches no tensor"),
        ({"attention": "low"}, "attention='low' is no factor"),
        ({"attention": "0:1:2"}, "is no factor"),
        ({"attention": float("nan")}, "is no factor"),
        ({"attention": True}, "is no factor"),
    ],
)
def test_mistakes(scale, expected):
    with pytest.raises(MergeError, match=expected.replace("*", r"\*")):
        alpha_factors(scale, NAMES)


@pytest.fixture
def files(tmp_path):
    for name, value in [("base", 0.0), ("finetuned", 1.0)]:
        save_file({name_: torch.full((2,), value) for name_ in NAMES}, tmp_path / f"{name}.safetensors")
    return tmp_path


def merged(files, **options):
    merge_files(files / "base.safetensors", [files / "finetuned.safetensors"], files / "out.safetensors", **options)
    return {name: float(tensor[0]) for name, tensor in load_file(files / "out.safetensors").items()}


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_a_merge_multiplies_alpha(files, method):
    found = merged(files, alpha=0.5, scale={"attention": "0:2", "extractor": 0}, method=get_method(method))
    assert [found[f"encoder.layers.{layer}.attention.q_proj.weight"] for layer in range(3)] == [0, 0.5, 1]
    assert found["feature_extractor.conv_layers.0.conv.weight"] == 0
    assert found["masked_spec_embed"] == 0.5


def test_alpha_times_factor_stays_in_the_unit_interval_unless_asked(files):
    for factor in (3, -0.1, "0:3"):
        with pytest.raises(MergeError, match=r"times the factor .* of encoder\.layers.* is outside \[0, 1\]"):
            merged(files, alpha=0.5, scale={"attention": factor})
    assert not (files / "out.safetensors").exists()
    assert merged(files, alpha=0.5, scale={"attention": 3}, extrapolate=True)["encoder.layers.0.attention.q_proj.weight"] == 1.5
