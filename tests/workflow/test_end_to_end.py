"""The whole workflow on a few utterances of the synthetic mini corpus, with as little training as makes every stage run.

A tiny encoder is pre-trained, fine-tuned on two tasks, merged at several alphas, linearly and by TIES, evaluated, analysed and shown.
"""

import csv
import json
import re
import threading
import time
from pathlib import Path

import pandas
import pytest
import torch
from conftest import ROOT
from finetune.watching import differing
from safetensors.torch import load_file
from workflow.plans import WARM, jobs_of, snakemake

from speechft.encoders import random_encoder
from speechft.merge import merge

pytestmark = pytest.mark.slow

EXPERIMENT = """
name: tiny
results: results
corpora:
  speech: {kind: csv, path: sentences.csv, unlabelled: true}
  sentences: {kind: csv, path: sentences.csv}
  speakers: {kind: csv, path: speakers.csv}
encoders:
  fbank: {kind: fbank}
  tiny:
    kind: pretrain
    corpora: [speech]
    recipe:
      architecture: {layers: 2, hidden_size: 48, ffn_size: 64, conv_pos: 16, conv_pos_groups: 4, final_dim: 16}
      clusters: 8
      updates: 6
      warmup_updates: 2
      validate_every: 3
      batch_seconds: 10
      valid_fraction: 0.2
finetunings:
  words: {corpus: sentences, recipe: {task: pr, updates: 4, batch_size: 4, validate_every: 2, peak_lr: 1.0e-3, head_only: 0}}
  voices: {corpus: speakers, recipe: {task: sid, updates: 4, batch_size: 4, validate_every: 2, peak_lr: 1.0e-3, head_only: 0}}
combinations:
  both: {of: [words, voices]}
methods:
  stable_ft: {kind: finetune, label: Stable-FT}
  speech_ft: {kind: merge, label: Speech-FT}
  chosen: {kind: merge, label: Chosen, recipe: {alpha: dev}, choose: {tasks: [pr], alphas: [0, 0.5, 1], among: speech_ft}}
  ties: {kind: merge, label: TIES, recipe: {method: ties, parameters: {density: 0.3}}}
tasks:
  pr:
    corpus: sentences
    recipe: &quick {protocol: quick, steps: 30, eval_every: 10, batch_size: 4, accumulate: 1, learning_rates: [1.0e-2, 1.0e-3]}
  sid: {corpus: speakers, recipe: *quick}
tables:
  tiny: {title: Tiny, encoders: [fbank, tiny], finetunings: [words], tasks: [pr], score: {floor: fbank, label: tiny score}}
  multitask:
    title: PR and SID
    encoders: [tiny]
    rows:
      - {model: none/pretrained}
      - {model: words/stable_ft, label: PR alone}
      - {model: both/speech_ft@1.00}
      - {model: both/speech_ft}
      - {model: both/ties}
    tasks: [sid]
curves:
  alpha: {encoder: tiny, finetuning: words, alphas: "0:1:0.5", tasks: [pr]}
  barrier: {kind: connection, encoder: tiny, finetuning: words, alphas: "0:1:0.5"}
analyses:
  features:
    encoder: tiny
    corpus: sentences
    rows: [{model: words/stable_ft}, {model: both/speech_ft}]
    recipe: {utterances: 3}
"""
CHOSEN = "results/models/tiny/words/chosen/model.safetensors"
CELL = "results/cells/tiny/both/ties/sid.json"


def some_rows(name, folder, count, *columns, labels=None):
    """A CSV with the first `count` rows of each kind of one of the mini corpora, and absolute paths; of the first `labels` labels."""
    rows = pandas.read_csv(ROOT / "mini/speech" / name, dtype=str, keep_default_na=False)
    if labels:
        rows = rows[rows["label"].isin(rows["label"].unique()[:labels])]
    rows = rows.groupby(list(columns)).head(count)
    rows.assign(path=[str(ROOT / "mini/speech" / path) for path in rows["path"]]).to_csv(folder / name, index=False)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    some_rows("sentences.csv", folder, 8, "split")
    some_rows("speakers.csv", folder, 4, "label", "split", labels=3)
    (folder / "experiment.yaml").write_text(EXPERIMENT)
    (folder / "config").mkdir()
    (folder / "config/published.csv").write_bytes((ROOT / "config/published.csv").read_bytes())
    snakemake(folder, "--", "all", CHOSEN, **WARM)
    return folder


def model(folder: Path, name: str) -> Path:
    return folder / "results/models/tiny" / name


def weights(folder: Path, *names: str) -> list[dict[str, torch.Tensor]]:
    return [load_file(model(folder, name) / "model.safetensors") for name in names]


def read(path: Path):
    return json.loads(path.read_text())


def cell_of(folder: Path, name: str):
    return read(folder / f"results/cells/{name}.json")


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"results/tables/{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_second_run_does_nothing_and_nothing_temporary_remains(experiment):
    assert "Nothing to be done" in snakemake(experiment)
    assert not list((experiment / "results").rglob("*.tmp"))


def test_every_model_is_an_encoder_directory_with_its_origin(experiment):
    from transformers import AutoModel

    kinds = {"none/pretrained": "pretrain", "words/stable_ft": "finetune", "words/speech_ft": "merge"}
    for name, kind in kinds.items():
        assert read(model(experiment, name) / "provenance.json")["kind"] == kind
        assert (model(experiment, name) / "README.md").is_file()
    loaded = AutoModel.from_pretrained(model(experiment, "words/speech_ft"))
    assert loaded(torch.randn(1, 4000)).last_hidden_state.shape == (1, 12, 48)


def test_merges_are_at_their_alpha_of_one_or_both_finetunings(experiment, tmp_path):
    theta0, words, voices = weights(experiment, "none/pretrained", "words/stable_ft", "voices/stable_ft")
    moved = differing(theta0, words) & differing(words, voices)
    assert any("attention" in name for name in moved)
    assert not any(name.startswith("feature_extractor") for name in differing(theta0, words))
    for method, alpha in (("words/speech_ft", 0.25), ("words/speech_ft@0.50", 0.5), ("both/speech_ft", 0.25), ("both/speech_ft@1.00", 1.0)):
        (merged,) = weights(experiment, method)
        assert merged.keys() == theta0.keys() == words.keys()
        for name, tensor in merged.items():
            tuned = words[name] if method.startswith("words") else (words[name] + voices[name]) / 2
            torch.testing.assert_close(tensor, theta0[name] + alpha * (tuned - theta0[name]), rtol=0, atol=1e-6)
    finetuned = [model(experiment, f"{name}/stable_ft") for name in ("words", "voices")]
    merge(model(experiment, "none/pretrained"), finetuned, tmp_path / "ties", method="ties", density=0.3)
    ties, linear = weights(experiment, "both/ties", "both/speech_ft")
    assert not differing(load_file(tmp_path / "ties/model.safetensors"), ties)
    assert differing(ties, linear)


def test_a_merge_with_alpha_of_dev_is_at_the_alpha_that_was_chosen(experiment):
    choice = json.loads((experiment / "results/choices/tiny/words/chosen.json").read_text())
    assert [point["alpha"] for point in choice["points"]] == [0.0, 0.5, 1.0]
    provenance = json.loads((model(experiment, "words/chosen") / "provenance.json").read_text())
    assert provenance["recipe"]["alpha"] == choice["alpha"]
    among = {0.0: "none/pretrained", 0.5: "words/speech_ft@0.50", 1.0: "words/stable_ft"}[choice["alpha"]]
    chosen, same = weights(experiment, "words/chosen", among)
    assert not differing(chosen, same)


def test_the_table_shows_three_models_and_filterbanks_as_the_floor_of_its_score(experiment):
    assert cell_of(experiment, "fbank/none/pretrained/pr")["counts"]["test"]["utterances"] == 8
    text = (experiment / "results/tables/tiny.md").read_text()
    for label in ("| FBANK ", "Pre-trained", "Stable-FT", "Speech-FT", "quick", "tiny score", "s_floor is the mean of FBANK (fbank, none)"):
        assert label in text


def test_the_table_of_listed_rows_shows_their_cells(experiment):
    rows = table(experiment, "multitask")
    assert [row["label"] for row in rows] == ["Pre-trained", "PR alone", "Speech-FT (alpha 1.00)", "Speech-FT", "TIES"]
    for row in rows:
        cell = cell_of(experiment, f"tiny/{row['finetuning']}/{row['method']}/sid")
        assert float(row["value"]) == cell["metrics"]["SID"]
        assert (row["model_sha256"], row["status"]) == (cell["model"]["sha256"], "measured")
    assert "pending" not in (experiment / "results/tables/multitask.md").read_text()


def test_the_curve_has_three_alphas_and_that_of_the_method(experiment):
    rows = table(experiment, "alpha")
    points = [("0.0", "pretrained"), ("0.25", "speech_ft"), ("0.5", "speech_ft@0.50"), ("1.0", "stable_ft")]
    assert [(row["alpha"], row["method"]) for row in rows] == points
    for row in rows:
        assert float(row["mean"]) == cell_of(experiment, f"tiny/{row['finetuning']}/{row['method']}/pr")["metrics"]["PR"]
    merges = sorted(path.name for path in model(experiment, "words").iterdir() if not path.name.startswith("."))
    assert merges == ["chosen", "speech_ft", "speech_ft@0.50", "stable_ft"]


def test_the_analysis_compares_models_with_theta0(experiment):
    tuned, merged = (read(experiment / f"results/analysis/features/tiny/{name}.json") for name in ("words/stable_ft", "both/speech_ft"))
    assert tuned["model"] | {"sha256": ""} == {"encoder": "tiny", "finetuning": "words", "method": "stable_ft", "sha256": ""}
    assert tuned["start_sha256"] == merged["start_sha256"]
    assert 0 < merged["deviation"]["norm"] < tuned["deviation"]["norm"]
    assert tuned["parts"]["extractor"]["norm"] == 0.0
    assert tuned["utterances"] == 3
    text = (experiment / "results/tables/features.md").read_text()
    assert re.search(rf"\| Speech-FT +\| both +\| +{merged['deviation']['norm']:.4g} +\|", text)


def test_the_connection_ends_where_stage_1_did(experiment):
    line = read(experiment / "results/connections/barrier.json")
    with (model(experiment, "words") / "stable_ft/training.csv").open() as log:
        losses = [float(row["dev_loss"]) for row in csv.DictReader(log) if row["dev_loss"]]
    assert [point["alpha"] for point in line["points"]] == [0, 0.5, 1]
    assert any(line["points"][-1]["loss"] == pytest.approx(loss, rel=1e-3) for loss in losses)
    text = (experiment / "results/tables/barrier.md").read_text()
    assert "From Pre-trained (alpha 0) to Stable-FT (alpha 1)" in text
    assert "Loss barrier" in (experiment / "results/report.html").read_text()


def test_a_lost_table_comes_back_from_the_cells_alone(experiment):
    shown = experiment / "results/tables/tiny.md"
    before = shown.read_text()
    shown.unlink()
    output = snakemake(experiment)
    assert shown.read_text() == before
    assert "evaluate" not in jobs_of(output)


def test_a_cell_is_replaced_in_one_instant_and_the_table_follows(experiment):
    cell, shown = experiment / CELL, experiment / "results/tables/multitask.md"
    before, shown_before, old = cell.stat(), shown.stat(), read(cell)
    seen: set[str] = set()
    done = threading.Event()

    def watch():
        while not done.is_set():
            try:
                seen.add("whole" if read(cell)["task"] == "sid" else "another")
            except (OSError, ValueError) as error:
                seen.add(repr(error))
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        output = snakemake(experiment, "--forcerun", CELL, "--", "results/tables/multitask.md", **WARM)
    finally:
        done.set()
        watcher.join()
    assert seen == {"whole"}
    assert jobs_of(output).count("evaluate") == 1
    assert cell.stat().st_ino != before.st_ino
    assert shown.stat().st_mtime_ns > cell.stat().st_mtime_ns > shown_before.st_mtime_ns
    assert read(cell)["values"] == old["values"]


def test_a_model_by_its_path_gets_a_cell(experiment):
    random_encoder("hubert", experiment / "elsewhere/mine", seed=5)
    mine = 'encoders={"mine": {"kind": "checkpoint", "path": "elsewhere/mine"}}'
    snakemake(experiment, "--config", mine, "--", "results/cells/mine/none/pretrained/sid.json", **WARM)
    made, tiny = (cell_of(experiment, f"{name}/none/pretrained/sid")["model"] for name in ("mine", "tiny"))
    assert made["encoder"] == "mine"
    assert made["sha256"] != tiny["sha256"]
