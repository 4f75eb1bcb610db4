"""What Snakemake plans: which jobs exist, and what reruns after a change. Nothing is computed here but the recipe files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from speechft.experiment.schema import load_experiment
from speechft.experiment.workflow import MODEL_FILES, Workflow

EXPERIMENT = "tests/experiment.yaml"


def snakemake(folder: Path, *arguments: str, check: bool = True, **environment: str) -> str:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), "--cores", "2"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env={**os.environ, **environment}, cwd=folder)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def planned(folder: Path, *targets: str) -> dict[str, int]:
    """Rule -> number of jobs that a dry run would start."""
    text = snakemake(folder, "--configfile", "experiment.yaml", "--dry-run", *(["--", *targets] if targets else []))
    statistics = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\n\n", text, re.DOTALL)
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", statistics[1], re.M)} if statistics else {}


@pytest.fixture
def folder(tmp_path):
    """An empty working folder with an experiment, its CSV files and the published numbers."""
    values = yaml.safe_load((ROOT / EXPERIMENT).read_text())
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(values))
    for corpus in values["corpora"].values():
        table = tmp_path / corpus["path"]
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text("path\n")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/published.csv").write_text("")
    return tmp_path


def change(folder: Path, edit) -> None:
    values = yaml.safe_load((folder / "experiment.yaml").read_text())
    edit(values)
    (folder / "experiment.yaml").write_text(yaml.safe_dump(values))


@pytest.fixture
def finished(folder):
    """The same folder after a run: real recipe files, empty files in place of all other outputs, each newer than its inputs."""
    experiment = load_experiment(folder / "experiment.yaml")
    flow = Workflow(experiment)
    recipes = [f"corpora/{name}" for name in experiment.corpora] + [f"pretrain/{name}" for name in experiment.encoders]
    recipes += [f"finetune/{tuning}/stable_ft" for tuning in experiment.finetunings] + ["merge/speech_ft"]
    recipes += [f"evaluate/{task}" for task in experiment.tasks] + [f"tables/{table}" for table in experiment.tables]
    snakemake(folder, "--configfile", "experiment.yaml", "--", *(f"{flow.results}/recipes/{name}.json" for name in recipes))
    models = sorted({model for table in experiment.tables for model in experiment.table_models(table)}, key=_stage)
    outputs = [f"{flow.corpus(name)}/.snakemake_timestamp" for name in experiment.corpora]
    outputs += [f"{flow.model(*model)}/{name}" for model in models for name in (*MODEL_FILES, "training.csv")]
    outputs += [cell for table in experiment.tables for cell in flow.cells(table)]
    tables = [f"{flow.results}/tables/{table}" for table in experiment.tables]
    figures = [f"{flow.results}/figures/{table}" for table in experiment.tables]
    outputs += [table + end for table in tables for end in (".csv", ".md", ".tex", ".html")]
    outputs += [figure + end for figure in figures for end in (".png", ".svg")]
    start = (folder / flow.results / "recipes").stat().st_mtime + 10
    for order, output in enumerate(outputs):
        path = folder / output
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        os.utime(path, (start + order, start + order))
    for name in experiment.corpora:
        os.utime(folder / flow.corpus(name), (start, start))
    assert planned(folder) == {}
    return folder


def _stage(model: tuple[str, str, str]) -> int:
    return ("pretrained", "stable_ft", "speech_ft").index(model[2])


def test_the_experiment_is_three_models_times_three_tasks(folder):
    jobs = planned(folder)
    assert jobs["evaluate"] == 9
    assert (jobs["pretrain"], jobs["finetune"], jobs["merge"], jobs["table"], jobs["figure"]) == (1, 1, 1, 1, 1)


def test_one_cell_needs_only_what_it_is_made_from(folder):
    jobs = planned(folder, "results/demo/cells/hubert_demo/none/pretrained/ks.json")
    assert jobs == {"recipe": 4, "manifests": 2, "pretrain": 1, "evaluate": 1, "total": 8}


def test_a_changed_table_retrains_nothing(finished):
    change(finished, lambda values: values["tables"]["demo"].update(title="Another title"))
    assert planned(finished) == {"recipe": 1, "table": 1, "figure": 1, "all": 1, "total": 4}


def test_differences_between_rows_retrain_nothing(finished):
    change(finished, lambda values: values["tables"]["demo"].update(differences=["pretrained", "stable_ft"]))
    assert planned(finished) == {"recipe": 1, "table": 1, "figure": 1, "differences": 1, "all": 1, "total": 5}


def test_a_removed_column_retrains_nothing(finished):
    change(finished, lambda values: values["tables"]["demo"].update(tasks=["pr", "ks"]))
    assert planned(finished) == {"recipe": 1, "table": 1, "figure": 1, "all": 1, "total": 4}


def test_changed_resources_and_notes_retrain_nothing(finished):
    change(finished, lambda values: values.update(resources={"evaluate": {"mem_mb": 999}}))
    assert planned(finished) == {}


def test_a_changed_evaluation_recipe_reruns_that_task_only(finished):
    change(finished, lambda values: values["tasks"]["ks"]["recipe"].update(steps=17))
    assert planned(finished) == {"recipe": 1, "evaluate": 3, "table": 1, "figure": 1, "all": 1, "total": 7}


def test_a_changed_finetuning_recipe_reruns_what_descends_from_it(finished):
    change(finished, lambda values: values["finetunings"]["pr_sentences"]["recipe"].update(updates=17))
    jobs = planned(finished)
    assert jobs == {"recipe": 1, "finetune": 1, "merge": 1, "evaluate": 6, "table": 1, "figure": 1, "all": 1, "total": 12}


def test_a_changed_alpha_reruns_the_merge_and_its_cells(finished):
    merged = {"kind": "merge", "label": "Speech-FT", "of": "stable_ft", "recipe": {"alpha": 0.5}}
    change(finished, lambda v: v.update(methods={"stable_ft": {"kind": "finetune", "label": "Stable-FT"}, "speech_ft": merged}))
    assert planned(finished) == {"recipe": 1, "merge": 1, "evaluate": 3, "table": 1, "figure": 1, "all": 1, "total": 8}


def use_public_encoder(values):
    values["encoders"] = {"hubert_demo": {"kind": "public", "name": "hubert_base"}}


def test_a_public_encoder_is_fetched_and_imported(folder):
    change(folder, use_public_encoder)
    jobs = planned(folder, "results/demo/models/hubert_demo/none/pretrained/model.safetensors")
    assert jobs == {"fetch": 1, "import_checkpoint": 1, "total": 2}


def test_a_checkpoint_that_is_there_is_not_fetched(folder):
    change(folder, use_public_encoder)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/hubert_base_ls960.pt").write_text("brought by hand")
    jobs = planned(folder, "results/demo/models/hubert_demo/none/pretrained/model.safetensors")
    assert jobs == {"import_checkpoint": 1, "total": 1}
    text = snakemake(
        folder, "--configfile", "experiment.yaml", "--", "results/demo/models/hubert_demo/none/pretrained/config.json", check=False
    )
    assert "import_checkpoint" in text
    log = (folder / "results/demo/logs/import/hubert_demo.log").read_text()
    assert "checkpoints/hubert_base_ls960.pt: has SHA-256" in log
    assert "or use a file of your own as `kind: checkpoint` with its `path`." in log
    assert (folder / "checkpoints/hubert_base_ls960.pt").read_text() == "brought by hand"


def test_a_fetch_that_is_repeated_keeps_the_file(folder):
    change(folder, use_public_encoder)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/hubert_base_ls960.pt").write_text("brought by hand")
    target = ("--forcerun", "fetch", "--", "checkpoints/hubert_base_ls960.pt")
    snakemake(folder, "--configfile", "experiment.yaml", *target, check=False)
    assert "has 15 bytes, expected 1136468879" in (folder / "results/demo/logs/fetch/checkpoints/hubert_base_ls960.pt.log").read_text()
    assert (folder / "checkpoints/hubert_base_ls960.pt").read_text() == "brought by hand"


def test_settings_go_with_a_public_encoder(folder):
    change(folder, lambda values: values["encoders"].update(d={"kind": "public", "name": "decoar2", "config": "sizes.json"}))
    target = "results/demo/models/d/none/pretrained/model.safetensors"
    text = snakemake(folder, "--configfile", "experiment.yaml", "--dry-run", "--", target, check=False)
    assert "sizes.json" in text[text.index("MissingInputException") :]
    (folder / "sizes.json").write_text("{}")
    text = snakemake(folder, "--configfile", "experiment.yaml", "--dry-run", "--printshellcmds", "--", target)
    assert "speechft import checkpoints/checkpoint_decoar2.pt --out results/demo/models/d/none/pretrained --family decoar2 --config" in text


def read_librispeech(values):
    lexicons = ["lexicons/librispeech-lexicon-200k-g2p.txt", "mine.txt", "cmudict"]
    values["corpora"]["read"] = {"kind": "librispeech", "path": "LibriSpeech", "lexicon": lexicons}
    values["tasks"]["pr"]["corpus"] = values["finetunings"]["pr_sentences"]["corpus"] = "read"


def test_lexicons_are_fetched_before_the_jobs_that_read_them(folder):
    change(folder, read_librispeech)
    (folder / "mine.txt").write_text("A AH0\n")
    cell = "results/demo/cells/hubert_demo/pr_sentences/stable_ft/pr.json"
    assert planned(folder, "results/demo/corpora/read") == {"recipe": 1, "fetch": 1, "manifests": 1, "total": 3}
    jobs = planned(folder, cell)
    assert (jobs["fetch"], jobs["finetune"], jobs["evaluate"]) == (1, 1, 1)
    text = snakemake(folder, "--configfile", "experiment.yaml", "--dry-run", "--", cell)
    for rule in ("manifests", "finetune", "evaluate"):
        inputs = re.findall(rf"rule {rule}:\n +input: (.*)", text)
        assert any("lexicons/librispeech-lexicon-200k-g2p.txt" in found and "mine.txt" in found for found in inputs), rule
    (folder / "lexicons").mkdir()
    (folder / "lexicons/librispeech-lexicon-200k-g2p.txt").write_text("B B IY1\n")
    assert "fetch" not in planned(folder, cell)
    (folder / "mine.txt").unlink()
    assert "mine.txt" in snakemake(folder, "--configfile", "experiment.yaml", "--dry-run", "--", cell, check=False)


def test_jobs_are_told_to_stay_off_the_network(folder):
    (folder / "Snakefile").write_text(f'''include: "{ROOT}/Snakefile"

rule probe:
    output:
        "environment.txt",
    shell:
        "env > {{output}}"
''')
    snakemake(folder, "--snakefile", "Snakefile", "--configfile", "experiment.yaml", "--", "environment.txt")
    lines = (folder / "environment.txt").read_text().splitlines()
    assert {"HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1"} <= set(lines)


def use_fbank_and_a_curve(values):
    values["encoders"]["fbank"] = {"kind": "fbank"}
    values["tables"]["demo"].update(encoders=["fbank", "hubert_demo"], score={"floor": "fbank"})
    values["curves"] = {"alpha": {"encoder": "hubert_demo", "finetuning": "pr_sentences", "tasks": ["pr", "sid"]}}


def test_fbank_is_one_row_of_the_table(folder):
    change(folder, use_fbank_and_a_curve)
    jobs = planned(folder, "results/demo/tables/demo.md")
    assert (jobs["fbank"], jobs["evaluate"], jobs["pretrain"], jobs["finetune"], jobs["merge"]) == (1, 12, 1, 1, 1)
    jobs = planned(folder, "results/demo/cells/fbank/none/pretrained/ks.json")
    assert jobs == {"recipe": 3, "manifests": 1, "fbank": 1, "evaluate": 1, "total": 6}


def test_a_curve_merges_and_evaluates_what_is_not_there_already(folder):
    change(folder, use_fbank_and_a_curve)
    jobs = planned(folder, "results/demo/figures/alpha.png")
    # Nine merges; the pre-trained and the fine-tuned encoder are the ends.
    assert (jobs["merge"], jobs["evaluate"], jobs["curve"]) == (9, 2 * 11, 1)
    assert "fbank" not in jobs
    everything = planned(folder)
    # Three methods and FBANK on three tasks, nine further alphas on two.
    assert (everything["merge"], everything["evaluate"]) == (10, 3 * 4 + 2 * 9)
    assert (everything["table"], everything["figure"], everything["curve"]) == (1, 1, 1)


def test_an_alpha_is_a_model_that_can_be_asked_for(folder):
    jobs = planned(folder, "results/demo/cells/hubert_demo/pr_sentences/speech_ft@0.50/ks.json")
    assert (jobs["pretrain"], jobs["finetune"], jobs["merge"], jobs["evaluate"]) == (1, 1, 1, 1)
    snakemake(folder, "--configfile", "experiment.yaml", "--", "results/demo/recipes/merge/speech_ft@0.50.json")
    assert json.loads((folder / "results/demo/recipes/merge/speech_ft@0.50.json").read_text())["alpha"] == 0.5
    target = "results/demo/models/hubert_demo/pr_sentences/speech_ft@0.5/model.safetensors"
    assert "MissingRuleException" in snakemake(folder, "--configfile", "experiment.yaml", "--dry-run", "--", target, check=False)


def test_a_new_curve_keeps_what_is_finished(finished):
    def add_curve(values):
        curve = {"encoder": "hubert_demo", "finetuning": "pr_sentences", "alphas": [0, 0.25, 0.5, 1], "tasks": ["pr", "sid"]}
        values["curves"] = {"alpha": curve}

    change(finished, add_curve)
    # The recipes of the merge and of the curve are new, those of the two evaluations are there.
    assert planned(finished) == {"recipe": 2, "merge": 1, "evaluate": 2, "curve": 1, "all": 1, "total": 7}


def use_a_combination(values):
    values["finetunings"]["sid_speakers"] = {"corpus": "speakers", "recipe": {"task": "sid", "updates": 10}}
    values["combinations"] = {"pr+sid": {"of": ["pr_sentences", "sid_speakers"]}}
    ties = {"kind": "merge", "label": "TIES merge", "recipe": {"method": "ties"}}
    values["methods"] = {
        "stable_ft": {"kind": "finetune", "label": "Stable-FT"},
        "linear": {"kind": "merge", "label": "Linear merge"},
        "ties": ties,
    }
    values["tables"]["demo"].update(finetunings=["pr+sid"], methods=["pretrained", "linear", "ties"])


def test_a_combination_is_merged_from_the_finetunings_that_it_names(folder):
    change(folder, use_a_combination)
    jobs = planned(folder, "results/demo/tables/demo.md")
    # Two fine-tunings of one encoder; two merges of both; three rows on three tasks.
    assert (jobs["pretrain"], jobs["finetune"], jobs["merge"], jobs["evaluate"]) == (1, 2, 2, 9)
    target = "results/demo/models/hubert_demo/pr+sid/ties/model.safetensors"
    text = snakemake(folder, "--configfile", "experiment.yaml", "--dry-run", "--printshellcmds", "--", target)
    models = "results/demo/models/hubert_demo"
    members = f"{models}/none/pretrained {models}/pr_sentences/stable_ft {models}/sid_speakers/stable_ft"
    assert f"speechft merge {members} --recipe results/demo/recipes/merge/ties.json --out {models}/pr+sid/ties" in text
    target = "results/demo/models/hubert_demo/pr+sid/stable_ft/model.safetensors"
    assert "MissingRuleException" in snakemake(folder, "--configfile", "experiment.yaml", "--dry-run", "--", target, check=False)


def test_a_typo_in_the_experiment_stops_before_any_job(folder):
    change(folder, lambda values: values["tasks"].update(kss=values["tasks"].pop("ks")))
    text = snakemake(folder, "--configfile", "experiment.yaml", "--dry-run", check=False)
    assert "ConfigError" in text
    assert "There is no recipe for task 'kss'. Did you mean 'ks'? There are pr, " in text


def test_planning_imports_neither_torch_nor_transformers(folder):
    trap = folder / "trap"
    for name in ("torch", "transformers", "fairseq", "lhotse"):
        (trap / name).mkdir(parents=True)
        (trap / name / "__init__.py").write_text(f"raise ImportError('{name} was imported while planning')\n")
    text = snakemake(folder, "--configfile", "experiment.yaml", "--dry-run", PYTHONPATH=str(trap))
    assert "was imported" not in text
    blocked = subprocess.run([sys.executable, "-c", "import torch"], env={**os.environ, "PYTHONPATH": str(trap)}, capture_output=True)
    assert blocked.returncode != 0, "the trap itself must work"


def test_the_workflow_passes_snakemakes_lint():
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint", "--configfile", EXPERIMENT], cwd=ROOT, capture_output=True, text=True
    )
    # Jobs run in the environment of Snakemake itself, so no rule names one.
    lints = {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("    * ")}
    assert lints == {"    * Specify a conda environment or container for each rule.:"}
