"""Merge methods that other tools have, or papers, against values of mergekit and formulas written out on whole tensors in float64."""

import itertools
import math

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

from speechft.errors import MergeError
from speechft.merge import get_method, models
from speechft.merge.parts import alpha_factors


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Tensors come in several pieces, the last one shorter."""
    monkeypatch.setattr(models, "PIECE", 50)


RECORDED = load_file(ROOT / "tests/golden/merge/mergekit.safetensors")


def recorded(case):
    return {key.partition("/")[2]: tensor for key, tensor in RECORDED.items() if key.partition("/")[0] == case}


BASE, *THREE = (recorded(case) for case in ("base", "finetuned_0", "finetuned_1", "finetuned_2"))
MATRICES = ("matrix", "vector")  # of tensors with three axes, mergekit takes the last one for rows, the first one for columns


@pytest.mark.parametrize(
    ("case", "count", "parameters", "names"),
    [
        ("breadcrumbs", 3, {"density": 0.5, "gamma": 0.1}, BASE),
        ("karcher", 3, {}, BASE),
        ("multislerp", 3, {}, BASE),
        ("multislerp_weights", 3, {"weights": [1, 2, 0.5]}, BASE),
        ("nuslerp", 2, {}, BASE),
        ("nuslerp_weights", 2, {"weights": [1, 3]}, BASE),
        ("nuslerp_rows", 2, {"weights": [1, 3], "vectors": "rows"}, MATRICES),
        ("nuslerp_columns", 2, {"weights": [1, 3], "vectors": "columns"}, MATRICES),
    ],
)
def test_values_of_mergekit(merged, case, count, parameters, names):
    found, expected = merged(BASE, THREE[:count], 1.0, case.partition("_")[0], parameters), recorded(case)
    for name in names:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}")


def steps(found, base=BASE):
    return {name: tensor.double() - base[name].double() for name, tensor in found.items()}


VECTORS = [steps(model) for model in THREE]


def test_breadcrumbs_elect_signs_among_what_is_left(merged):
    found = steps(merged(BASE, THREE, 1.0, "breadcrumbs", {"density": 0.4, "gamma": 0.2, "combine": "ties"}))
    for name, step in found.items():
        flat = torch.stack([vector[name].flatten() for vector in VECTORS])
        ranks = flat.float().abs().argsort(1, descending=True).argsort(1)
        top, kept = int(0.2 * flat.shape[1]), int(0.4 * flat.shape[1])
        flat = torch.where((top <= ranks) & (ranks < top + kept), flat, 0.0)
        agree = (flat.sign() == flat.sum(0).sign()) & (flat != 0)
        torch.testing.assert_close(step.flatten(), (flat * agree).sum(0) / agree.sum(0).clamp(min=1), rtol=1e-5, atol=1e-6)


def test_a_mean_of_the_karcher_kind_is_a_stationary_point(merged):
    """The logarithms of the models at their mean cancel out; its length is the mean of theirs."""
    apart = [{"w": torch.randn(40, generator=torch.Generator().manual_seed(seed))} for seed in range(4)]
    mean = merged(apart[0], apart[1:], 1.0, "karcher")["w"].double()
    others = [model["w"].double() for model in apart[1:]]
    assert mean.norm() == pytest.approx(sum(other.norm() for other in others) / 3)
    mean /= mean.norm()
    total = torch.zeros_like(mean)
    for unit in (other / other.norm() for other in others):
        away = unit - (mean @ unit) * mean
        total += away / away.norm() * math.acos(mean @ unit)
    assert total.norm() < 1e-6


def test_opposite_task_vectors_have_no_mean_direction(merged):
    base = {"w": torch.zeros(2)}
    pair = [{"w": torch.tensor(values)} for values in ([1.0, 2.0], [-3.0, -6.0])]
    assert merged(base, pair, 1.0, "multislerp")["w"].tolist() == [-1.0, -2.0]
    torch.testing.assert_close(merged(base, pair, 1.0, "nuslerp")["w"], torch.tensor([-1.0, -2.0]))


ROWS = (20, 400)
ONE = {"w": torch.randn(ROWS, generator=torch.Generator().manual_seed(1))}
ORIGIN = {"w": torch.zeros(ROWS)}


def test_della_drops_small_changes_more_often_and_keeps_the_expectation(merged):
    change = ONE["w"]
    rank = change.abs().argsort(dim=1).argsort(dim=1).double()  # 0 is the smallest of its row
    dropped = 0.6 + 0.2 - 0.4 * rank / (ROWS[1] - 1)
    found = [merged(ORIGIN, [ONE], 1.0, "della", {"drop": 0.6, "epsilon": 0.4, "seed": seed})["w"] for seed in range(40)]
    for step in found:
        torch.testing.assert_close(step[step != 0], (change / (1 - dropped))[step != 0].float(), rtol=1e-5, atol=1e-6)
    kept = torch.stack(found).ne(0).double().mean(0)
    for low, high in itertools.pairwise(range(0, ROWS[1] + 1, 100)):
        among = (rank >= low) & (rank < high)
        assert float(kept[among].mean()) == pytest.approx(
            float(1 - dropped[among].mean()), abs=0.005
        )  # five standard deviations of 80,000 draws
    assert not torch.equal(found[0], found[1])


def test_della_combines_models_as_ties_or_by_their_mean(merged):
    kept = {"drop": 0.0, "epsilon": 0.0}
    for combine, method, parameters in [("linear", "linear", {}), ("ties", "ties", {"density": 1})]:
        found = merged(BASE, THREE, 1.0, "della", {**kept, "combine": combine})
        torch.testing.assert_close(found, merged(BASE, THREE, 1.0, method, parameters))


@pytest.mark.parametrize(
    ("method", "parameters"),
    [("breadcrumbs", {"density": 1.0, "gamma": 0.0}), ("della", {"drop": 0.0, "epsilon": 0.0})],
)
def test_masks_that_drop_nothing_give_the_model_itself(merged, method, parameters):
    found = merged(BASE, THREE[:1], 1.0, method, parameters)
    assert all(torch.equal(found[name], THREE[0][name]) for name in BASE)


@pytest.mark.parametrize(
    ("method", "parameters", "expected"),
    [
        ("breadcrumbs", {"density": 0.9, "gamma": 0.2}, "density=0.9 plus gamma=0.2 must be at most 1"),
        ("della", {"drop": 0.9}, r"drop \+ epsilon / 2 = 1.05 must be in \[0, 1\)"),
        ("multislerp", {"weights": [1, -1]}, "weights.1: Input should be greater than 0, found -1"),
        ("nuslerp", {"vectors": "row"}, "vectors: Input should be 'tensor', 'rows' or 'columns', found 'row'"),
    ],
)
def test_parameters_that_make_no_sense(method, parameters, expected):
    with pytest.raises(MergeError, match=expected) as caught:
        get_method(method, parameters)
    assert "1 problem" in str(caught.value)


@pytest.mark.parametrize(("method", "count"), [("nuslerp", 2), ("multislerp", 3)])
def test_a_weight_for_each_model(merged, method, count):
    with pytest.raises(MergeError, match=f"weights has 4 values for {count} fine-tuned models"):
        merged(BASE, THREE[:count], 1.0, method, {"weights": [1, 1, 1, 1]})


def test_weights_follow_the_order_of_the_models(merged):
    for method in ("nuslerp", "multislerp"):
        one, other = (merged(BASE, order, 1.0, method, {"weights": [1, 5]}) for order in (THREE[:2], THREE[1::-1]))
        assert not torch.equal(one["matrix"], other["matrix"])


def test_lines_is_a_ramp_over_depth_that_starts_at_the_first_factor_elsewhere():
    layers = [f"encoder.layers.{layer}.fc1.weight" for layer in range(5)]
    names = ["feature_extractor.conv.weight", "encoder.layer_norm.weight", *layers]
    assert list(alpha_factors({"lines": "0.2:1"}, names).values()) == pytest.approx([0.2, 0.2, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert list(alpha_factors({"extractor": 0, "lines": "0.2:1"}, names).values())[:2] == [0, 0.2]
