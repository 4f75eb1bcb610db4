"""What the command line says to mistyped names and wrong files: one line, with the nearest spelling, and no traceback."""

import pytest
from conftest import ROOT

from speechft import cli
from speechft.errors import SpeechFTError, nearest
from speechft.files.atomic import write_text

# Run in the repository, with x in an empty folder.
MISTAKES = {
    "evaluate m kss manifests --out x": "recipe of kss: Unknown task 'kss'. Did you mean 'ks'?",
    "finetune m manifests --like sdi --out x": "Unknown preset 'sdi'",
    "merge mini/encoders/hubert_mini m --method liner --out x": "Unknown merge method 'liner'. Did you mean 'linear'?",
    "fetch hubert_bass": "Unknown public file 'hubert_bass'. Did you mean 'hubert_base'?",
    "export mini/encoders/hubert_mini --format fairsq --out x": "Unknown export format 'fairsq'. Did you mean 'fairseq'?",
    "import nofile --out x": "nofile: no such file, needed to import",
    "inspect pyproject.toml": "pyproject.toml: not a torch checkpoint, or damaged",
    "tables none.json cells --out x": "none.json: no such file",
    "prepare --csv none.csv --out x": "none.csv: no such file",
    "prepare --check --experiment config/demoo.yaml": "Did you mean config/demo.yaml?",
    "plan --experiment demo": "demo: no such file, needed as the experiment",
    "plan --experiment config": "config: is a folder. Name an experiment file",
    "plan demo --experiment pyproject.toml": "pyproject.toml: is not valid YAML",
    "plan --throughput none.json": "none.json: no such file, needed for the speed of this machine",
    "schema --out pyproject.toml/s.json": "pyproject.toml/s.json: its folder cannot be created (pyproject.toml is a file). Name another",
}
# Run in a folder with these files.
FILES = [
    ({"r.json": '{"task": "ks", "updates": 10, "warm": 1}'}, "finetune model manifests --recipe r.json --out x", "did you mean 'warmup'?"),
    (
        {"r.json": '{"like": ["x"], "updates": 10}'},
        "finetune model manifests --recipe r.json --out x",
        "like: Input should be a valid string",
    ),
    (
        {"r.json": '{"like": ["x"]}'},
        "evaluate model ks manifests --recipe r.json --out x",
        "r.json: recipe of ks: like: ['x'] is not a name",
    ),
    ({"r.json": '{"kind": {}}'}, "evaluate model ks manifests --recipe r.json --out x", "r.json: recipe of ks: kind: {} is not a name"),
    ({"r.json": '{"kind": ["csv"]}'}, "prepare --recipe r.json --out x", "r.json: kind: ['csv'] is not a name"),
    ({"e.yaml": "finetunings: {a: {recipe: {task: []}}}\ntasks: {}"}, "plan --experiment e.yaml", "finetunings.a.recipe.task"),
    (
        {"r.json": "[" * 100_000 + "]" * 100_000},
        "finetune m man --recipe r.json --out x",
        "r.json: is not valid JSON (nested too deeply). ",
    ),
    ({"a.pt": "x"}, f"import a.pt --sha256 {'0' * 64} --out x", "expected 000"),
    ({"a.pt": "x", "a.pt.sha256": f"{'1' * 64}  a.pt\n"}, "import a.pt --out x", "expected 111"),
    ({"enc/config.json": "{}"}, f"import enc --sha256 {'0' * 64} --out x", "enc: is not a file, so --sha256 has nothing to compare"),
    ({"a.pt": "x", "list.json": "[]"}, "import a.pt --config list.json --out x", "list.json: model settings must be a mapping"),
    ({"a.pt": "x"}, "import a.pt --format tape --out x", "Unknown format 'tape'"),
]


@pytest.mark.parametrize(("files", "command", "said"), [*(({}, command, said) for command, said in MISTAKES.items()), *FILES])
def test_a_mistake_is_told_in_a_line(files, command, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path if files else ROOT)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cli._run([str(tmp_path / word) if word == "x" else word for word in command.split()]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert said in shown
    assert "Traceback" not in shown
    # Nobody is told to let a file run code.
    assert "weights_only" not in shown
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(files)


@pytest.mark.parametrize("command", ["fetch --url file:///a --out x", "import a.pt --out x"])
@pytest.mark.parametrize("sha256", ["", "0" * 63, "zz"])
def test_a_hash_that_is_none_is_wrong_usage(command, sha256, capsys):
    assert cli._run([*command.split(), "--sha256", sha256]) == 2
    assert "is no SHA-256" in " ".join(capsys.readouterr().err.replace("│", "").split())  # lines are broken in a box


def test_nothing_is_suggested_where_nothing_is_near():
    assert nearest("sid", ["sd", "ks"]) == " Did you mean 'sd'?"
    assert nearest("quux", ["sd", "ks"]) == ""


def test_an_output_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpeechFTError, match=r"file/a/b: its folder cannot be created \(.*file is a file\)"):
        write_text(tmp_path / "file" / "a" / "b", "")
