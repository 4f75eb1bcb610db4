"""Alpha by part of the model: which tensors a factor reaches, and what a merge does with it."""

import pytest
import torch
from encoders.tiny import weights
from safetensors.torch import load_file, save_file

from speechft.encoders import random_encoder
from speechft.errors import MergeError
from speechft.merge import get_method, merge_files
from speechft.merge.parts import alpha_factors

OUTSIDE = [
    "masked_spec_embed",
    "feature_extractor.conv_layers.0.conv.weight",
    "feature_projection.layer_norm.weight",
    "encoder.pos_conv_embed.conv.bias",
    "encoder.layer_norm.weight",
]
ATTENTION = [f"encoder.layers.{layer}.attention.q_proj.weight" for layer in range(3)]
NORMS = [f"encoder.layers.{layer}.layer_norm.bias" for layer in range(3)]
FEED_FORWARD = [f"encoder.layers.{layer}.feed_forward.x.bias" for layer in range(3)]
NAMES = [*OUTSIDE, *ATTENTION, *NORMS, *FEED_FORWARD]
RAMP = {name: factor for names in (ATTENTION, NORMS, FEED_FORWARD) for name, factor in zip(names, (0.2, 0.6, 1.0), strict=True)}


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ({}, {}),
        ({"transformer": 1, "rest": 0}, dict.fromkeys(OUTSIDE, 0)),
        ({"attention": 1, "rest": 0}, dict.fromkeys([*OUTSIDE, *NORMS, *FEED_FORWARD], 0)),
        (  # the first entry that matches decides
            {"norms": 0.5, "transformer": 0.25, "extractor": 0},
            {**dict.fromkeys([*NORMS, OUTSIDE[2], OUTSIDE[4]], 0.5), **dict.fromkeys([*ATTENTION, *FEED_FORWARD], 0.25), OUTSIDE[1]: 0},
        ),
        # A ramp rises with the depth and leaves the others to the next entry.
        ({"rest": "0.2:1", "positions": 0.7}, {**RAMP, OUTSIDE[3]: 0.7}),
        ({"attention": "1:0", "*": 1}, dict(zip(ATTENTION, (1, 0.5, 0), strict=True))),
        ({"encoder.layers.[12].*": 0}, {name: 0 for name in NAMES if ".1." in name or ".2." in name}),
    ],
)
def test_which_tensors_a_factor_reaches(scale, expected):
    assert alpha_factors(scale, NAMES) == pytest.approx({**dict.fromkeys(NAMES, 1), **expected})


@pytest.mark.parametrize("family", ["hubert", "wav2vec2", "wavlm", "decoar2"])
def test_the_parts_of_every_family_are_found(tmp_path, family):
    names = weights(random_encoder(family, tmp_path / family))
    parts = ["projection", "positions", "attention", "feed_forward", "norms", *(["extractor"] if family != "decoar2" else [])]
    for part in parts:
        assert 0 < sum(factor == 0 for factor in alpha_factors({part: 0}, names).values()) < len(names)
    everything = dict.fromkeys(parts, 0.0)
    assert {name for name, factor in alpha_factors(everything, names).items() if factor} <= {"masked_spec_embed"}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("encoder.layers.0.self_attn.q_proj.weight", "attention"),
        ("encoder.layers.0.fc1.bias", "feed_forward"),
        ("post_extract_proj.weight", "projection"),
        ("encoder.pos_conv.0.bias", "positions"),
        ("encoder.layers.0.fc2.weight", "transformer"),
    ],
)
def test_fairseq_names_have_the_same_parts(name, part):
    assert alpha_factors({part: 0}, [name]) == {name: 0}


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ({"atention": 1}, "'atention' matches no tensor. Parts: extractor, projection"),
        ({"encoder.layers.9.*": 1}, r"'encoder.layers.9.\*' matches no tensor"),
        *(({"attention": factor}, "is no factor") for factor in ("low", "0:1:2", float("nan"), True)),
    ],
)
def test_mistakes(scale, expected):
    with pytest.raises(MergeError, match=expected):
        alpha_factors(scale, NAMES)


@pytest.fixture
def merged(tmp_path):
    for name, value in [("base", 0.0), ("finetuned", 1.0)]:
        save_file({name_: torch.full((2,), value) for name_ in NAMES}, tmp_path / name)

    def merged(**options):
        merge_files(tmp_path / "base", [tmp_path / "finetuned"], tmp_path / "out", alpha=0.5, **options)
        return {name: float(tensor[0]) for name, tensor in load_file(tmp_path / "out").items()}

    return merged


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_a_merge_multiplies_alpha(merged, method):
    found = merged(scale={"attention": "0:2", "extractor": 0}, method=get_method(method))
    assert [found[name] for name in ATTENTION] == [0, 0.5, 1]
    assert found["feature_extractor.conv_layers.0.conv.weight"] == 0
    assert found["masked_spec_embed"] == 0.5


def test_alpha_times_factor_stays_in_the_unit_interval_unless_asked(merged, tmp_path):
    for factor in (3, -0.1, "0:3"):
        with pytest.raises(MergeError, match=r"times the factor .* of encoder\.layers.* is outside \[0, 1\]"):
            merged(scale={"attention": factor})
    assert not (tmp_path / "out").exists()
    assert merged(scale={"attention": 3}, extrapolate=True)[ATTENTION[0]] == 1.5
