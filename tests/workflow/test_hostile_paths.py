"""Values of an experiment and names of folders that shells and patterns read as something else: they stay one word, or are refused."""

import ast
import copy
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from conftest import ROOT
from experiment.edits import full_values, put
from workflow.plans import snakemake

from speechft.errors import ConfigError
from speechft.experiment.schema import parse_experiment
from speechft.experiment.workflow import Workflow

HOSTILE = """res & [x] (y) 'q' "z" $(touch PWNED);touch PWNED;`touch PWNED` *?%d~#!|<> \\ é"""
NUMBERS = {"threads", "resources.gpu", "resources.cache_gb"}
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
    experiment = full_values()
    for name in ("unlabelled", "keywords", "sentences", "speakers"):
        experiment["corpora"][name]["path"] = str(folder / "c.csv")
    for key, value in {
        "results": HOSTILE,
        "encoders.hubert_demo.corpora": ["both"],
        "encoders.mine": {"kind": "checkpoint", "path": str(folder / "a model.pt"), "config": str(folder / "settings.json")},
        "tables.demo.encoders": ["hubert_demo", "mine"],
        "tables.demo.differences": ["pretrained"],
        "tables.demo.title": "$(touch PWNED) {x} 'y'\n",
        "curves.alpha.title": "`touch PWNED`",
    }.items():
        put(experiment, key, value)
    return experiment


def test_results_with_every_character_of_a_shell(values, tmp_path):
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(values))
    text = snakemake(tmp_path, "--dry-run", "--printshellcmds", "--", "all")
    commands = re.findall(r"^Shell command: (?!None\n)(.*?)(?=\n\[|\n\n|\Z)", text, flags=re.M | re.S)
    verbs = ["prepare", "unite", "pretrain", "fbank", "import", "finetune", "merge", "evaluate", "analyse"]
    verbs += [f"report {what}" for what in ("table", "differences", "alpha", "similarity")]
    assert not [verb for verb in verbs if not any(f"speechft {verb} " in command for command in commands)]
    for command in commands:
        words = shlex.split(command)
        assert any(word.startswith(HOSTILE) for word in words), command
        assert not {"touch", "PWNED", "$(touch"} & set(words), command
    snakemake(tmp_path, "--", f"{HOSTILE}/corpora/keywords", f"{HOSTILE}/models/fbank/none/pretrained/config.json")
    assert (tmp_path / HOSTILE / "corpora/keywords/train.jsonl.gz").is_file()
    assert (tmp_path / HOSTILE / "logs/corpora/keywords.log").is_file()
    assert not list(tmp_path.rglob("PWNED"))


def test_commands_that_are_printed_can_be_pasted(values):
    flow = Workflow(parse_experiment(values, "x"), ["-my $(touch PWNED).yaml"])
    command = flow._command + "cells/f/none/pretrained/ks.json"
    words = shlex.split(command)
    assert words[-1] == f"{HOSTILE}/cells/f/none/pretrained/ks.json"
    assert words[words.index("--configfile") + 1] == "./-my $(touch PWNED).yaml"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a\nb", r"contains the character '\\n'"),
        ("a\x1b[31mb", r"contains the character '\\x1b'"),
        ("a\x00b", r"contains the character '\\x00'"),
        ("a\u2028b", "contains the character"),
        ("a{b}", "wildcards of Snakemake"),
        ("-rf", "begins with '-'"),
        ("~/x", "begins with '~'"),
    ],
)
def test_paths_that_can_not_work_are_refused_by_name(values, path, reason):
    for key, value in {
        "results": path,
        "corpora.keywords.path": path,
        "corpora.keywords.trials": path,
        "corpora.r": {"kind": "librispeech", "path": "L", "lexicon": ["cmudict", path]},
        "encoders.mine.path": path,
        "encoders.mine.config": path,
        "tasks.pr.recipe.task_options": {"lexicon": [path]},
    }.items():
        changed = copy.deepcopy(values)
        put(changed, key, value)
        with pytest.raises(ConfigError, match=rf"{re.escape(key)}[a-z_.]*: .*{reason}") as caught:
            parse_experiment(changed, "x.yaml")
        assert "\x1b" not in str(caught.value)


NAME = "my [x] & y's $HOME;é"


def test_the_workflow_runs_from_any_folder(tmp_path):
    product = tmp_path / NAME / "product"
    product.mkdir(parents=True)
    shutil.copy(ROOT / "Snakefile", product)
    for name in ("rules", "config", "envs", "slurm"):
        shutil.copytree(ROOT / name, product / name)
    # An environment of its own would take minutes; its folder is what matters.
    environment = tmp_path / "{z}" / NAME / "venv/bin"
    environment.mkdir(parents=True)
    for program in Path(sys.executable).parent.iterdir():
        (environment / program.name).symlink_to(program)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", environment.parent)
    (environment.parent / "lib").symlink_to(Path(sys.prefix) / "lib")

    data = product / "data [1] & é's"
    data.mkdir()
    soundfile.write(data / "a b.wav", np.full(1600, 0.1), 16_000)
    (data / "c d.csv").write_text("path,split\na b.wav,train\n")
    values = {
        "title": "t",
        "corpora": {"c": {"kind": "csv", "path": str((data / "c d.csv").relative_to(product)), "unlabelled": True}},
        "encoders": {"f": {"kind": "fbank"}},
        "tasks": {"ks": {"corpus": "c", "recipe": {"protocol": "quick"}}},
        "tables": {"t": {"title": "T", "encoders": ["f"], "rows": [{"model": "none/pretrained"}], "tasks": ["ks"]}},
    }
    experiment = product / "my experiment & [1].yaml"
    experiment.write_text(yaml.safe_dump({"name": "tiny", "results": "results/tiny", **values}))
    command = [str(environment / "python"), "-m", "snakemake", "--cores", "1", "--configfile", experiment.name]
    done = subprocess.run(
        [*command, "--", "results/tiny/corpora/c"], cwd=product, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    logs = "".join(log.read_text() for log in product.glob("results/tiny/logs/**/*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    assert (product / "results/tiny/corpora/c/train.jsonl.gz").is_file()


@pytest.mark.parametrize("name", ['a"b', "a$b", "a`b", "a{b", "a\\b"])
def test_make_refuses_folders_that_python_tools_cannot_use(tmp_path, name):
    folder = tmp_path / name
    (folder / "envs").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    for file in ("envs/requirements.lock", "pyproject.toml"):
        (folder / file).touch()
    done = subprocess.run(["make", "PYTHON=false", "environment"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{folder}: Python tools cannot install" in done.stdout
    assert not (folder / ".venv").exists()
