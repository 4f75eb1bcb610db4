"""A sweep over alpha: one pass, one encoder directory for each value."""

import shutil

import pytest
from encoders.tiny import WEIGHTS, equal, files, weights
from typer.testing import CliRunner

from speechft.cli import app
from speechft.errors import MergeError, SpeechFTError
from speechft.merge import METHODS, merge, merge_family


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
    refused("out", [0.5, 0.5], "each once")
    refused("out", [], "at least one")
    shutil.copytree(encoders / "second", tmp_path / "encoder")
    refused("encoder", [0.5], "was made by `speechft random`")
    (tmp_path / "work/alpha_1").mkdir(parents=True)
    (tmp_path / "work/alpha_1/thesis.tex").write_text("precious")
    refused("work", [0.5], "holds alpha_1/thesis.tex")
    family = merge_family(encoders / "base", encoders / "first", tmp_path / "family", [-0.5, 1.5], extrapolate=True)
    assert set(family) == {-0.5, 1.5}
    (tmp_path / "encoder" / WEIGHTS).write_bytes(b"damaged")
    refused("family", [0.25, 0.75], "encoder", finetuned=tmp_path / "encoder")
