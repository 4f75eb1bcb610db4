"""Frozen models of the user's own: the example of docs/encoders.md, lengths, batches, identities and refusals."""

import json
import re
import sys

import pytest
import torch
from conftest import ROOT
from evaluate.corpora import QUICK
from typer.testing import CliRunner

from speechft.analysis.engine import analyse
from speechft.cli import app
from speechft.encoders import check_encoder, export_checkpoint, import_checkpoint, inspect_checkpoint, load_encoder, store_encoder
from speechft.encoders.own_module import load_module
from speechft.errors import CheckpointError, ConfigError, SpeechFTError, TaskError
from speechft.evaluate import evaluate, plan_evaluation
from speechft.merge import merge
from speechft.recipes.cell import read_cell
from speechft.recipes.modules import option_words, parse_options

EXAMPLE = re.search(r"```python\n(# my_encoder\.py\n.*?)```", (ROOT / "docs/encoders.md").read_text(), re.S)[1]

SMALL = '''
import torch
from torch import nn

class Small(nn.Module):
    """A strided convolution and a layer; `how` adds a peculiarity."""

    def __init__(self, how="", rate=320, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.layer, self.how, self.rate = nn.Conv1d(1, 8, 400, 320), nn.Linear(8, 8), how, rate

    def get_downsample_rates(self, key):
        assert key == "hidden_states"
        return self.rate

    def forward(self, waveforms):
        batch = nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
        first = torch.tanh(self.conv(batch[:, None])).transpose(1, 2)
        second = self.layer(first)
        lengths = [(len(waveform) - 400) // 320 + 1 for waveform in waveforms]
        shifted = first + batch.abs().amax() * (len(waveforms) > 1)
        return {
            "": {"hidden_states": [first, second]},
            "lengths": {"hidden_states": (first, second), "lengths": torch.tensor(lengths)},
            "depends": {"hidden_states": [shifted, second], "lengths": lengths},
            "random": {"hidden_states": [torch.randn_like(first)], "lengths": lengths},
            "nan": {"hidden_states": [first / 0.0 * 0.0]},
            "tensor": first,
            "no states": {"last": first},
            "one state": {"hidden_states": first},
            "uneven": {"hidden_states": [first, second[:, 1:]]},
            "flat": {"hidden_states": [first.flatten()]},
            "wrong lengths": {"hidden_states": [first], "lengths": [length + 9 for length in lengths]},
            "fails": None if self.how != "fails" else {}[0],
        }[self.how]

class NoRate(nn.Module):
    def forward(self, waveforms):
        return {}

class Plain:
    get_downsample_rates = len

def none():
    return None
'''


@pytest.fixture(scope="session")
def example(tmp_path_factory):
    """The file of the documentation."""
    path = tmp_path_factory.mktemp("example") / "my_encoder.py"
    path.write_text(EXAMPLE)
    return path


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(SMALL)
    return path


def noise(*lengths):
    return [0.1 * torch.randn(length, generator=torch.Generator().manual_seed(length)) for length in lengths]


@pytest.mark.parametrize("task", ["ks", "pr"])
def test_the_example_gives_the_scores_of_its_encoder_directory(task, example, model_dir, corpus_of, cell_of, tmp_path, caplog):
    caplog.set_level("INFO")
    # A learning rate of 0.1 makes another score of the rounding of batches.
    options, rates = {"folder": str(model_dir)}, {"learning_rates": [0.01, 0.001]}
    recipe = {**QUICK[task], **rates}
    cell = evaluate(f"{example}:MyEncoder", task, corpus_of(task), tmp_path / "a.json", recipe, encoder_options=options, device="cpu")
    ours = cell_of(task, **rates)
    assert cell["values"] == ours["values"]
    assert cell["counts"] == ours["counts"]
    module = cell["module"]
    assert (module["name"], module["class_name"], module["options"]) == (f"{example}:MyEncoder", "MyEncoder", options)
    assert module["depends_on_batch"], "its first normalization runs over the padding"
    assert cell["model"]["sha256"] == cell["hashes"]["model"] != ours["hashes"]["model"]
    assert ours["module"] is None
    assert read_cell(tmp_path / "a.json").module.sources == module["sources"]
    assert f"running {example}, SHA-256 {module['sources'][str(example)]}" in caplog.text
    assert "features depend on the batch (the number of frames differs)" in caplog.text


def test_the_features_of_the_example_are_those_of_its_encoder_directory(example, model_dir):
    theirs, ours = load_module(f"{example}:MyEncoder", {"folder": str(model_dir)}).requires_grad_(False), load_encoder(model_dir)
    waveforms = noise(16000, 400, 9999, 719, 720)
    theirs.one_by_one = True
    with torch.inference_mode():
        mine, known = theirs.encode(waveforms), ours.encode(waveforms)
    assert torch.equal(mine.lengths, known.lengths)
    assert (theirs.num_states, theirs.hidden_size, theirs.min_samples) == (ours.num_states, ours.hidden_size, ours.min_samples)
    for left, right in zip(mine.hidden_states, known.hidden_states, strict=True):
        assert torch.allclose(left, right, atol=1e-5)


def test_lengths_and_batches(small):
    by_rate, own = load_module(f"{small}:Small"), load_module(f"{small}:Small", {"how": "lengths"})
    waveforms = noise(16000, 9999, 4800)
    assert by_rate.encode(waveforms).lengths.tolist() == [49, 31, 15]  # round(samples / 320), cut to 49
    together = own.encode(waveforms)
    assert together.lengths.tolist() == [49, 30, 14]
    assert not together.hidden_states[0][1, 30:].any()
    assert by_rate.batch_difference(waveforms) == float("inf"), "the rate alone counts a frame of padding"
    assert own.batch_difference(waveforms) < 1e-5
    assert load_module(f"{small}:Small", {"how": "depends"}).batch_difference(waveforms) > 0.01
    assert load_module(f"{small}:Small", {"rate": 310}).encode(noise(16000)).lengths.tolist() == [49]  # 52 by the rate


def test_features_are_not_reused_after_an_edit_or_with_other_weights(small, manifests, count_passes, tmp_path):
    def passes(**options):
        before, given = count_passes["clips"], {"encoder_options": options, "work_dir": tmp_path / "work", "keep_features": True}
        cell = evaluate(f"{small}:Small", "ks", manifests, tmp_path / "a.json", QUICK["ks"], **given, device="cpu")
        return count_passes["clips"] - before, cell["hashes"]["model"], cell["module"]["depends_on_batch"]

    (first, one, alone), (again, same, _), (weights, two, _) = passes(how="lengths"), passes(how="lengths"), passes(how="lengths", seed=1)
    assert (again, alone) == (0, False)
    assert first == weights > 0
    small.write_text(SMALL.replace("torch.tanh(", "torch.sign("))  # of the same length, within the same second
    edited, three, _ = passes(how="lengths")
    assert edited == first
    assert one == same
    assert len({one, two, three}) == 3


def test_an_object(small, manifests, tmp_path):
    made = load_module(f"{small}:Small", {"how": "lengths"}).model
    named = {"model_name": "mine/none/pretrained", "device": "cpu"}
    cell = evaluate(made, "ks", manifests, tmp_path / "a.json", QUICK["ks"], **named)
    assert cell["model"]["encoder"] == "mine"
    assert (cell["module"]["name"], cell["module"]["class_name"]) == (None, "Small")
    other = evaluate(f"{small}:Small", "ks", manifests, tmp_path / "b.json", QUICK["ks"], encoder_options={"how": "lengths"}, device="cpu")
    assert cell["values"] == other["values"]
    assert cell["module"]["state_sha256"] == other["module"]["state_sha256"]


def test_modules_on_the_path(small, tmp_path, monkeypatch):
    package = tmp_path / "somebody"
    package.mkdir()
    (package / "__init__.py").write_text("from .models import Small\nassert not globals().get('twice')\n")
    (package / "models.py").write_text(SMALL)
    monkeypatch.syspath_prepend(tmp_path)
    first = load_module("somebody.models:Small")
    assert first.sha256 == load_module(f"{small}:Small").sha256, "the place of the file does not matter"
    (package / "models.py").write_text(SMALL.replace("torch.tanh", "torch.sign"))
    assert load_module("somebody.models:Small").model(noise(800))["hidden_states"][0].abs().max() == 1
    assert load_module("somebody:Small").record.sources.keys() == {"somebody", "somebody.models"}
    for name in [name for name in sys.modules if name.partition(".")[0] == "somebody"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("small.py:Small", {"how": "tensor"}, "returns Tensor"),
        ("small.py:Small", {"how": "no states"}, "returns the keys last"),
        ("small.py:Small", {"how": "one state"}, "must be a list of tensors"),
        ("small.py:Small", {"how": "uneven"}, r"shapes \(1, 48, 8\), \(1, 49, 8\)"),
        ("small.py:Small", {"how": "flat"}, "need the same"),
        ("small.py:Small", {"how": "wrong lengths"}, "do not fit 1 waveforms of 49 frames"),
        ("small.py:Small", {"how": "fails"}, "fails for waveforms of 16000 samples .KeyError"),
        ("small.py:Small", {"how": "random"}, "features of the same waveform differ"),
        ("small.py:Small", {"how": "nan"}, "NaN or Inf"),
        ("small.py:Small", {"rate": 160}, "49 frames for 16000 samples, but 160 samples per frame imply 100"),
        ("small.py:Small", {"rate": 0}, "get_downsample_rates returns 0"),
        ("small.py:Small", {"rate": "x"}, "get_downsample_rates.* fails .ValueError"),
        ("small.py:Small", {"hw": 1}, r"Small\(hw=1\) fails .TypeError"),
        ("small.py:Smal", {}, "does not define 'Smal'. Did you mean 'Small'"),
        ("small.py:NoRate", {}, "expected a torch.nn.Module whose forward"),
        ("small.py:Plain", {}, "a Plain, expected"),
        ("small.py:none", {}, "a NoneType, expected"),
        ("broken.py:Small", {}, r"broken.py cannot be run .SyntaxError"),
        ("lacks.py:Small", {}, "cannot be run .ModuleNotFoundError.*PYTHONPATH"),
        ("absent.py:Small", {}, "absent.py: no such file"),
        ("small:Small", {}, "module small is not on PYTHONPATH. Write small.py:Small"),
        ("no.such:Small", {}, "module no.such is not on PYTHONPATH"),
        ("torch._C:Small", {}, "is not a Python source file"),
    ],
)
def test_what_cannot_be_evaluated(name, options, said, small, manifests, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("class Small(:")
    (tmp_path / "lacks.py").write_text("import no_such_package_of_anybody")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpeechFTError, match=said):
        evaluate(name, "ks", manifests, tmp_path / "a.json", QUICK["ks"], encoder_options=options, device="cpu")
    assert not (tmp_path / "a.json").exists()
    last = list(check_encoder(name, options, device="cpu"))[-1]
    assert last.problem
    assert re.search(said, last.text)


def test_what_only_encoder_directories_can_do(small, model_dir, manifests, tmp_path):
    name, made, out = f"{small}:Small", load_module(f"{small}:Small").model, tmp_path / "out"
    for model in (name, made):
        for act in (
            lambda model=model: merge(model_dir, model, out),
            lambda model=model: merge(model, [model_dir], out),
            lambda model=model: load_encoder(model),
            lambda model=model: store_encoder(model, out),
            lambda model=model: export_checkpoint(model, out, format="s3prl"),
            lambda model=model: import_checkpoint(model, out),
            lambda model=model: inspect_checkpoint(model),
        ):
            with pytest.raises(CheckpointError, match="is a module of your own, which can only be evaluated"):
                act()
    with pytest.raises(CheckpointError, match="can only be evaluated"):
        analyse(model_dir, name, manifests, out)
    with pytest.raises(ConfigError, match="are for the name of a class"):
        evaluate(model_dir, "ks", manifests, out, QUICK["ks"], encoder_options={"a": 1})
    with pytest.raises(ConfigError, match="Leave them out for an object"):
        evaluate(made, "ks", manifests, out, QUICK["ks"], encoder_options={"a": 1})
    assert not out.exists()


@pytest.mark.parametrize(("task", "rate", "refused"), [("pc", 640, True), ("sd", 160, True), ("sd", 640, False), ("pc", 320, False)])
def test_tasks_with_labels_at_a_fixed_rate(task, rate, refused, small, corpus_of, tmp_path):
    # Their strides are those of the convolution.
    small.write_text(SMALL.replace("400, 320", f"400, {rate}").replace("// 320", f"// {rate}"))
    arguments = (f"{small}:Small", task, corpus_of(task), tmp_path / "a.json", {**QUICK[task], "steps": 1, "eval_every": 1})
    if refused:
        with pytest.raises(TaskError, match=f"needs one frame per 320 samples.* one per {rate}"):
            evaluate(*arguments, encoder_options={"rate": rate}, device="cpu")
    else:
        assert evaluate(*arguments, encoder_options={"rate": rate}, device="cpu")["metrics"]


def test_options_on_the_command_line():
    options = {"layers": 3, "mask": False, "text": "3", "path": "a b.pt", "deep": {"x": [1.5]}, "nothing": None}
    assert parse_options(option_words(options)[1::2]) == options
    assert parse_options(["a=b=c", "n=NaN", "e="]) == {"a": "b=c", "n": "NaN", "e": ""}
    for word in ("layers", "=3", "a-b=3"):
        with pytest.raises(ConfigError, match="write KEY=VALUE"):
            parse_options([word])
    with pytest.raises(ConfigError, match="given twice"):
        parse_options(["a=1", "a=2"])


def test_commands(small, manifests, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def speechft(*words, status=0):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == status, done.output
        return done.stdout

    shown = speechft("check-encoder", "small.py:Small", "--encoder-option", "how=lengths")
    assert "rate: one frame per 320 samples, 50 per second" in shown
    assert "hidden states: 2 of width 8" in shown
    assert "shortest: waveforms need at least 400 samples" in shown
    assert "batch: features do not depend on the batch" in shown
    found = json.loads(speechft("check-encoder", "small.py:Small", "--encoder-option", "how=uneven", "--json", status=1))
    assert found["usable"] is False
    (tmp_path / "r.json").write_text(json.dumps({**QUICK["ks"], "task": "ks"}))
    arguments = ("evaluate", "small.py:Small", "ks", manifests, "--encoder-option", "how=lengths", "--recipe", "r.json")
    cell = json.loads(speechft(*arguments, "--out", "a.json", "--json"))
    assert cell["module"]["options"] == {"how": "lengths"}
    assert plan_evaluation("small.py:Small", "ks", manifests, {**QUICK["ks"]}).encoder_passes == 30
