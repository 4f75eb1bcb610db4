"""Keys that are there twice, in experiments and in recipes."""

import subprocess
import sys

import pytest
from conftest import ROOT

from speechft.errors import ConfigError, SpeechFTError
from speechft.experiment.schema import load_experiment
from speechft.files.structured import RepeatedKeyError, check_experiments, load_json, load_yaml, read_json


@pytest.mark.parametrize(
    ("load", "text", "found"),
    [
        (load_json, '{"a": 1,\n "b": {"x": [1, {"q": 1}],\n "x": 2}}', "line 3: key 'x'"),
        (load_json, '[{"a{\\"": "}", "b": "a:",\n\n"a{\\"" : 2}]', "line 3: key 'a{\"'"),
        (load_json, '{"\\u0061": 1, "a": 2}', "line 1: key 'a'"),
        (load_yaml, "a: 1\nb:\n  c: {x: 1,\n    x: 1}\n", "line 4: key 'x'"),
        (load_yaml, 'a: 1\n"a": 2\n', "line 2: key 'a'"),
        (load_yaml, "l:\n- {y: 1}\n- y: 1\n  y: 2\n", "line 4: key 'y'"),
    ],
)
def test_the_line_and_the_key_are_named(load, text, found):
    with pytest.raises(RepeatedKeyError) as caught:
        load(text)
    assert str(caught.value).startswith(found)


def test_everything_else_is_read_as_before():
    assert load_json('{"a": {"x": 1}, "b": [{"x": 1}, {"x": 2}], "x": "\\"x\\": 1"}')["b"] == [{"x": 1}, {"x": 2}]
    merged = load_yaml("base: &b {x: 0, y: 0}\na: {n: &m {<<: *b, x: 1}}\nc: {<<: *m, x: 2}\n")
    assert (merged["a"]["n"], merged["c"]) == ({"x": 1, "y": 0}, {"x": 2, "y": 0})


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "x.yaml"
    text = (ROOT / "tests/experiment.yaml").read_text()
    path.write_text(text.replace("    corpus: sentences\n", "    corpus: sentences\n    corpus: keywords\n", 1))
    line = text[: text.index("    corpus: sentences\n")].count("\n") + 2
    return path, f"{path}: line {line}: key 'corpus' appears twice; keep one."


def test_an_experiment(experiment):
    path, message = experiment
    for read in (load_experiment, lambda path: check_experiments([path])):
        with pytest.raises(ConfigError) as caught:
            read(path)
        assert str(caught.value) == message


def test_the_workflow(experiment, tmp_path):
    path, message = experiment
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1", "--configfile", str(path), "-n"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr


def test_json(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"name": "a",\n\t"name": "b"}')
    for read, error in ((lambda path: check_experiments([path]), ConfigError), (read_json, SpeechFTError)):
        with pytest.raises(error, match="x.json: line 2: key 'name' appears twice"):
            read(path)
    path.write_text('{"name":\n\t"a"}')
    check_experiments([path])
