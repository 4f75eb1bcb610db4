"""`speechft connect`: loss and error between two encoders, with the head of stage 1."""

import csv
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from speechft.analysis.connection import connect
from speechft.analysis.connection_report import barrier, build_connection
from speechft.cli import app
from speechft.encoders import random_encoder
from speechft.encoders.directory.layout import HEAD
from speechft.errors import AnalysisError, CheckpointError, ConfigError, OutputError
from speechft.finetune import finetune
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.tables import ConnectionRecipe, TableRow

RECIPE = {"task": "sid", "updates": 20, "batch_size": 4, "validate_every": 10, "peak_lr": 1e-3, "head_only": 0.2}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A tiny encoder, two fine-tunings of it, and the manifests."""
    from evaluate.tone_corpus import make_corpus

    folder = tmp_path_factory.mktemp("connect")
    base = random_encoder("hubert", folder / "base", seed=0, encoder_layers=1)
    manifests = make_corpus(folder)
    for seed in (1, 2):
        finetune(base, FinetuneRecipe(**RECIPE, seed=seed), manifests, folder / f"tuned{seed}")
    return folder, manifests


def test_the_ends_are_the_encoders_and_the_head_is_that_of_stage_1(tuned, tmp_path):
    folder, manifests = tuned
    found = connect(folder / "base", folder / "tuned1", manifests, tmp_path / "line.json", [0, 0.1, 0.5, 1])
    recorded = json.loads((folder / "tuned1/provenance.json").read_text())["recipe"]
    assert (found.task, found.split, found.head, found.utterances) == ("sid", "dev", "end", 6)
    # At the end are the scores that stage 1 saw when it kept the encoder.
    assert found.points[-1].scores["SID"] == pytest.approx(100 * recorded["dev_score"])
    log = [line.split(",") for line in (folder / "tuned1/training.csv").read_text().splitlines()]
    row = next(line for line in log if line[0] == str(recorded["best_update"]))
    assert found.points[-1].loss == pytest.approx(float(row[log[0].index("dev_loss")]), rel=1e-4)
    assert found.points[0].loss > found.points[-1].loss
    start, near, middle, end = (point.loss for point in found.points)
    assert abs(near - start) < abs(near - end), "a small alpha is near the start"
    assert found.loss_barrier == pytest.approx(max(0, near - 0.9 * start - 0.1 * end, middle - (start + end) / 2), abs=1e-9)
    assert json.loads((tmp_path / "line.json").read_text())["points"][2]["alpha"] == 0.5


def test_between_two_fine_tunings_heads_are_interpolated_too(tuned, tmp_path):
    folder, manifests = tuned
    found = connect(folder / "tuned2", folder / "tuned1", manifests, tmp_path / "a.json", [0, 1])
    back = connect(folder / "tuned1", folder / "tuned2", manifests, tmp_path / "b.json", [0, 1])
    assert found.head == "interpolated"
    assert [point.loss for point in found.points] == pytest.approx([point.loss for point in reversed(back.points)])
    provenance = folder / "tuned2/provenance.json"
    before = provenance.read_text()
    recorded = json.loads(before)
    recorded["inputs"]["manifest_train"]["sha256"] = "of another corpus"
    provenance.write_text(json.dumps(recorded))
    assert connect(folder / "tuned2", folder / "tuned1", manifests, tmp_path / "c.json", [0, 1]).head == "end"
    provenance.write_text(before)


def test_the_barrier_is_over_the_straight_line():
    assert barrier([(0, 1.0), (0.5, 3.0), (1, 2.0)]) == pytest.approx(1.5)
    assert barrier([(0, 1.0), (0.5, 0.5), (1, 2.0)]) == 0


def test_the_command_draws_it(tuned, tmp_path):
    folder, manifests = tuned
    words = ["connect", str(folder / "base"), str(folder / "tuned1"), str(manifests), "--alpha", "0,0.25,1"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "line.json"), "--figure", str(tmp_path / "line.png")])
    assert done.exit_code == 0, done.output
    assert "loss barrier" in done.output
    assert (tmp_path / "line.png").stat().st_size > 5000
    assert CliRunner().invoke(app, [*words[:-1], "zero", "--out", str(tmp_path / "x.json")]).exit_code == 2


def test_a_fold_that_was_left_out(tuned, tmp_path):
    from evaluate.corpora import FOLDS, folds

    manifests = folds(tmp_path)
    finetune(tuned[0] / "base", FinetuneRecipe(**{**RECIPE, "task": "er"}, fold="Ses2"), manifests, tmp_path / "er")
    recorded = json.loads((tmp_path / "er/provenance.json").read_text())["recipe"]
    dev, test = (
        connect(tuned[0] / "base", tmp_path / "er", manifests, tmp_path / f"{split}.json", [0, 1], split) for split in ("dev", "test")
    )
    assert dev.points[-1].scores["ER"] == pytest.approx(100 * recorded["dev_score"])
    assert test.utterances == FOLDS["Ses2"]


RESULT = {
    "schema": 1, "task": "sid", "split": "dev", "utterances": 6, "head": "end", "loss_barrier": 0.25, "error_barrier": 15.0,
    "start": {"encoder": "e", "finetuning": "none", "method": "pretrained", "sha256": "a"},
    "end": {"encoder": "e", "finetuning": "f", "method": "stable_ft", "sha256": "b"},
    "metrics": [{"key": "SID", "name": "acc", "higher_is_better": True}],
    "points": [
        {"alpha": alpha, "loss": loss, "scores": {"SID": score}}
        for alpha, loss, score in [(0, 3.0, 20.0), (0.5, 2.75, 40.0), (1, 2.0, 90.0)]
    ],
}  # fmt: skip
ENDS = [
    TableRow(encoder="e", finetuning=tuning, method=method, label=label)
    for tuning, method, label in (("none", "pretrained", "Pre-trained"), ("f", "stable_ft", "Stable-FT"))
]
RECIPE_SHOWN = ConnectionRecipe(title="A | line", alphas=(0, 0.5, 1), start=ENDS[0], end=ENDS[1], commands=("snakemake it",))


def test_table_and_figure_of_a_connection(tmp_path):
    (tmp_path / "line.json").write_text(json.dumps(RESULT))
    build_connection(RECIPE_SHOWN, tmp_path / "line.json", tmp_path / "tables", tmp_path / "figures", "line")
    text = (tmp_path / "tables/line.md").read_text()
    assert text.startswith("# A \\| line\n")
    assert [cell.strip() for cell in text.splitlines()[5].split("|")[1:4]] == ["0.5", "2.7500", "40.00"]
    assert "Loss barrier 0.25, error barrier 15.00 (errors of acc)" in text
    rows = list(csv.DictReader((tmp_path / "tables/line.csv").open()))
    assert [(row["alpha"], row["loss"], row["SID"], row["error_barrier"]) for row in rows][1] == ("0.5", "2.75", "40.0", "15.0")
    assert (tmp_path / "figures/line.svg").is_file()


def test_a_connection_that_is_not_there_is_pending(tmp_path):
    assert build_connection(RECIPE_SHOWN, tmp_path / "none.json", tmp_path, tmp_path, "line") is None
    text = (tmp_path / "line.md").read_text()
    assert "| 0.5   | pending |" in text
    assert "snakemake it" in text
    (tmp_path / "old.json").write_text(json.dumps(RESULT))
    for stale in ({"alphas": (0, 0.25, 1)}, {"split": "test"}, {"start": ENDS[1], "end": ENDS[0]}):
        assert build_connection(RECIPE_SHOWN.model_copy(update=stale), tmp_path / "old.json", tmp_path, None, "line") is None
    points = RESULT["points"]
    without_a_score = [{**point, "scores": {}} for point in points]
    impossible = [{**point, "scores": {"SID": 250.0}} for point in points]
    changed = [{"points": without_a_score}, {"points": impossible}, {"points": points[::-1]}, {"points": points[:2]}]
    changed += [{"metrics": [{**RESULT["metrics"][0], "decimals": -1}]}]
    changed += [{"metrics": []}, {"points": []}, {"loss_barrier": 7.0}, {"error_barrier": 0.0}, {"utterances": -4}]
    for bad in ({}, *({**RESULT, **change} for change in changed)):
        (tmp_path / "bad.json").write_text(json.dumps(bad))
        with pytest.raises(AnalysisError, match="is not an output of `speechft connect`"):
            build_connection(RECIPE_SHOWN, tmp_path / "bad.json", tmp_path, None, "line")


def test_refusals(tuned, tmp_path):
    folder, manifests = tuned
    out = tmp_path / "line.json"
    with pytest.raises(AnalysisError, match="is not an output of `speechft finetune`"):
        connect(folder / "tuned1", folder / "base", manifests, out, [0, 1])
    for alphas in ([0.5, 1], [0, 1, 2], [0, float("nan"), 1]):
        with pytest.raises(AnalysisError, match="must range from 0 to 1"):
            connect(folder / "base", folder / "tuned1", manifests, out, alphas)
    other = random_encoder("hubert", tmp_path / "other", seed=0, encoder_layers=2)
    with pytest.raises(AnalysisError, match="the encoders differ in shape"):
        connect(other, folder / "tuned1", manifests, out, [0, 1])
    (tmp_path / "tuned").mkdir()
    for path in (folder / "tuned1").iterdir():
        if path.is_file():
            (tmp_path / "tuned" / path.name).write_bytes(path.read_bytes())
    head = load_file(tmp_path / "tuned" / HEAD)
    save_file({name: value * float("nan") for name, value in head.items()}, tmp_path / "tuned" / HEAD)
    with pytest.raises(CheckpointError, match=f"{HEAD}: its SHA-256 differs from provenance.json"):
        connect(folder / "base", tmp_path / "tuned", manifests, out, [0, 1])
    provenance = json.loads((tmp_path / "tuned/provenance.json").read_text())
    del provenance["outputs"][HEAD]  # as an earlier speechft wrote it
    (tmp_path / "tuned/provenance.json").write_text(json.dumps(provenance))
    with pytest.raises(AnalysisError, match="the loss at alpha 0 is nan"):
        connect(folder / "base", tmp_path / "tuned", manifests, out, [0, 1])
    save_file({name: torch.cat([value, value]) for name, value in head.items()}, tmp_path / "tuned" / HEAD)
    with pytest.raises(AnalysisError, match=f"its {HEAD} does not match task 'sid' on these manifests"):
        connect(folder / "base", tmp_path / "tuned", manifests, out, [0, 1])
    (tmp_path / "tuned" / HEAD).unlink()
    with pytest.raises(AnalysisError, match="because an earlier speechft wrote it"):
        connect(folder / "base", tmp_path / "tuned", manifests, out, [0, 1])
    with pytest.raises(ConfigError, match="a model is named encoder/finetuning/method"):
        connect(folder / "base", folder / "tuned1", manifests, out, [0, 1], names=("base", None))
    out.write_text("{}")
    with pytest.raises(OutputError):
        connect(folder / "base", folder / "tuned1", manifests, out, [0, 1])
