"""What Snakemake plans: which jobs exist, and what reruns after a change. Nothing is computed here but the recipe files."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from experiment.edits import put
from workflow.plans import change, commands, jobs_of, planned, snakemake

MODELS = "results/demo/models/hubert_demo"
CELL = "results/demo/cells/hubert_demo/pr_sentences/speech_ft/ks.json"
TABLE = "results/demo/tables/demo.md"
WEIGHTS = "model.safetensors"
PUBLIC = {"kind": "public", "name": "hubert_base"}
CHECKPOINT = "checkpoints/hubert_base_ls960.pt"
MINE = 'encoders={"mine": {"kind": "checkpoint", "path": "my models/mine.pt", "family": "hubert"}}'


def test_the_experiment_is_three_models_times_three_tasks(folder):
    jobs = planned(folder)
    made = {"manifests": 4, "pretrain": 1, "finetune": 1, "merge": 1, "evaluate": 9}
    assert jobs == {"recipe": 12, **made, "table": 1, "figure": 1, "page": 1}


@pytest.mark.parametrize(
    ("target", "jobs"),
    [
        ("cells/hubert_demo/none/pretrained/ks.json", {"manifests": 2, "pretrain": 1, "evaluate": 1}),
        ("cells/fbank/none/pretrained/ks.json", {"manifests": 1, "fbank": 1, "evaluate": 1}),
        (
            "cells/hubert_demo/pr_sentences/speech_ft@0.50/ks.json",
            {"manifests": 3, "pretrain": 1, "finetune": 1, "merge": 1, "evaluate": 1},
        ),
        # An early checkpoint needs no run of its own.
        ("models/hubert_demo/pr_sentences/early20/model.safetensors", {"manifests": 2, "pretrain": 1, "finetune": 1, "early": 1}),
        ("models/hubert_demo/then_sid/speech_ft/model.safetensors", {"manifests": 3, "pretrain": 1, "finetune": 2, "merge": 2}),
        ("models/hubert_demo/then_sid_plain/stable_ft/model.safetensors", {"manifests": 3, "pretrain": 1, "finetune": 2}),
        ("models/hubert_demo/joint/stable_ft/model.safetensors", {"manifests": 3, "pretrain": 1, "finetune": 1}),
        ("models/theirs/none/pretrained/model.safetensors", {"fetch": 1, "import_checkpoint": 1}),
        (
            "tables/scored.md",
            {"manifests": 4, "pretrain": 1, "fbank": 1, "finetune": 1, "merge": 1, "evaluate": 12, "table": 1},
        ),
        # Two fine-tunings of one encoder; three merges of both; four rows on two tasks.
        ("tables/combined.md", {"manifests": 3, "pretrain": 1, "finetune": 2, "merge": 3, "evaluate": 8, "table": 1}),
        # Alpha is chosen by two tasks at three alphas; the ends are there already, so that one merge is made for the choice.
        (
            "cells/hubert_demo/pr_sentences/chosen/ks.json",
            {"manifests": 4, "pretrain": 1, "finetune": 1, "merge": 1, "evaluate": 7, "choose": 1, "merge_chosen": 1},
        ),
        # Nine merges; the pre-trained and the fine-tuned encoder are the ends.
        ("figures/alpha.png", {"manifests": 3, "pretrain": 1, "finetune": 1, "merge": 10, "evaluate": 24, "curve": 1}),
        ("figures/line.png", {"manifests": 2, "pretrain": 1, "finetune": 1, "connect": 1, "connection": 1}),
        ("figures/between.png", {"manifests": 3, "pretrain": 1, "finetune": 2, "merge": 1, "connect": 1, "connection": 1}),
        ("figures/features.png", {"manifests": 3, "pretrain": 1, "finetune": 1, "merge": 1, "analyse": 2, "similarity": 1}),
    ],
)
def test_a_target_needs_only_what_it_is_made_from(target, jobs, full_folder):
    found = planned(full_folder, f"results/demo/{target}")
    del found["recipe"]
    assert found == jobs


@pytest.mark.parametrize("model", ["pr_sentences/speech_ft@0.5", "pr+sid/stable_ft"])
def test_models_that_cannot_be(model, full_folder):
    assert "MissingRuleException" in snakemake(full_folder, "--dry-run", "--", f"{MODELS}/{model}/{WEIGHTS}", check=False)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (
            "results/demo/tables/features.md",
            f"speechft analyse {MODELS}/none/pretrained {MODELS}/pr_sentences/speech_ft@0.50 results/demo/corpora/keywords",
        ),
        (
            f"{MODELS}/pr+sid/ties/{WEIGHTS}",
            f"speechft merge {MODELS}/none/pretrained {MODELS}/pr_sentences/stable_ft {MODELS}/sid/stable_ft "
            f"--recipe results/demo/recipes/merge/ties.json --out {MODELS}/pr+sid/ties",
        ),
        (
            f"{MODELS}/pr_sentences/chosen/{WEIGHTS}",
            f"speechft merge {MODELS}/none/pretrained {MODELS}/pr_sentences/stable_ft --recipe results/demo/recipes/merge/chosen.json "
            f"--choice results/demo/choices/hubert_demo/pr_sentences/chosen.json --out {MODELS}/pr_sentences/chosen",
        ),
        (f"{MODELS}/pr+sid/regmean/{WEIGHTS}", "--out results/demo/corpora/keywords"),
    ],
)
def test_commands_name_the_models_that_they_need(target, expected, full_folder):
    assert expected in commands(full_folder, "--", target)


def test_encoders_are_pretrained_in_order(full_folder):
    models = "results/demo/models"
    text = commands(full_folder, "--", f"{models}/longer/unlabelled/speech_ft/{WEIGHTS}")
    jobs = [job for job in jobs_of(text) if job != "recipe"]
    assert jobs == ["continue_pretraining", "manifests", "merge", "pretrain", "pretrain", "pretrain"]
    (continued,) = re.findall(r"speechft (continue .*)", text)
    assert continued.startswith(f"continue {models}/longer/none/pretrained results/demo/corpora/")
    assert f"--targets-from {models}/second/none/pretrained --out {models}/longer/unlabelled/stable_ft" in continued


def test_stored_encoders_are_made_from_the_beginning(folder):
    def store(values):
        second = {"kind": "pretrain", "corpora": ["unlabelled"], "recipe": {"targets": {"encoder": "hubert_demo", "layer": 2}}}
        values["encoders"]["second"] = {**second, "store_as": "hubert_small"}
        values["corpora"]["unlabelled"]["path"] = "mini/recordings/recordings.csv"

    change(folder, store)
    text = commands(folder, "--", "mini_encoders")
    made = "results/demo/models/second/none/pretrained"
    for expected in ("python mini/fetch_recordings.py", f"speechft store {made} --out mini/encoders/hubert_small"):
        assert expected in text
    assert f"speechft report training {made}/training.csv {MODELS}/none/pretrained/training.csv" in text
    assert text.count("speechft pretrain ") == 2


SHOWN = {"recipe": 1, "table": 1, "figure": 1, "page": 1}
MERGED = {"kind": "merge", "label": "Speech-FT", "of": "stable_ft", "recipe": {"alpha": 0.5}}
CURVE = {"encoder": "hubert_demo", "finetuning": "pr_sentences", "alphas": [0, 0.25, 0.5, 1], "tasks": ["pr", "sid"]}


@pytest.mark.parametrize(
    ("path", "value", "jobs"),
    [
        ("tables.demo.title", "Another title", {**SHOWN, "recipe": 2}),
        ("tables.demo.tasks", ["pr", "ks"], {**SHOWN, "recipe": 2}),
        ("tables.demo.differences", ["pretrained", "stable_ft"], {**SHOWN, "recipe": 2, "differences": 1}),
        ("resources", {"evaluate": {"mem_mb": 999}}, {}),
        ("tasks.ks.recipe.steps", 17, {**SHOWN, "evaluate": 3}),
        ("finetunings.pr_sentences.recipe.updates", 17, {**SHOWN, "finetune": 1, "merge": 1, "evaluate": 6}),
        ("methods", {"stable_ft": {"kind": "finetune", "label": "Stable-FT"}, "speech_ft": MERGED}, {**SHOWN, "merge": 1, "evaluate": 3}),
        # The recipes of the merge and of the curve are new, those of the two evaluations are there.
        ("curves", {"alpha": CURVE}, {"recipe": 3, "merge": 1, "evaluate": 2, "curve": 1, "page": 1}),
    ],
)
def test_a_change_reruns_what_depends_on_it(path, value, jobs, finished):
    change(finished, lambda values: put(values, path, value))
    assert planned(finished) == jobs


def test_tables_follow_a_cell_that_is_made_again(finished):
    text = snakemake(finished, "--dry-run", "--forcerun", CELL, "--", "all")
    assert jobs_of(text) == ["all", "evaluate", "figure", "page", "table"]
    assert CELL in text
    # Asked for by itself it is the only job, and what shows it is outdated by it.
    assert jobs_of(snakemake(finished, "--dry-run", "--forcerun", CELL, "--", CELL)) == ["evaluate"]


def test_a_cell_that_changed_outdates_the_tables_alone(finished):
    (finished / CELL).write_text("{}")
    # Outputs of this folder are stamped one after the other, up to some time from now.
    latest = (finished / "results/demo/report.html").stat().st_mtime + 1
    os.utime(finished / CELL, (latest, latest))
    assert planned(finished) == {"table": 1, "figure": 1, "page": 1}
    assert planned(finished, TABLE) == {"table": 1}


def test_a_cell_stays_when_making_it_again_fails(finished):
    (finished / CELL).write_text("the old cell")
    assert "Error in rule evaluate" in snakemake(finished, "--forcerun", CELL, "--", CELL, check=False)
    assert (finished / CELL).read_text() == "the old cell"
    assert not list((finished / CELL).parent.glob("*.tmp"))


@pytest.fixture
def with_checkpoint(folder):
    """A public encoder whose checkpoint was brought by hand and is another one."""
    change(folder, lambda values: put(values, "encoders", {"hubert_demo": PUBLIC}))
    (folder / "checkpoints").mkdir()
    (folder / CHECKPOINT).write_text("brought by hand")
    return folder


def test_tables_and_figures_of_somebody_else_stay(finished):
    files = [finished / f"results/demo/{name}" for name in ("tables/demo.csv", "figures/demo.png", "figures/demo.svg", "report.html")]
    for file in files:
        file.write_text("years of work")
    targets = [str(file.relative_to(finished)) for file in files]
    text = snakemake(finished, "--keep-going", "--forcerun", "table", "figure", "page", "--", *targets, check=False)
    assert all(f"Error in rule {rule}" in text for rule in ("table", "figure", "page"))
    assert [file.read_text() for file in files] == ["years of work"] * 4


def test_a_checkpoint_that_is_there_is_not_fetched(with_checkpoint):
    assert planned(with_checkpoint, f"{MODELS}/none/pretrained/{WEIGHTS}") == {"import_checkpoint": 1}
    snakemake(with_checkpoint, "--", f"{MODELS}/none/pretrained/config.json", check=False)
    log = (with_checkpoint / "results/demo/logs/import/hubert_demo.log").read_text()
    assert f"{CHECKPOINT}: has SHA-256" in log
    assert "or use a file of your own as `kind: checkpoint` with its `path`." in log
    assert (with_checkpoint / CHECKPOINT).read_text() == "brought by hand"


def test_a_fetch_that_is_repeated_keeps_the_file(with_checkpoint):
    snakemake(with_checkpoint, "--forcerun", "fetch", "--", CHECKPOINT, check=False)
    log = (with_checkpoint / f"results/demo/logs/fetch/{CHECKPOINT}.log").read_text()
    assert "has 15 bytes, expected 1136468879" in log
    assert (with_checkpoint / CHECKPOINT).read_text() == "brought by hand"


def test_settings_go_with_a_public_encoder(folder):
    change(folder, lambda values: put(values, "encoders.d", {"kind": "public", "name": "decoar2", "config": "sizes.json"}))
    target = f"results/demo/models/d/none/pretrained/{WEIGHTS}"
    text = snakemake(folder, "--dry-run", "--", target, check=False)
    assert "sizes.json" in text[text.index("MissingInputException") :]
    (folder / "sizes.json").write_text("{}")
    expected = "speechft import checkpoints/checkpoint_decoar2.pt --out results/demo/models/d/none/pretrained --family decoar2 --config"
    assert expected in commands(folder, "--", target)


def test_a_model_is_given_by_its_path(folder):
    (folder / "my models").mkdir()
    (folder / "my models/mine.pt").write_text("")
    target = "results/demo/cells/mine/none/pretrained/ks.json"
    text = commands(folder, "--config", MINE, "--", target)
    assert "speechft import 'my models/mine.pt' --out results/demo/models/mine/none/pretrained --family hubert" in text
    assert "speechft evaluate results/demo/models/mine/none/pretrained ks results/demo/corpora/keywords" in text
    assert jobs_of(text) == ["evaluate", "import_checkpoint", "manifests", "recipe", "recipe"]
    # Fine-tuned and merged as any other.
    text = snakemake(folder, "--dry-run", "--config", MINE, "--", f"results/demo/models/mine/pr_sentences/speech_ft/{WEIGHTS}")
    assert {"import_checkpoint", "finetune", "merge"} <= set(jobs_of(text))
    text = snakemake(folder, "--dry-run", "--config", MINE.replace("path", "pth"), "--", target, check=False)
    assert "encoders.mine" in text
    assert "pth" in text


def test_lexicons_are_fetched_before_the_jobs_that_read_them(folder):
    published = "lexicons/librispeech-lexicon-200k-g2p.txt"

    def read_librispeech(values):
        values["corpora"]["read"] = {"kind": "librispeech", "path": "LibriSpeech", "lexicon": [published, "mine.txt", "cmudict"]}
        values["tasks"]["pr"]["corpus"] = values["finetunings"]["pr_sentences"]["corpus"] = "read"

    change(folder, read_librispeech)
    (folder / "mine.txt").write_text("A AH0\n")
    cell = "results/demo/cells/hubert_demo/pr_sentences/stable_ft/pr.json"
    assert planned(folder, "results/demo/corpora/read") == {"recipe": 1, "fetch": 1, "manifests": 1}
    text = snakemake(folder, "--dry-run", "--", cell)
    assert [jobs_of(text).count(rule) for rule in ("fetch", "finetune", "evaluate")] == [1, 1, 1]
    for rule in ("manifests", "finetune", "evaluate"):
        inputs = re.findall(rf"rule {rule}:\n +input: (.*)", text)
        assert any(published in found and "mine.txt" in found for found in inputs), rule
    (folder / "lexicons").mkdir()
    (folder / published).write_text("B B IY1\n")
    assert "fetch" not in planned(folder, cell)
    (folder / "mine.txt").unlink()
    assert "mine.txt" in snakemake(folder, "--dry-run", "--", cell, check=False)


@pytest.mark.parametrize("table", ["unsupervised", "multitask"])
def test_a_table_of_the_paper_is_a_target(table, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/published.csv").write_text("")
    values = yaml.safe_load((ROOT / "config/paper.yaml").read_text())
    # The target alone is what is tested: fewer definitions make each plan quick.
    (tmp_path / "experiment.yaml").write_text(json.dumps({**values, "tables": {table: values["tables"][table]}, "curves": {}}))
    assert planned(tmp_path, f"results/tables/{table}.md")["table"] == 1


def test_jobs_are_told_to_stay_off_the_network(folder):
    (folder / "Snakefile").write_text(f'''include: "{ROOT}/Snakefile"

rule probe:
    output:
        "environment.txt",
    shell:
        "env > {{output}}"
''')
    snakemake(folder, "--snakefile", "Snakefile", "--", "environment.txt")
    lines = (folder / "environment.txt").read_text().splitlines()
    assert {"HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1"} <= set(lines)


def test_a_typo_in_the_experiment_stops_before_any_job(folder):
    change(folder, lambda values: values["tasks"].update(kss=values["tasks"].pop("ks")))
    text = snakemake(folder, "--dry-run", check=False)
    assert "ConfigError" in text
    assert "recipe of kss: Unknown task 'kss'. Did you mean 'ks'? Available: pr, " in text


def test_planning_imports_neither_torch_nor_transformers(folder):
    trap = folder / "trap"
    for name in ("torch", "transformers", "fairseq", "lhotse"):
        (trap / name).mkdir(parents=True)
        (trap / name / "__init__.py").write_text(f"raise ImportError('{name} was imported while planning')\n")
    assert "was imported" not in snakemake(folder, "--dry-run", PYTHONPATH=str(trap))
    blocked = subprocess.run([sys.executable, "-c", "import torch"], env={**os.environ, "PYTHONPATH": str(trap)}, capture_output=True)
    assert blocked.returncode != 0, "the trap itself must work"


def test_the_workflow_passes_snakemakes_lint():
    command = [sys.executable, "-m", "snakemake", "--lint", "--configfile", "tests/experiment.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    # Jobs run in the environment of Snakemake itself, so no rule names one.
    lints = {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("    * ")}
    assert lints == {"    * Specify a conda environment or container for each rule.:"}
