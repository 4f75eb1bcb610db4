"""mini/proxies.py: quantities of real models, and their ranks beside made-up cells."""

import csv
import json
import shutil
import sys

import pytest
from conftest import ROOT
from tables.conftest import cell_json

from speechft.encoders import random_encoder
from speechft.finetune import finetune
from speechft.merge import merge
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.tables.metrics import METRICS

THETA0, HALF, TUNED = "none/pretrained", "linear@0.50", "stable_ft"


@pytest.fixture
def proxies(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "mini"))
    import proxies

    for name in ("PATH", "ALL"):
        monkeypatch.setattr(proxies, name, [THETA0, HALF, TUNED])
    monkeypatch.setattr(proxies, "FIXED", (HALF, TUNED))
    yield proxies
    for name in ("proxies", "laboratory"):
        sys.modules.pop(name)


@pytest.mark.slow
def test_quantities_of_models(proxies, tmp_path):
    from evaluate.tone_corpus import make_corpus

    manifests = make_corpus(tmp_path)
    for corpus in ("sentences", "speakers"):
        shutil.copytree(manifests, tmp_path / "corpora" / corpus)
    models = tmp_path / "models/e"
    base = random_encoder("hubert", models / THETA0, seed=0, encoder_layers=1)
    recipe = FinetuneRecipe(task="sid", updates=20, batch_size=4, validate_every=10, peak_lr=1e-3, head_only=0.2)
    finetune(base, recipe, manifests, models / "sid_1" / TUNED)
    merge(base, [models / "sid_1" / TUNED], models / "sid_1" / HALF, alpha=0.5)
    found = proxies.measure(tmp_path, "e", "sid_1")
    assert list(found) == [THETA0, HALF, TUNED]
    assert found[THETA0]["deviation"] == 0 < found[HALF]["deviation"] < found[TUNED]["deviation"]
    assert found[TUNED]["fisher"] == 0
    information = proxies.fisher(proxies.OwnTask(models / "sid_1" / TUNED, tmp_path / "corpora/speakers", "dev"))
    assert all((square >= 0).all() for square in information.values())
    assert found[HALF]["fisher"] == pytest.approx(found[THETA0]["fisher"] / 4, rel=1e-3)
    assert found[THETA0]["cka_start"] == pytest.approx(1) == pytest.approx(found[TUNED]["cka_end"])
    assert found[THETA0]["cka_end"] == pytest.approx(found[TUNED]["cka_start"])
    with (models / "sid_1" / TUNED / "training.csv").open() as log:
        losses = [float(row["dev_loss"]) for row in csv.DictReader(log) if row["dev_loss"]]
    assert any(found[TUNED]["loss"] == pytest.approx(loss, rel=1e-4) for loss in losses)


def test_ranks(proxies, tmp_path, monkeypatch):
    for name, value in {"ENCODERS": ("e",), "TUNINGS": ("asr",), "SEEDS": (1,), "TASKS": ("qbe", "sid")}.items():
        monkeypatch.setattr(proxies, name, value)
    # (model, SID on dev, SID on test, QbE on dev): the merge is best on test, and QbE ranks the models in reverse.
    for model, dev, test, qbe in ((THETA0, 50, 50, 0.5), (f"asr_1/{HALF}", 70, 75, 0.3), (f"asr_1/{TUNED}", 80, 60, 0.4)):
        for task, on_dev, on_test in (("sid", dev, test), ("qbe", qbe, 0.5)):
            key = {"sid": "SID", "qbe": "QbE"}[task]
            metric = next(metric for name, metric in METRICS.items() if name.lower() == key.lower())
            content = cell_json(f"e/{model}", task, {metric.key: [on_test]})
            content["trials"][0]["dev"] = {metric.key: on_dev}
            content["described"] = [{field: getattr(metric, field) for field in metric.__dataclass_fields__}]
            path = tmp_path / f"cells/e/{model}/{task}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
    keys = ("deviation", "cka_start", "cosine_start", "cka_end", "fisher", "loss")
    measured = {model: dict.fromkeys(keys, place) for place, model in enumerate((THETA0, TUNED, HALF))}
    (tmp_path / "proxies/e").mkdir(parents=True)
    (tmp_path / "proxies/e/asr_1.json").write_text(json.dumps(measured))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in proxies.lines(tmp_path)]
    first = {row[0]: row[1:] for row in rows[: rows.index([""])]}
    # Gains are 0, 0.5 and 0.2. Nearness in weights puts theta0 first and the best last; QbE too.
    assert first["near theta0 in weights"] == ["-1.00 ± 0.00", "50.0 ± 0.0", "50.0 ± 0.0", "20.0 ± 0.0"]
    assert first["QbE on dev, which trains nothing"][:2] == ["-1.00 ± 0.00", "50.0 ± 0.0"]
    assert first["all tasks on dev (no proxy)"] == ["0.50 ± 0.00", "30.0 ± 0.0", "30.0 ± 0.0", "0.0 ± 0.0"]
    assert first[f"always {HALF}"][1] == "0.0 ± 0.0"
    # A quantity that is the same for all models ranks nothing: the first model of the list is taken, which is theta0.
    constant = proxies.Ranking(tmp_path).correlation(lambda of: 0.0, proxies.PATH)
    assert (constant.mean, proxies.Ranking(tmp_path).lost(lambda of: 0.0, proxies.PATH).mean) == (0.0, 50.0)
