"""The jobs of a plan are those that Snakemake finds."""

import re
import subprocess
import sys
from collections import Counter

import pytest
import yaml
from conftest import ROOT

from speechft.cost.jobs import jobs_behind
from speechft.errors import ConfigError
from speechft.experiment.schema import load_experiment
from speechft.experiment.workflow import Workflow

EXPERIMENTS = [
    "config/paper.yaml",
    "config/mini.yaml",
    "config/mini_encoders.yaml",
    "config/demo.yaml",
    "config/recorded.yaml",
    "tests/experiment.yaml",
]
EVERYTHING = {
    "name": "x",
    "corpora": {
        "a": {"kind": "csv", "path": "a.csv"},
        "b": {"kind": "csv", "path": "b.csv", "unlabelled": True},
        "both": {"kind": "union", "of": ["a", "b"]},
    },
    "encoders": {
        "first": {"kind": "pretrain", "corpora": ["both"]},
        "second": {"kind": "pretrain", "corpora": ["b"], "recipe": {"targets": {"encoder": "first", "layer": 1}}},
        "hubert_base": {"kind": "public", "name": "hubert_base"},
        "fbank": {"kind": "fbank"},
    },
    "finetunings": {
        "one": {"corpus": "a", "recipe": {"like": "ks"}},
        "two": {"corpus": "a",
                "recipe": {"like": "sid", "jointly": {"pr": {"task": "pr"}}}, "jointly": {"pr": "b"}, "start": "one/speech_ft"},
        "three": {"corpus": "b", "pretraining": {"targets": {"encoder": "first", "layer": 1}}},
    },
    "combinations": {"one+one": {"of": ["one", "plain"]}},
    "methods": {
        "stable_ft": {"kind": "finetune", "label": "S"},
        "speech_ft": {"kind": "merge", "label": "F"},
        "early20": {"kind": "early", "label": "E"},
        "of_early": {"kind": "merge", "label": "M", "of": "early20"},
        "ties": {"kind": "merge", "label": "T", "recipe": {"method": "ties", "parameters": {"density": 0.2}}},
    },
    "tasks": {"ks": {"corpus": "a"}, "sid": {"corpus": "both"}},
    "tables": {
        "t": {"title": "t", "encoders": ["fbank", "second", "hubert_base"], "finetunings": ["one", "two"], "tasks": ["ks", "sid"],
              "methods": ["pretrained", "early20", "speech_ft", "speech_ft@0.50", "of_early"], "differences": ["pretrained", "early20"]},
        "u": {"title": "u", "encoders": ["hubert_base"], "finetunings": ["three"], "tasks": ["ks"], "methods": ["stable_ft", "speech_ft"]},
        "v": {"title": "v", "encoders": ["hubert_base"], "finetunings": ["one+one"], "tasks": ["ks"], "methods": ["ties"]},
    },
    "curves": {"c": {"encoder": "hubert_base", "finetuning": "one", "tasks": ["ks"], "alphas": [0, 0.25, 0.5, 1]}},
}  # fmt: skip
EVERYTHING["finetunings"]["plain"] = {"corpus": "b", "recipe": {"like": "ks"}}


@pytest.fixture
def planned(tmp_path):
    """Rule -> jobs that Snakemake would run in a folder where nothing has been made, and what `jobs_behind` finds."""

    def compare(experiment, *targets):
        values = yaml.safe_load((ROOT / experiment).read_text()) if isinstance(experiment, str) else experiment
        (tmp_path / "x.yaml").write_text(yaml.safe_dump(values))
        flow = Workflow(load_experiment(tmp_path / "x.yaml"))
        needed = [path for name in flow.listed_corpora for path in flow.corpus_tables(name)] + ["config/published.csv"]
        needed += [*map(flow.checkpoint, flow.imported), *flow.lexicons()]
        needed += [path for name in flow.imported for path in flow.import_settings(name)]
        for path in (tmp_path / path for path in needed if path not in flow.public_files):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
        command += ["--cores", "2", "--dry-run", "--configfile", str(tmp_path / "x.yaml"), "--", *targets]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        statistics = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\n\n", done.stdout + done.stderr, re.DOTALL)
        snakemake = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", statistics[1], re.M)}
        snakemake.pop("total")
        jobs = jobs_behind(flow, targets)
        return snakemake, dict(Counter(job.rule for job in jobs.found)), jobs

    return compare


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_of_an_experiment(planned, experiment):
    snakemake, ours, jobs = planned(experiment)
    assert (ours, jobs.unknown) == (snakemake, [])


def test_of_an_experiment_with_every_kind_of_model(planned):
    snakemake, ours, _ = planned(EVERYTHING)
    assert ours == snakemake
    kinds = {"pretrain", "fetch", "import_checkpoint", "fbank", "finetune", "continue_pretraining", "early", "merge", "unite", "curve"}
    assert kinds <= set(ours)


@pytest.mark.parametrize(
    "target",
    [
        "results/tables/t.md",
        "results/figures/u.png",
        "results/cells/hubert_base/two/speech_ft@0.50/sid.json",
        "results/models/second/one/of_early/model.safetensors",
        "results/corpora/both",
        "results/tables/c.csv",
    ],
)
def test_of_one_file(planned, target):
    snakemake, ours, _ = planned(EVERYTHING, target)
    assert ours == snakemake


@pytest.fixture
def flow():
    return Workflow(load_experiment(ROOT / "config/demo.yaml"))


def test_names_stand_for_files(flow):
    cell = "hubert_mini/asr_sentences/speech_ft/pr"
    assert jobs_behind(flow, [cell]).found == jobs_behind(flow, [f"results/demo/cells/{cell}.json"]).found
    assert jobs_behind(flow, ["demo"]).found == jobs_behind(flow, ["results/demo/tables/demo.md"]).found
    both = jobs_behind(flow, [cell, cell.replace("/pr", "/sid")]).found
    assert Counter(job.rule for job in both)["finetune"] == 1
    assert jobs_behind(flow, ["all"]).found == jobs_behind(flow).found


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("dmeo", "'dmeo' is no table, curve, cell or file of the experiment 'demo'; did you mean 'demo'?"),
        ("results/demo/tables/alhpa.md", "did you mean 'alpha'?"),
        ("hubert_mimi/none/pretrained/pr", "there is no encoder 'hubert_mimi'; did you mean 'hubert_mini'?"),
        ("hubert_mini/asr/speech_ft/pr", "there is no fine-tuning 'asr'. There are asr_sentences."),
        ("hubert_mini/asr_sentences/speech_tf/pr", "there is no method 'speech_tf'; did you mean 'speech_ft'?"),
        ("hubert_mini/asr_sentences/speech_ft@2.0/pr", "there is no method"),
        ("hubert_mini/asr_sentences/speech_ft/prr", "there is no task 'prr'; did you mean 'pr'?"),
        ("hubert_mini/none/speech_ft/pr", "the pre-trained encoder is hubert_mini/none/pretrained"),
        ("fbank/asr_sentences/speech_ft/pr", "filterbanks have no weights"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest_spelling(flow, target, message):
    with pytest.raises(ConfigError) as error:
        jobs_behind(flow, [target])
    assert message in str(error.value)
