"""Each merge method against its formula, written out on whole tensors in float64; and alpha by part of the model."""

import itertools
import math
import re

import hypothesis.strategies as st
import pytest
import torch
from conftest import ROOT
from encoders.tiny import equal, weights
from hypothesis import HealthCheck, given, settings

from speechft.encoders import random_encoder
from speechft.errors import MergeError
from speechft.merge import METHODS, models
from speechft.merge.parts import PARTS, alpha_factors, part_of

SHAPES = {"encoder.layers.0.attention.q_proj.weight": (40, 25), "encoder.layers.1.feed_forward.bias": (7,), "scalar": ()}
KEYS = tuple(SHAPES)
WITHOUT_AUDIO = [name for name in METHODS if name != "regmean"]
TURNING = ("slerp", "karcher")  # they turn whole tensors
quick = settings(max_examples=15, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Tensors come in several pieces, the last one shorter."""
    monkeypatch.setattr(models, "PIECE", 333)


def random_tensors(seed, near=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    tensors = {key: torch.randn(shape, generator=generator) for key, shape in SHAPES.items()}
    if near is not None:  # a third of the values stays, as in a frozen extractor
        frozen = {key: torch.rand(shape, generator=generator) < 1 / 3 for key, shape in SHAPES.items()}
        tensors = {key: torch.where(frozen[key], near[key], near[key] + 0.1 * tensor) for key, tensor in tensors.items()}
    return {key: tensor.to(dtype) for key, tensor in tensors.items()}


BASE = random_tensors(0)
THREE = [random_tensors(seed, near=BASE) for seed in (1, 2, 3)]
VECTORS = [{key: model[key].double() - BASE[key].double() for key in KEYS} for model in THREE]


def close(found, step, alpha=1.0):
    expected = {key: BASE[key].double() + alpha * step[key] for key in KEYS}
    torch.testing.assert_close({key: tensor.double() for key, tensor in found.items()}, expected, rtol=1e-6, atol=1e-6)


def some(method, candidates=THREE):
    """As many models as the method takes, two where it takes any number."""
    return candidates[: METHODS[method].most or 2]


@pytest.mark.parametrize(
    ("method", "parameters"),
    [("linear", {}), ("task_arithmetic", {}), ("ties", {"density": 1.0}), ("dare", {"drop": 0.0}), ("slerp", {})],
)
def test_alpha_one_with_a_single_model_is_that_model_bit_for_bit(merged, method, parameters):
    found = merged(BASE, THREE[:1], 1.0, method, parameters)
    assert equal(found, THREE[0])


@pytest.mark.parametrize("method", WITHOUT_AUDIO)
def test_alpha_zero_is_the_pretrained_model_bit_for_bit(merged, method):
    assert equal(merged(BASE, some(method), 0.0, method), BASE)


@pytest.mark.parametrize("method", WITHOUT_AUDIO)
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_what_fine_tuning_did_not_change_keeps_its_value(merged, method, alpha):
    finetuned = [{key: tensor.clone() for key, tensor in BASE.items()} for _ in range(2)]
    for index, model in enumerate(finetuned):  # models may not be identical, so each changes another value of one tensor
        model[KEYS[1]][index] += 0.5
    found = merged(BASE, some(method, finetuned), alpha, method)
    changed = slice(None) if method in TURNING else slice(2)
    found[KEYS[1]][changed] = BASE[KEYS[1]][changed]
    assert equal(found, BASE)


@pytest.mark.parametrize("method", [name for name in WITHOUT_AUDIO if METHODS[name].most is None])
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_the_order_of_the_models_does_not_change_a_bit(merged, method, alpha):
    first, *others = (merged(BASE, order, alpha, method) for order in itertools.permutations(THREE))
    assert all(equal(found, first) for found in others)


@pytest.mark.parametrize("method", WITHOUT_AUDIO)
def test_pieces_give_what_whole_tensors_give(merged, method, monkeypatch):
    in_pieces = merged(BASE, some(method), 0.4, method)
    monkeypatch.setattr(models, "PIECE", 10**6)
    torch.testing.assert_close(in_pieces, merged(BASE, some(method), 0.4, method), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", WITHOUT_AUDIO)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_and_out(merged, method, dtype):
    base = random_tensors(0, dtype=dtype)
    finetuned = some(method, [random_tensors(seed, near=base, dtype=dtype) for seed in (1, 2)])
    stored, exact = (merged(base, finetuned, 0.5, method, dtype=wanted) for wanted in (None, "fp32"))
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    assert {tensor.dtype for tensor in exact.values()} == {torch.float32}
    assert all(torch.equal(stored[key], exact[key].to(dtype)) for key in KEYS), "computed in float32, rounded once"


@quick
@given(st.lists(st.floats(-2, 2), min_size=3, max_size=3), st.floats(0, 1))
def test_task_arithmetic_is_the_signed_sum(merged, weights, alpha):
    step = {key: sum(weight * vector[key] for weight, vector in zip(weights, VECTORS, strict=True)) for key in KEYS}
    close(merged(BASE, THREE, alpha, "task_arithmetic", {"weights": weights}), step, alpha)


def test_task_arithmetic_adds_without_weights(merged):
    close(merged(BASE, THREE[:2], 1.0, "task_arithmetic"), {key: VECTORS[0][key] + VECTORS[1][key] for key in KEYS})


def ties_step(density, groups):
    """TIES on flattened task vectors, computed in float32, of one group of tensors each."""
    steps = {}
    for group in groups:
        flat = torch.stack([torch.cat([(model[key] - BASE[key]).double().flatten() for key in group]) for model in THREE])
        kept = max(1, round(density * flat.shape[1]))
        smallest = flat.abs().sort(dim=1, descending=True).values[:, kept - 1 : kept]
        trimmed = torch.where(flat.abs() >= smallest, flat, 0.0)
        sign = trimmed.sum(0).sign()
        agree = (trimmed.sign() == sign) & (trimmed != 0)
        mean = (trimmed * agree).sum(0) / agree.sum(0).clamp(min=1)
        for key, part in zip(group, mean.split([math.prod(SHAPES[key]) for key in group]), strict=True):
            steps[key] = part.reshape(SHAPES[key])
    return steps


@pytest.mark.parametrize("density", [0.001, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("trim", "groups"), [("model", [KEYS]), ("tensor", [(key,) for key in KEYS])])
@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_ties_trims_elects_and_averages(merged, density, trim, groups, alpha):
    close(merged(BASE, THREE, alpha, "ties", {"density": density, "trim": trim}), ties_step(density, groups), alpha)


@pytest.mark.parametrize(
    ("method", "parameters", "base", "first", "second", "expected"),
    [
        ("ties", {"density": 1}, [0.0, 0.0, 1.0], [1.0, 2.0, 3.0], [-1.0, -1.0, 4.0], [0.0, 2.0, 3.5]),  # the first cancels out
        ("model_stock", {}, [0.0, 0.0], [1.0, 0.5], [-1.0, 0.5], [0.0, 0.0]),
    ],
)
def test_changes_that_contradict_each_other_keep_the_base(merged, method, parameters, base, first, second, expected):
    start, *finetuned = ({"w": torch.tensor(values)} for values in (base, first, second))
    assert merged(start, finetuned, 1.0, method, parameters)["w"].tolist() == expected


def dare_step(merged, count, **parameters):
    key = KEYS[0]
    return merged(BASE, THREE[:count], 1.0, "dare", parameters)[key].double() - BASE[key].double(), [vector[key] for vector in VECTORS]


@pytest.mark.parametrize("drop", [0.0, 0.5, 0.9])
def test_dare_drops_and_rescales_and_keeps_the_expectation(merged, drop):
    step, (vector, *_) = dare_step(merged, 1, drop=drop)
    changed = vector != 0
    kept = (step != 0) & changed
    torch.testing.assert_close(step[kept], vector[kept] / (1 - drop), rtol=1e-4, atol=1e-6)
    assert (step[~changed] == 0).all()
    assert abs(kept.sum() / changed.sum() - (1 - drop)) < 0.08  # four standard deviations of 670 draws


def test_dare_averages_models_with_masks_of_their_own(merged):
    step, (first, second, _) = dare_step(merged, 2, drop=0.5)
    # Each value is the sum of one of four choices: neither, one, the other, both (times 1 / (1 - drop) / 2 = 1).
    distance, choice = (torch.stack([torch.zeros_like(step), first, second, first + second]) - step).abs().min(0)
    assert distance.max() < 1e-6
    both_changed = (first != 0) & (second != 0)
    assert all(0.15 < (choice[both_changed] == index).double().mean() < 0.35 for index in range(4))


def test_dare_with_ties_averages_what_agrees(merged):
    close(merged(BASE, THREE, 1.0, "dare", {"drop": 0.0, "combine": "ties"}), ties_step(1.0, [KEYS]))
    step, vectors = dare_step(merged, 3, drop=0.5, combine="ties")
    signs = torch.stack([vector.sign() for vector in vectors])
    assert ((step.sign() == signs) | (step.sign() == 0)).any(0).all()
    largest = torch.stack([vector.abs() for vector in vectors]).max(0).values * 2
    assert (step.abs() <= largest + 1e-6).all()


def test_seeds_decide_the_masks(merged):
    first, again, other = (dare_step(merged, 1, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@quick
@given(st.integers(0, 10**6), st.floats(0.01, 0.99))
def test_slerp_goes_along_the_arc(merged, seed, alpha):
    base, other = random_tensors(seed), random_tensors(seed + 1)
    found, back = merged(base, [other], alpha, "slerp"), merged(other, [base], 1 - alpha, "slerp")
    for key in KEYS[:2]:
        a, b = (model[key].double().flatten() for model in (base, other))
        angle = math.acos(float(a @ b / a.norm() / b.norm()))
        expected = (math.sin((1 - alpha) * angle) * a + math.sin(alpha * angle) * b) / math.sin(angle)
        torch.testing.assert_close(found[key].double().flatten(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(back[key], found[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("other", "alpha", "expected"),
    [
        ([0.0, 1.0, 0.0], 0.5, [0.5**0.5, 0.5**0.5, 0.0]),
        ([1.0, 1e-3, 0.0], 0.5, [1.0, 5e-4, 0.0]),  # small angles are linear
        ([-1.0, 0.0, 0.0], 0.25, [0.5, 0.0, 0.0]),  # so are opposite models
        ([0.0, 0.0, 0.0], 0.25, [0.75, 0.0, 0.0]),  # and zeros
    ],
)
def test_slerp_of_a_unit_vector(merged, other, alpha, expected):
    found = merged({"w": torch.tensor([1.0, 0.0, 0.0])}, [{"w": torch.tensor(other)}], alpha, "slerp")["w"]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=2e-7)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_model_stock_goes_as_far_as_the_angle_says(merged, count, alpha):
    step = {}
    for key in KEYS:
        flat = [vector[key].flatten() for vector in VECTORS[:count]]
        pairs = [float(a @ b / max(a.norm() * b.norm(), 1e-300)) for a, b in itertools.combinations(flat, 2)]
        cosine = min(max(sum(pairs) / len(pairs), 0), 1)
        ratio = count * cosine / (1 + (count - 1) * cosine)
        step[key] = ratio * sum(vector[key] for vector in VECTORS[:count]) / count
    close(merged(BASE, THREE[:count], alpha, "model_stock"), step, alpha)


GUIDE = (ROOT / "docs/merge.md").read_text(encoding="utf-8")
ROWS = {cells[1].strip("` "): line for line in GUIDE.splitlines() if (cells := line.split("|"))[0] == "" and len(cells) == 8}


def test_every_method_has_a_row_with_its_parameters_its_source_and_its_number_of_models():
    assert set(METHODS) <= set(ROWS)
    for name, method in METHODS.items():
        cells = ROWS[name].split("|")
        assert cells[2].strip() == (str(method.fewest) if method.most == method.fewest else f"{method.fewest} or more")
        assert set(re.findall(r"`(\w+)` \(", cells[5])) >= set(method.Parameters.model_fields)
        papers = re.findall(r"\d{4}\.\d{5}", cells[6])
        assert all(paper in method.reference for paper in papers)
        assert papers or name in ("slerp", "multislerp")


def test_every_part_is_named():
    assert all(f"`{part}`" in GUIDE for part in PARTS)


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


def test_positional_convolutions_of_data2vec_are_no_transformer_layers():
    names = ["encoder.pos_conv_embed.layers.4.conv.weight", "encoder.layers.0.attention.q_proj.weight", "encoder.layers.2.final.bias"]
    assert [part_of(name) for name in names] == ["positions", "layer_1", "layer_3"]
    assert list(alpha_factors({"transformer": "0:1", "rest": 0.5}, names).values()) == [0.5, 0, 1]
    assert list(alpha_factors({"transformer": 0.25, "rest": 0.5}, names).values()) == [0.5, 0.25, 0.25]
    assert list(alpha_factors({"lines": "0.2:1"}, names).values()) == [0.2, 0.2, 1]


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
        *(({"attention": factor}, "is not a factor") for factor in ("low", "0:1:2", float("nan"), True)),
    ],
)
def test_mistakes(scale, expected):
    with pytest.raises(MergeError, match=expected):
        alpha_factors(scale, NAMES)


ZEROS, ONES = ({name: torch.full((2,), value) for name in NAMES} for value in (0.0, 1.0))


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_a_merge_multiplies_alpha(merged, method):
    found = merged(ZEROS, [ONES], 0.5, method, scale={"attention": "0:2", "extractor": 0})
    assert [float(found[name][0]) for name in ATTENTION] == [0, 0.5, 1]
    assert found["feature_extractor.conv_layers.0.conv.weight"][0] == 0
    assert found["masked_spec_embed"][0] == 0.5


def test_alpha_times_factor_stays_in_the_unit_interval_unless_asked(merged):
    for factor in (3, -0.1, "0:3"):
        with pytest.raises(MergeError, match=r"times the factor .* of encoder\.layers.* is outside \[0, 1\]"):
            merged(ZEROS, [ONES], 0.5, scale={"attention": factor})
    assert merged(ZEROS, [ONES], 0.5, scale={"attention": 3}, extrapolate=True)[ATTENTION[0]][0] == 1.5
