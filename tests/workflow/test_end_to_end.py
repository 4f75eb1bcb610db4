"""The whole workflow on a few utterances of the synthetic mini corpus, with as little training as makes every stage run."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

ARCHITECTURE = {"layers": 2, "hidden_size": 48, "ffn_size": 64, "attention_heads": 4, "conv_pos": 16, "conv_pos_groups": 4, "final_dim": 16}
EXTRACTOR = [(16, 10, 5), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 2, 2), (16, 2, 2)]
QUICK = {"protocol": "quick", "steps": 30, "eval_every": 10, "batch_size": 4, "accumulate": 1, "learning_rates": [1e-2, 1e-3]}


def snakemake(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder, "--cores", "2"]
    done = subprocess.run([*map(str, command), "--configfile", "experiment.yaml", *arguments], cwd=folder, capture_output=True, text=True)
    logs = "\n".join(f"--- {log}\n{log.read_text()[-3000:]}" for log in folder.rglob("*.log")) if done.returncode else ""
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return done.stdout + done.stderr


def some_rows(name: str, folder: Path, per_split: int) -> str:
    """A CSV with the first rows of each split of one of the mini corpora, and absolute paths."""
    with (ROOT / "mini/speech" / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept: list[dict[str, str]] = []
    for row in rows:
        if sum(other.get("split") == row.get("split") for other in kept) < per_split:
            kept.append({**row, "path": str(ROOT / "mini/speech" / row["path"])})
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)
    return name


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    sentences = some_rows("sentences.csv", folder, 12)
    extractor = [{"channels": channels, "kernel": kernel, "stride": stride} for channels, kernel, stride in EXTRACTOR]
    values = {
        "name": "tiny",
        "results": "results",
        "corpora": {
            "speech": {"kind": "csv", "path": sentences, "unlabelled": True},
            "sentences": {"kind": "csv", "path": sentences},
        },
        "encoders": {
            "tiny": {
                "kind": "pretrain",
                "corpora": ["speech"],
                "recipe": {
                    "architecture": {**ARCHITECTURE, "extractor": extractor},
                    "clusters": 8,
                    "updates": 6,
                    "warmup_updates": 2,
                    "validate_every": 3,
                    "batch_seconds": 10,
                    "valid_fraction": 0.2,
                },
            },
            "fbank": {"kind": "fbank"},
        },
        "finetunings": {
            "words": {
                "corpus": "sentences",
                "recipe": {"task": "pr", "updates": 10, "batch_size": 4, "validate_every": 5, "peak_lr": 1e-3},
            }
        },
        "tasks": {"pr": {"corpus": "sentences", "recipe": QUICK}},
        "tables": {
            "tiny": {
                "title": "Tiny",
                "encoders": ["fbank", "tiny"],
                "finetunings": ["words"],
                "tasks": ["pr"],
                "score": {"floor": "fbank", "label": "tiny score"},
            }
        },
        "curves": {"alpha": {"encoder": "tiny", "finetuning": "words", "alphas": "0:1:0.5", "tasks": ["pr"]}},
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(values))
    (folder / "config").mkdir()
    (folder / "config/published.csv").write_bytes((ROOT / "config/published.csv").read_bytes())
    snakemake(folder)
    return folder


def model(folder: Path, name: str) -> Path:
    return folder / "results/models/tiny" / name


def test_every_model_is_an_encoder_directory_with_its_origin(experiment):
    kinds = {"none/pretrained": "pretrain", "words/stable_ft": "finetune", "words/speech_ft": "merge"}
    for name, kind in kinds.items():
        assert json.loads((model(experiment, name) / "provenance.json").read_text())["kind"] == kind
        assert (model(experiment, name) / "README.md").is_file()


def test_a_merged_model_loads_with_transformers(experiment):
    from transformers import AutoModel

    loaded = AutoModel.from_pretrained(model(experiment, "words/speech_ft"))
    assert loaded(torch.randn(1, 4000)).last_hidden_state.shape == (1, 12, 48)


def test_the_merge_is_a_quarter_of_the_way(experiment):
    theta0 = load_file(model(experiment, "none/pretrained") / "model.safetensors")
    theta1 = load_file(model(experiment, "words/stable_ft") / "model.safetensors")
    merged = load_file(model(experiment, "words/speech_ft") / "model.safetensors")
    assert merged.keys() == theta0.keys() == theta1.keys()
    moved = [name for name in theta0 if not torch.equal(theta0[name], theta1[name])]
    assert any("attention" in name for name in moved)
    assert not any(name.startswith("feature_extractor") for name in moved)
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, 0.75 * theta0[name] + 0.25 * theta1[name], rtol=0, atol=1e-6)


def test_cells_hold_every_learning_rate_and_what_they_were_made_from(experiment):
    for name in ("none/pretrained", "words/stable_ft", "words/speech_ft"):
        cell = json.loads((experiment / f"results/cells/tiny/{name}/pr.json").read_text())
        assert "/".join(cell["model"][key] for key in ("finetuning", "method")) == name
        assert sorted(trial["learning_rate"] for trial in cell["trials"]) == [1e-3, 1e-2]
        assert sum(trial["selected"] for trial in cell["trials"]) == 1
        assert cell["counts"]["test"]["utterances"] == 12
        assert cell["protocol"] == "quick"


def test_the_table_shows_three_models_and_says_that_the_protocol_was_quick(experiment):
    text = (experiment / "results/tables/tiny.md").read_text()
    for label in ("Pre-trained", "Stable-FT", "Speech-FT", "quick"):
        assert label in text
    assert (experiment / "results/figures/tiny.png").stat().st_size > 5000


def test_filterbanks_are_a_row_and_the_floor_of_the_score(experiment):
    cell = json.loads((experiment / "results/cells/fbank/none/pretrained/pr.json").read_text())
    assert cell["counts"]["test"]["utterances"] == 12
    text = (experiment / "results/tables/tiny.md").read_text()
    assert "| FBANK " in text
    assert "tiny score" in text
    assert "s_floor is the mean of FBANK (fbank, none)" in text


def test_the_curve_has_three_alphas_and_one_model_more(experiment):
    with (experiment / "results/tables/alpha.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["alpha"], row["method"]) for row in rows] == [("0.0", "pretrained"), ("0.5", "speech_ft@0.50"), ("1.0", "stable_ft")]
    for row in rows:
        name = f"{row['finetuning']}/{row['method']}"
        assert float(row["mean"]) == json.loads((experiment / f"results/cells/tiny/{name}/pr.json").read_text())["metrics"]["PR"]
    merges = sorted(path.name for path in (experiment / "results/models/tiny/words").iterdir() if not path.name.startswith("."))
    assert merges == ["speech_ft", "speech_ft@0.50", "stable_ft"]
    assert json.loads((model(experiment, "words/speech_ft@0.50") / "provenance.json").read_text())["recipe"]["alpha"] == 0.5
    for suffix in ("png", "svg"):
        assert (experiment / f"results/figures/alpha.{suffix}").stat().st_size > 5000


def test_a_second_run_does_nothing(experiment):
    assert "Nothing to be done" in snakemake(experiment)


def test_a_lost_table_comes_back_from_the_cells_alone(experiment):
    table = experiment / "results/tables/tiny.md"
    before = table.read_text()
    table.unlink()
    output = snakemake(experiment)
    assert table.read_text() == before
    assert "rule evaluate" not in output


def test_nothing_temporary_remains(experiment):
    assert not list((experiment / "results").rglob("*.tmp"))
