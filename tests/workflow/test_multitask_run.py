"""Two fine-tunings of a tiny encoder, merged linearly and by TIES, evaluated and shown: every job of it runs."""

import csv
import json
import re
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from safetensors.torch import load_file
from workflow.test_end_to_end import QUICK, snakemake, some_rows

from speechft.encoders import random_encoder
from speechft.merge import merge

pytestmark = pytest.mark.slow

MODELS, CELL = "results/models/tiny", "results/cells/tiny/both/ties/sid.json"
STAGE1 = {"updates": 4, "batch_size": 4, "validate_every": 2, "peak_lr": 1e-3, "head_only": 0}
LABELS = ["Pre-trained", "PR alone", "Linear (alpha 1.00)", "Linear", "TIES"]


def speakers(folder: Path) -> str:
    """A CSV of three speakers with four recordings in each split."""
    with (ROOT / "mini/speech/speakers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = list(dict.fromkeys(row["label"] for row in rows))[:3]
    kept: list[dict[str, str]] = []
    for row in rows:
        alike = [other for other in kept if (other["label"], other["split"]) == (row["label"], row["split"])]
        if row["label"] in names and len(alike) < 4:
            kept.append({**row, "path": str(ROOT / "mini/speech" / row["path"])})
    with (folder / "speakers.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)
    return "speakers.csv"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("multitask")
    random_encoder("hubert", folder / "theta0")
    values = {
        "name": "tiny",
        "results": "results",
        "corpora": {
            "sentences": {"kind": "csv", "path": some_rows("sentences.csv", folder, 8)},
            "speakers": {"kind": "csv", "path": speakers(folder)},
        },
        "encoders": {"tiny": {"kind": "checkpoint", "path": "theta0"}},
        "finetunings": {
            "pr": {"corpus": "sentences", "recipe": {"task": "pr", **STAGE1}},
            "sid": {"corpus": "speakers", "recipe": {"task": "sid", **STAGE1}},
        },
        "combinations": {"both": {"of": ["pr", "sid"]}},
        "methods": {
            "stable_ft": {"kind": "finetune", "label": "Stable-FT"},
            "linear": {"kind": "merge", "label": "Linear"},
            "ties": {"kind": "merge", "label": "TIES", "recipe": {"method": "ties", "parameters": {"density": 0.3}}},
        },
        "tasks": {"sid": {"corpus": "speakers", "recipe": QUICK}},
        "tables": {
            "multitask": {
                "title": "PR and SID",
                "encoders": ["tiny"],
                "rows": [
                    {"model": "none/pretrained"},
                    {"model": "pr/stable_ft", "label": "PR alone"},
                    *({"model": f"both/{method}"} for method in ("linear@1.00", "linear", "ties")),
                ],
                "tasks": ["sid"],
            }
        },
        "analyses": {
            "features": {
                "encoder": "tiny",
                "corpus": "sentences",
                "rows": [{"model": "pr/stable_ft"}, {"model": "both/linear"}],
                "recipe": {"utterances": 3},
            }
        },
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(values))
    (folder / "config").mkdir()
    (folder / "config/published.csv").write_bytes((ROOT / "config/published.csv").read_bytes())
    snakemake(folder, "--", "results/tables/multitask.md", "results/tables/features.md")
    return folder


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(folder / MODELS / name / "model.safetensors")


def test_both_finetunings_are_in_the_linear_merge(experiment):
    theta0, pr, sid = (weights(experiment, name) for name in ("none/pretrained", "pr/stable_ft", "sid/stable_ft"))
    assert any(not torch.equal(theta0[name], pr[name]) and not torch.equal(pr[name], sid[name]) for name in theta0)
    for method, alpha in (("linear", 0.25), ("linear@1.00", 1.0)):
        merged = weights(experiment, f"both/{method}")
        for name, tensor in merged.items():
            expected = theta0[name] + alpha * ((pr[name] + sid[name]) / 2 - theta0[name])
            torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-6)


def test_the_ties_merge_is_that_of_the_library(experiment, tmp_path):
    folder = experiment / MODELS
    merge(folder / "none/pretrained", [folder / "pr/stable_ft", folder / "sid/stable_ft"], tmp_path / "ties", method="ties", density=0.3)
    merged, expected = weights(experiment, "both/ties"), load_file(tmp_path / "ties/model.safetensors")
    linear = weights(experiment, "both/linear")
    assert all(torch.equal(merged[name], expected[name]) for name in expected)
    assert any(not torch.equal(merged[name], linear[name]) for name in expected)


def test_the_table_shows_every_strategy(experiment):
    with (experiment / "results/tables/multitask.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == LABELS
    for row in rows:
        cell = json.loads((experiment / f"results/cells/tiny/{row['finetuning']}/{row['method']}/sid.json").read_text())
        assert float(row["value"]) == cell["metrics"]["SID"]
        assert row["model_sha256"] == cell["model"]["sha256"]
        assert row["status"] == "measured"
    assert "pending" not in (experiment / "results/tables/multitask.md").read_text()


def test_the_analysis_compares_models_with_theta0(experiment):
    tuned, merged = (
        json.loads((experiment / f"results/analysis/features/tiny/{name}.json").read_text()) for name in ("pr/stable_ft", "both/linear")
    )
    assert tuned["model"] | {"sha256": ""} == {"encoder": "tiny", "finetuning": "pr", "method": "stable_ft", "sha256": ""}
    assert tuned["start_sha256"] == merged["start_sha256"]
    assert 0 < merged["deviation"]["norm"] < tuned["deviation"]["norm"]
    assert tuned["parts"]["extractor"]["norm"] == 0.0
    assert tuned["utterances"] == 3
    text = (experiment / "results/tables/features.md").read_text()
    assert re.search(rf"\| Linear +\| both +\| +{merged['deviation']['norm']:.4g} \|", text)
    assert (experiment / "results/figures/features.png").stat().st_size > 5000


def test_a_cell_is_replaced_in_one_instant_and_the_table_follows(experiment):
    cell, table = experiment / CELL, experiment / "results/tables/multitask.md"
    before, table_before, old = cell.stat(), table.stat(), json.loads(cell.read_text())
    seen: set[str] = set()
    done = threading.Event()

    def watch():
        while not done.is_set():
            try:
                seen.add("whole" if json.loads(cell.read_text())["task"] == "sid" else "another")
            except (OSError, ValueError) as error:
                seen.add(repr(error))
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        output = snakemake(experiment, "--forcerun", CELL, "--", "results/tables/multitask.md")
    finally:
        done.set()
        watcher.join()
    assert seen == {"whole"}
    assert output.count("rule evaluate:") == 1
    assert cell.stat().st_ino != before.st_ino
    assert table.stat().st_mtime_ns > cell.stat().st_mtime_ns > table_before.st_mtime_ns
    assert json.loads(cell.read_text())["values"] == old["values"]


def test_a_model_by_its_path_gets_a_cell(experiment):
    random_encoder("hubert", experiment / "elsewhere/mine", seed=5)
    mine = 'encoders={"mine": {"kind": "checkpoint", "path": "elsewhere/mine"}}'
    snakemake(experiment, "--config", mine, "--", "results/cells/mine/none/pretrained/sid.json")
    cell = json.loads((experiment / "results/cells/mine/none/pretrained/sid.json").read_text())
    assert cell["model"]["encoder"] == "mine"
    assert (
        cell["model"]["sha256"] != json.loads((experiment / "results/cells/tiny/none/pretrained/sid.json").read_text())["model"]["sha256"]
    )
