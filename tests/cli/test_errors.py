"""What the command line says to mistyped names and impossible paths: one line, with the nearest spelling, and no traceback."""

import subprocess
import sys

import pytest
from conftest import ROOT

from speechft.errors import SpeechFTError, nearest
from speechft.files.atomic import write_text

MISTAKES = {
    "evaluate m kss manifests --out x.json": "There is no recipe for task 'kss'. Did you mean 'ks'?",
    "finetune m manifests --like sdi --out x": "There is no recipe 'sdi'",
    "merge mini/encoders/hubert_mini m --method liner --out x": "There is no merge method 'liner'. Did you mean 'linear'?",
    "fetch hubert_bass": "There is no public file 'hubert_bass'. Did you mean 'hubert_base'?",
    "export mini/encoders/hubert_mini --format fairsq --out x": "There is no export format 'fairsq'. Did you mean 'fairseq'?",
    "import nofile --out x": "nofile: no such file, needed to import",
    "inspect pyproject.toml": "pyproject.toml: not a torch checkpoint, or damaged",
    "tables none.json cells --out x": "none.json: no such file",
    "prepare --check --experiment config/demoo.yaml": "Did you mean config/demo.yaml?",
    "plan --experiment demo": "demo: no such file, needed as the experiment",
    "plan --experiment config": "config: is a folder. Name an experiment file",
    "plan demo --experiment pyproject.toml": "pyproject.toml: is not valid YAML",
    "schema --out pyproject.toml/s.json": "pyproject.toml/s.json: its folder cannot be made (pyproject.toml is a file). Name another",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_told_in_a_line(command, tmp_path):
    arguments = [str(tmp_path / word) if word == "x" else word for word in command.split()]
    done = subprocess.run([sys.executable, "-m", "speechft.cli", *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert MISTAKES[command] in done.stderr
    assert "Traceback" not in done.stderr
    # Nobody is told to let a file run code.
    assert "weights_only" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_suggested_where_nothing_is_near():
    assert nearest("sid", ["sd", "ks"]) == " Did you mean 'sd'?"
    assert nearest("quux", ["sd", "ks"]) == ""


def test_an_output_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpeechFTError, match=r"file/a/b: its folder cannot be made \(.*file is a file\)"):
        write_text(tmp_path / "file" / "a" / "b", "")
