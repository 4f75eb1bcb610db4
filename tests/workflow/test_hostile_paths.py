"""Values of an experiment in the shell commands of the rules: whatever they hold, they stay one word, or are refused."""

import ast
import re
import shlex
import string
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import yaml
from conftest import ROOT

from speechft.errors import ConfigError
from speechft.experiment.schema import parse_experiment
from speechft.experiment.workflow import Workflow

HOSTILE = """res & [x] (y) 'q' "z" $(touch PWNED);touch PWNED;`touch PWNED` *?%d~#!|<> \\ é"""
NUMBERS = {"threads", "resources.gpu"}
"""What Snakemake itself counts."""


def shell_commands() -> dict[str, str]:
    """Rule -> its command, with placeholders, for all rules."""
    found = {}
    for file in sorted((ROOT / "rules").glob("*.smk")):
        for rule in re.split(r"^rule ", file.read_text(), flags=re.M)[1:]:
            name, text = rule.split(":", 1)
            if shell := re.search(r"^    shell:\n((?:        .*\n?)+)", text, flags=re.M):
                found[name] = ast.literal_eval(f"({shell[1].strip()})")
            else:
                assert not re.search(r"^    (run|script|notebook|wrapper|cwl):", text, flags=re.M), name
    return found


COMMANDS = shell_commands()


def test_the_commands_of_all_rules_are_found():
    rules = [name for file in (ROOT / "rules").glob("*.smk") for name in re.findall(r"^rule (\w+):", file.read_text(), flags=re.M)]
    assert set(rules) - set(COMMANDS) == {"mini_encoders"}  # it only collects
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("rule", COMMANDS)
def test_every_value_in_a_command_is_quoted(rule):
    inside = ""
    for text, field, spec, _ in string.Formatter().parse(COMMANDS[rule]):
        inside += text
        if field is not None:
            assert field in NUMBERS or spec == "q", f"{rule}: {{{field}}} is not quoted"
            assert inside.count("'") % 2 == inside.count('"') % 2 == 0, f"{rule}: {{{field}}} stands in quotes, which :q would close"


@pytest.fixture
def values(tmp_path):
    """An experiment on hostile paths, with all kinds of jobs; its corpus can be prepared."""
    folder = tmp_path / "speech [1] & 'more' $(touch PWNED)"
    folder.mkdir()
    rows = ["path,label,split"]
    for number in range(6):
        soundfile.write(folder / f"{number}.wav", np.sin(np.arange(4000) / (5 + number)).astype("float32"), 16000)
        rows.append(f"{number}.wav,{'ab'[number % 2]},{('train', 'dev', 'test')[number // 2]}")
    (folder / "c.csv").write_text("\n".join(rows) + "\n")
    (folder / "settings.json").write_text("{}")
    (folder / "a model.pt").write_text("")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/published.csv").write_bytes((ROOT / "config/published.csv").read_bytes())
    finetuning = {"corpus": "k", "recipe": {"task": "sid", "updates": 5}}
    corpus = {"kind": "csv", "path": str(folder / "c.csv")}
    return {
        "name": "hostile",
        "results": HOSTILE,
        "corpora": {"k": corpus, "l": corpus, "both": {"kind": "union", "of": ["k", "l"]}},
        "encoders": {
            "f": {"kind": "fbank"},
            "h": {"kind": "checkpoint", "path": str(folder / "a model.pt"), "config": str(folder / "settings.json")},
            "p": {"kind": "pretrain", "corpora": ["both"]},
        },
        "finetunings": {
            "one": finetuning,
            "two": {**finetuning, "recipe": {**finetuning["recipe"], "jointly": {"ks": {"task": "ks"}}}, "jointly": {"ks": "l"}},
        },
        "tasks": {"ks": {"corpus": "k", "recipe": {"protocol": "quick", "steps": 4, "eval_every": 2}}},
        "tables": {
            "main": {
                "title": "$(touch PWNED) {x} 'y'\n", "encoders": ["f", "h", "p"], "finetunings": ["one", "two"], "tasks": ["ks"],
                "differences": ["pretrained"],
            }
        },
        "curves": {"alpha": {"title": "`touch PWNED`", "encoder": "h", "finetuning": "one", "tasks": ["ks"]}},
        "analyses": {"moved": {"title": "t", "encoder": "h", "corpus": "k", "rows": [{"model": "one/stable_ft"}]}},
    }  # fmt: skip


def snakemake(folder, *arguments):
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1", "--configfile", "x.yaml"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def test_results_with_every_character_of_a_shell(values, tmp_path):
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(values))
    status, text = snakemake(tmp_path, "--dry-run", "--printshellcmds", "--", "all")
    assert status == 0, text
    commands = re.findall(r"^Shell command: (?!None\n)(.*?)(?=\n\[|\n\n|\Z)", text, flags=re.M | re.S)
    verbs = {
        "prepare",
        "unite",
        "pretrain",
        "fbank",
        "import",
        "finetune",
        "merge",
        "evaluate",
        "report table",
        "report differences",
        "report alpha",
        "report similarity",
        "analyse",
    }
    assert all(any(f"speechft {verb} " in command for command in commands) for verb in verbs), verbs
    for command in commands:
        words = shlex.split(command)
        assert any(word.startswith(HOSTILE) for word in words), command
        assert not {"touch", "PWNED", "$(touch"} & set(words), command
    status, text = snakemake(tmp_path, "--", f"{HOSTILE}/corpora/k", f"{HOSTILE}/models/f/none/pretrained/config.json")
    assert status == 0, text
    assert (tmp_path / HOSTILE / "corpora/k/train.jsonl.gz").is_file()
    assert (tmp_path / HOSTILE / "logs/corpora/k.log").is_file()
    assert not list(tmp_path.rglob("PWNED"))


def test_commands_that_are_printed_can_be_pasted(values):
    flow = Workflow(parse_experiment(values, "x"), ["-my $(touch PWNED).yaml"])
    command = flow._cell_command + "f/none/pretrained/ks.json"
    words = shlex.split(command)
    assert words[-1] == f"{HOSTILE}/cells/f/none/pretrained/ks.json"
    assert words[words.index("--configfile") + 1] == "./-my $(touch PWNED).yaml"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a\nb", r"holds the character '\\n'"),
        ("a\x1b[31mb", r"holds the character '\\x1b'"),
        ("a\x00b", r"holds the character '\\x00'"),
        ("a\u2028b", "holds the character"),
        ("a{b}", "wildcards of Snakemake"),
        ("-rf", "begins with the character '-'"),
        ("~/x", "begins with the character '~'"),
    ],
)
def test_paths_that_can_not_work_are_refused_by_name(values, path, reason):
    places = {
        "results": values | {"results": path},
        "corpora.k.path": values | {"corpora": {**values["corpora"], "k": {"kind": "csv", "path": path}}},
        "corpora.k.trials": values | {"corpora": {**values["corpora"], "k": {"kind": "csv", "path": "c.csv", "trials": path}}},
        "corpora.r.lexicon": values
        | {"corpora": {**values["corpora"], "r": {"kind": "librispeech", "path": "L", "lexicon": ["cmudict", path]}}},
        "encoders.h.path": values | {"encoders": {**values["encoders"], "h": {"kind": "checkpoint", "path": path}}},
        "encoders.h.config": values | {"encoders": {**values["encoders"], "h": {"kind": "checkpoint", "path": "a.pt", "config": path}}},
        "tasks.pr.recipe.task_options.lexicon": values
        | {"tasks": {**values["tasks"], "pr": {"corpus": "k", "recipe": {"task_options": {"lexicon": [path]}}}}},
    }
    for key, changed in places.items():
        with pytest.raises(ConfigError, match=rf"{re.escape(key)}: .*{reason}") as caught:
            parse_experiment(changed, "x.yaml")
        assert "\x1b" not in str(caught.value)
