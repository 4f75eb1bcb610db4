"""Merge methods that need whole matrices, against their papers' formulas in float64; and merges of adapters."""

import peft
import pytest
import torch
from encoders.tiny import saved, weights
from transformers import AutoModel
from typer.testing import CliRunner

from speechft.cli import app
from speechft.merge import get_method, merge

TALL, WIDE, VECTOR = "tall", "wide", "vector"
SHAPES = {TALL: (30, 17), WIDE: (12, 25), VECTOR: (9,)}


def random(seed, size=1.0):
    generator = torch.Generator().manual_seed(seed)
    return {name: size * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


BASE = random(0)
VECTORS = [random(seed, 0.1) for seed in (1, 2, 3)]
THREE = [{name: BASE[name] + vector[name] for name in SHAPES} for vector in VECTORS]
CHANGES = {name: [(model[name] - BASE[name]).double() for model in THREE] for name in SHAPES}


def tsv_m(changes):
    """Section 3.2 of the paper: concatenate truncated singular directions, whiten them, multiply."""
    left, values, right = zip(*(torch.linalg.svd(change, full_matrices=False) for change in changes), strict=True)
    share = min(changes[0].shape) // len(changes)
    u, v = torch.cat([one[:, :share] for one in left], 1), torch.cat([one[:share].T for one in right], 1)

    def whitened(matrix):
        squares, axes = torch.linalg.eigh(matrix.T @ matrix)
        return matrix @ axes @ torch.diag(squares.rsqrt()) @ axes.T

    return whitened(u) @ torch.diag(torch.cat([one[:share] for one in values])) @ whitened(v).T


def iso_c(changes):
    left, values, right = torch.linalg.svd(sum(changes), full_matrices=False)
    return values.mean() * left @ right


@pytest.mark.parametrize("method", [tsv_m, iso_c])
@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_matrices_follow_the_paper_and_other_tensors_are_averaged(merged, method, alpha):
    found = merged(BASE, THREE, alpha, method.__name__)
    for name, changes in CHANGES.items():
        step = method(changes) if name != VECTOR else sum(changes) / 3
        torch.testing.assert_close(found[name].double(), BASE[name].double() + alpha * step, rtol=1e-6, atol=1e-6)


def low_rank(seed, rows=20, columns=14, rank=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, rank, generator=generator) @ torch.randn(rank, columns, generator=generator) / 10


def test_directions_that_are_rounding_alone_are_left_out(merged):
    base = {"w": torch.randn(20, 14, generator=torch.Generator().manual_seed(9))}
    first, second = low_rank(1), low_rank(2)
    tuned = [{"w": base["w"] + change} for change in (first, second)]
    left, values, right = torch.linalg.svd((first + second).double())
    expected = values[:4].mean() * left[:, :4] @ right[:4]
    step = merged(base, tuned, 1.0, "iso_c")["w"].double() - base["w"].double()
    torch.testing.assert_close(step, expected, rtol=0, atol=2e-6)
    step = merged(base, tuned, 1.0, "tsv_m")["w"].double() - base["w"].double()
    assert torch.linalg.matrix_rank(step, atol=1e-4) == 4


def ties(vectors, density):
    """Flat vectors, ranked each by itself."""
    flat = torch.stack(vectors)
    kept = max(1, round(density * flat.shape[1]))
    smallest = flat.float().abs().sort(dim=1, descending=True).values[:, kept - 1 : kept]
    flat = torch.where(flat.float().abs() >= smallest, flat, 0.0)
    agree = (flat.sign() == flat.sum(0).sign()) & (flat != 0)
    return (flat * agree).sum(0) / agree.sum(0).clamp(min=1)


def knots(changes, density):
    """TIES over the coordinates of all matrices of a model together, as published; the directions' signs do not matter."""
    directions, coordinates, layout = [], [[] for _ in changes[0]], []
    for matrices in changes:
        left, values, right = torch.linalg.svd(torch.cat(matrices, 1), full_matrices=False)
        rank = int((values > 1e-5).sum())
        directions.append(left[:, :rank])
        parts = (torch.diag(values) @ right)[:rank].split(matrices[0].shape[1], dim=1)
        layout.append(parts[0].shape)
        for model, part in zip(coordinates, parts, strict=True):
            model.append(part.flatten())
    chosen = ties([torch.cat(model) for model in coordinates], density).split([shape.numel() for shape in layout])
    return [left @ part.view(shape) for left, part, shape in zip(directions, chosen, layout, strict=True)]


@pytest.mark.parametrize("density", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("trim", ["model", "tensor"])
def test_knots_is_ties_along_shared_directions(merged, density, trim):
    changes = [[low_rank(3 * matrix + model) for model in range(3)] for matrix in range(2)]
    base = {name: torch.randn(20, 14, generator=torch.Generator().manual_seed(seed)) for seed, name in enumerate("ab")}
    tuned = [{name: base[name] + changes[index][model] for index, name in enumerate("ab")} for model in range(3)]
    found = merged(base, tuned, 1.0, "knots", {"density": density, "trim": trim})
    exact = [[change.double() for change in matrices] for matrices in changes]
    expected = knots(exact, density) if trim == "model" else [knots([matrices], density)[0] for matrices in exact]
    for name, step in zip("ab", expected, strict=True):
        torch.testing.assert_close(found[name].double() - base[name].double(), step, rtol=0, atol=3e-6)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """A folder with a base and two adapters of it, peft's own; and the change of each weight by each, from its A and B."""
    folder = tmp_path_factory.mktemp("adapters")
    saved(folder / "base", "HubertModel")
    changes = {}
    for seed, name in enumerate(("one", "other")):
        torch.manual_seed(seed + 1)
        model = peft.get_peft_model(
            AutoModel.from_pretrained(folder / "base"),
            peft.LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "output_dense"], init_lora_weights=False),
        )
        model.save_pretrained(folder / name)
        tensors = dict(model.named_parameters())
        for down in (key for key in tensors if ".lora_A." in key):
            weight = down.removeprefix("base_model.model.").replace(".lora_A.default", "")
            up = tensors[down.replace("lora_A", "lora_B")]
            changes.setdefault(weight, []).append(3 * up.detach().double() @ tensors[down].detach().double())
    return folder, changes


@pytest.mark.parametrize("method", ["linear", "knots"])
def test_adapters_merge_into_one_encoder(adapters, tmp_path, method):
    folder, changes = adapters
    arguments = [folder / "base", folder / "one", folder / "other", "--method", method, "--alpha", "1", "--out", tmp_path / "merged"]
    result = CliRunner().invoke(app, ["merge", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    found, base = weights(tmp_path / "merged"), weights(folder / "base")
    steps = dict(zip(changes, knots(list(changes.values()), 0.2), strict=True))
    if method == "linear":
        steps = {name: sum(pair) / 2 for name, pair in changes.items()}
    assert len(steps) == 4
    for name, tensor in found.items():
        expected = base[name].double() + steps.get(name, 0)
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=2e-6)
        assert name in steps or torch.equal(tensor, base[name])


def test_every_method_takes_adapters(adapters, tmp_path):
    folder, _ = adapters
    for method in ("breadcrumbs", "della", "tsv_m", "iso_c"):
        merge(folder / "base", [folder / "one", folder / "other"], tmp_path / method, method=method)
        assert get_method(method).reference in (tmp_path / method / "README.md").read_text()
