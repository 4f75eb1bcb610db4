import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from speechft.cli import app
from speechft.errors import SpeechFTError

VERBS = {name: verb for name, verb in get_command(app).commands.items() if not verb.hidden}
RENAMED = {"curve": "alpha", "curves": "training", "similarity": "similarity", "differences": "differences", "figure": "figure"}


def speechft(*arguments, cwd=None):
    return subprocess.run([sys.executable, "-m", "speechft.cli", *map(str, arguments)], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_shows_an_example(verb):
    assert f"Example: `speechft {verb}" in VERBS[verb].help


def test_help_of_every_report_shows_an_example_and_verbs_are_in_five_groups():
    kinds = VERBS["report"].commands
    assert set(kinds) == {"page", "table", "differences", "figure", "alpha", "training", "similarity", "connection"}
    assert all(f"Example: `speechft report {name}" in kind.help for name, kind in kinds.items())
    assert len({verb.rich_help_panel for verb in VERBS.values()}) == 5


@pytest.mark.parametrize(("old", "kind"), RENAMED.items())
def test_old_names_take_the_same_arguments_and_name_the_new_one(old, kind):
    verb, new = get_command(app).commands[old], VERBS["report"].commands[kind]
    assert verb.hidden
    assert [(option.name, option.opts, option.required) for option in verb.params] == [
        (option.name, option.opts, option.required) for option in new.params
    ]
    done = CliRunner().invoke(app, [old, "none.csv", "none", "--out", "x"])
    assert done.stderr == f"`speechft {old}` is now `speechft report {kind}`; the old name will be removed in the next release.\n"
    assert isinstance(done.exception, SpeechFTError)


def test_wrong_usage_exits_with_2(tmp_path):
    assert speechft("nonsense").returncode == 2
    assert speechft("evaluate", "only-a-model").returncode == 2
    done = speechft("finetune", "model", "manifests", "--out", "x", cwd=tmp_path)
    assert (done.returncode, "needs --recipe" in done.stderr) == (2, True)


def test_help_starts_without_the_numerical_libraries():
    heavy = {"torch", "transformers", "fairseq", "pandas"}
    code = f"import sys, speechft.cli, speechft.experiment.workflow; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
