"""A sweep over alpha: one pass, one encoder directory for each value."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from speechft.cli import app
from speechft.encoders.directory.random_encoders import random_encoder
from speechft.errors import CheckpointError, MergeError, OutputError
from speechft.merge import METHODS, merge, merge_family

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    for seed, name in enumerate(("base", "first", "second")):
        random_encoder("hubert", folder / name, seed=seed)
    return folder


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("method", METHODS)
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
    ends = [load_file(tmp_path / names[index] / WEIGHTS) for index in (0, -1)]
    for found, name in zip(ends, ("base", "first"), strict=True):
        assert all(torch.equal(found[key], tensor) for key, tensor in load_file(encoders / name / WEIGHTS).items())
    done = CliRunner().invoke(app, [*command, "--alpha", "0.1,0.9"])
    assert done.stdout.split() == ["family/alpha_0.10", "family/alpha_0.90"], done.output
    found = sorted(path.name for path in (tmp_path / "family").iterdir())
    assert found == [".speechft.json", "alpha_0.10", "alpha_0.90"], "the older family is replaced"
    for wrong in ("0:1", "a", "0,b", "0:2:1"):
        assert isinstance(CliRunner().invoke(app, [*command, "--alpha", wrong]).exception, MergeError)


def refused(encoders, out, alphas, **options):
    with pytest.raises((MergeError, OutputError)) as caught:
        merge_family(encoders / "base", [encoders / "first"], out, alphas, **options)
    return str(caught.value)


def test_refusals_leave_nothing(encoders, tmp_path):
    assert "outside [0, 1]" in refused(encoders, tmp_path / "out", [0.5, 1.5])
    assert "each once" in refused(encoders, tmp_path / "out", [0.5, 0.5])
    assert "at least one" in refused(encoders, tmp_path / "out", [])
    assert not (tmp_path / "out").exists()
    assert set(merge_family(encoders / "base", encoders / "first", tmp_path / "far", [-0.5, 1.5], extrapolate=True)) == {-0.5, 1.5}


def test_only_families_are_replaced(encoders, tmp_path):
    shutil.copytree(encoders / "second", tmp_path / "encoder")
    assert "was made by `speechft random`" in refused(encoders, tmp_path / "encoder", [0.5])
    (tmp_path / "work/alpha_1").mkdir(parents=True)
    (tmp_path / "work/alpha_1/thesis.tex").write_text("precious")
    assert "holds alpha_1/thesis.tex" in refused(encoders, tmp_path / "work", [0.5])
    assert (tmp_path / "work/alpha_1/thesis.tex").read_text() == "precious"
    assert files(tmp_path / "encoder") == files(encoders / "second")


def test_a_failure_leaves_the_older_family(encoders, tmp_path):
    merge_family(encoders / "base", encoders / "first", tmp_path / "family", [0.5])
    before = files(tmp_path / "family")
    shutil.copytree(encoders / "second", tmp_path / "broken")
    content = bytearray((tmp_path / "broken" / WEIGHTS).read_bytes())
    content[-3] ^= 1
    (tmp_path / "broken" / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or replaced"):
        merge_family(encoders / "base", tmp_path / "broken", tmp_path / "family", [0.25, 0.75])
    assert files(tmp_path / "family") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "family"]
