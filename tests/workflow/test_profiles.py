"""The profiles and the container file fit the workflow: every rule, option and file that they name exists."""

import re
import shlex
import subprocess
import sys

import pytest
import tomllib
import yaml
from conftest import ROOT
from packaging.specifiers import SpecifierSet

RULES = {name for path in (ROOT / "rules").glob("*.smk") for name in re.findall(r"^(?:use rule \w+ as|rule) (\w+)", path.read_text(), re.M)}


@pytest.mark.parametrize("name", ["slurm", "profiles/gpus"])
def test_options_exist(name):
    """Snakemake itself parses the profile, as far as its help."""
    options = yaml.safe_load((ROOT / name / "config.yaml").read_text())
    known = subprocess.run([sys.executable, "-m", "snakemake", "--help"], capture_output=True, text=True, check=True).stdout
    for option in options:
        assert re.search(rf"--{option}\b", known), option


def test_the_slurm_profile_names_rules_of_the_workflow():
    profile = yaml.safe_load((ROOT / "slurm/config.yaml").read_text())
    training = {"pretrain", "continue_pretraining", "finetune"}
    assert set(profile["set-resources"]) == training | {"evaluate", "evaluate_module", "analyse", "connect"} <= RULES
    with_gpu = {path.stem: path.read_text() for path in (ROOT / "rules").glob("*.smk")}
    users = {rule for text in with_gpu.values() for rule in re.findall(r"^rule (\w+):(?:(?!^rule ).)*?^        gpu=", text, re.M | re.S)}
    users |= {
        rule for text in with_gpu.values() for like, rule in re.findall(r"^use rule (\w+) as (\w+) with:", text, re.M) if like in users
    }
    assert users == set(profile["set-resources"]), "every rule that asks for GPUs goes to the partition that has them"


def test_the_optional_part_about_groups_is_valid():
    text = (ROOT / "slurm/config.yaml").read_text()
    block = text[text.index("# groups:") : text.index("# ----", text.index("# groups:"))]
    groups = yaml.safe_load(re.sub(r"^# ", "", block, flags=re.M))
    (rule,), (name,) = groups["groups"], groups["groups"].values()
    assert rule in RULES
    assert groups["group-components"] == {name: 10}
    assert (groups["set-resource-scopes"], groups["resources"]) == ({"gpu": "local"}, {"gpu": 1})


def instructions():
    """Instruction and arguments of each line of the container file."""
    lines = (ROOT / "envs/Dockerfile").read_text().replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip() and not line.startswith("#")]


def test_the_container_holds_what_exists_and_is_installed_like_the_environment():
    sources = [source for name, words in instructions() if name == "COPY" for source in shlex.split(words)[:-1]]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert {"speechft", "rules", "Snakefile", "config", "slurm", "profiles"} <= set(sources)
    shown = subprocess.run(["make", "-n", "-B", "CUDA=1", "environment"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    wanted = [
        line.partition("--disable-pip-version-check ")[2].replace("--editable ", "")
        for line in shown.splitlines()
        if " pip install " in line
    ]
    assert [words.removeprefix("pip install --no-cache-dir ") for _, words in instructions() if words.startswith("pip install")] == wanted


def test_the_container_is_pinned_and_is_not_run_by_root():
    named = dict(instructions())
    (python,) = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-\w+", named["FROM"]).groups()
    assert SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]).contains(python)
    assert instructions()[0][0] == "FROM"
    assert named["USER"] not in ("root", "0")
    assert {name for name, _ in instructions()} <= {"FROM", "WORKDIR", "RUN", "COPY", "USER", "CMD"}
