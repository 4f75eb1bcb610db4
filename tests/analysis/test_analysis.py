"""Weight deviation and feature similarity against their definitions; files, refusals, table and figure."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT
from encoders.tiny import edit_json, weights
from evaluate.tone_corpus import make_splits, write_splits
from typer.testing import CliRunner

from speechft.analysis.deviation import weight_deviation
from speechft.analysis.engine import analyse
from speechft.analysis.report import build_analysis
from speechft.analysis.result import read_result
from speechft.analysis.similarity import Comparison
from speechft.cli import app
from speechft.corpora import load_audio, load_split
from speechft.encoders import load_encoder, random_encoder
from speechft.errors import AnalysisError, ConfigError, CorpusError
from speechft.merge import merge
from speechft.recipes.tables import AnalysisRecipe, AnalysisTableRecipe
from speechft.tables.experiment import build_experiment


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """theta0, another encoder in the place of a fine-tuned one, and a merge of both."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("theta0", "tuned")):
        random_encoder("hubert", folder / name, seed=seed)
    merge(folder / "theta0", [folder / "tuned"], folder / "merged", alpha=0.25)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    return write_splits(folder, make_splits(folder, {"train": 4, "dev": 9, "test": 4}))


@pytest.fixture(scope="module")
def results(models, corpus, tmp_path_factory):
    """Files of three models: stable_ft is `tuned`, speech_ft `merged`, none is theta0 itself."""
    folder = tmp_path_factory.mktemp("results")
    for name, method in (("tuned", "stable_ft"), ("merged", "speech_ft"), ("theta0", "none")):
        analyse(models / "theta0", models / name, corpus, folder / f"{method}.json", model_name=f"e/f/{method}")
    return folder


def table_of(**labels):
    rows = [{"encoder": "e", "finetuning": "f", "method": method, "label": label} for method, label in labels.items()]
    return AnalysisTableRecipe.model_validate({"title": "What fine-tuning did", "note": "Tones.", "rows": rows})


RECIPE = table_of(stable_ft="Stable-FT", speech_ft="Speech-FT", l2="L2")


PARTS = {
    "extractor": "feature_extractor.",
    "projection": "feature_projection.",
    "positions": "encoder.pos_conv_embed.",
    "layer_1": "encoder.layers.0.",
    "layer_2": "encoder.layers.1.",
    "rest": ("encoder.layer_norm.", "masked_spec_embed"),
}


def test_deviation_is_the_norm_of_the_difference(models):
    start, tuned = weights(models / "theta0"), weights(models / "tuned")
    whole, parts = weight_deviation(models / "theta0", models / "tuned")
    assert parts.keys() == PARTS.keys()
    for found, prefix in ((whole, ""), *((parts[part], prefix) for part, prefix in PARTS.items())):
        first, second = (
            torch.cat([tensor.double().flatten() for name, tensor in tensors.items() if name.startswith(prefix)])
            for tensors in (start, tuned)
        )
        assert found.norm == pytest.approx(float((second - first).norm()), rel=1e-9)
        assert found.relative == pytest.approx(float((second - first).norm() / first.norm()), rel=1e-9)


def test_a_merge_moves_by_alpha(models):
    tuned, merged, same = (weight_deviation(models / "theta0", models / name)[0].norm for name in ("tuned", "merged", "theta0"))
    assert merged == pytest.approx(0.25 * tuned, rel=1e-5)
    assert same == 0.0


def test_similarity_follows_its_definition(models, corpus, results):
    value = json.loads((results / "stable_ft.json").read_text())
    waveforms = [load_audio(cut) for cut in load_split(corpus, "dev")]
    with torch.inference_mode():
        outputs = [load_encoder(models / name).encode(waveforms) for name in ("theta0", "tuned")]
    valid = torch.arange(outputs[0].hidden_states[0].shape[1])[None, :] < outputs[0].lengths[:, None]
    assert value["frames"] == int(valid.sum())
    assert [state["state"] for state in value["states"]] == [0, 1, 2]
    for state in value["states"]:
        first, second = (output.hidden_states[state["state"]][valid].double().numpy() for output in outputs)
        cosine = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
        assert state["cosine"] == pytest.approx(cosine.mean(), abs=1e-4)
        first, second = first - first.mean(0), second - second.mean(0)
        cka = np.linalg.norm(first.T @ second) ** 2 / np.linalg.norm(first.T @ first) / np.linalg.norm(second.T @ second)
        assert state["cka"] == pytest.approx(cka, abs=1e-4)
    assert read_result(results / "stable_ft.json").cosine == pytest.approx(np.mean([state["cosine"] for state in value["states"]]))


def test_a_merge_stays_nearer_than_what_it_is_made_of(models, corpus, results, tmp_path):
    same, merged, tuned = (read_result(results / f"{method}.json") for method in ("none", "speech_ft", "stable_ft"))
    assert (same.cosine, same.cka) == (pytest.approx(1.0, abs=1e-5), pytest.approx(1.0, abs=1e-5))
    assert same.cosine > merged.cosine > tuned.cosine
    assert same.cka > merged.cka > tuned.cka
    analyse(models / "theta0", models / "merged", corpus, tmp_path / "again.json", model_name="e/f/speech_ft")
    assert (tmp_path / "again.json").read_text() == (results / "speech_ft.json").read_text()


def test_bf16_is_recorded_and_marked(models, corpus, results, tmp_path):
    rounded = tmp_path / "bf16.json"
    analyse(models / "theta0", models / "tuned", corpus, rounded, AnalysisRecipe(precision="bf16"), model_name="e/f/bf16")
    exact, found = read_result(results / "stable_ft.json"), read_result(rounded)
    assert (exact.precision, found.precision) == ("fp32", "bf16")
    assert found.cosine != exact.cosine
    assert found.cosine == pytest.approx(exact.cosine, abs=0.02)
    assert found.deviation == exact.deviation
    build_analysis(table_of(stable_ft="FP32", bf16="BF16"), [results / "stable_ft.json", rounded], tmp_path / "out", None, "a")
    text = (tmp_path / "out/a.md").read_text()
    for expected in ("| FP32  |", "| BF16† |", "†: features in bf16"):
        assert expected in text
    frame = pd.read_csv(tmp_path / "out/a.csv")
    assert list(frame.groupby("method")["precision"].unique().explode()) == ["bf16", "fp32"]
    # A result of an earlier version says it among its software.
    content = json.loads(rounded.read_text())
    content.pop("precision")
    rounded.write_text(json.dumps({**content, "software": {"encoder_precision": "bf16 autocast"}}))
    assert read_result(rounded).precision == "bf16"


def test_alignment_of_constant_frames_is_complete():
    constant = Comparison(8, torch.device("cpu"))
    constant.add(torch.ones(5, 8), torch.ones(5, 8))
    assert (constant.result(0).cosine, constant.result(0).cka) == (pytest.approx(1.0), 1.0)


def test_utterances_are_taken_from_the_whole_split(models, corpus, tmp_path):
    few = analyse(models / "theta0", models / "tuned", corpus, tmp_path / "few.json", AnalysisRecipe(utterances=3))
    assert few["utterances"] == 3
    lengths = [load_encoder(models / "theta0").frame_count(len(load_audio(cut))) for cut in list(load_split(corpus, "dev"))[::3]]
    assert few["frames"] == sum(lengths)


def test_what_can_not_be_compared(models, corpus, tmp_path):
    out = tmp_path / "out.json"

    def refused(model, match, error=AnalysisError, manifests=corpus, **options):
        with pytest.raises(error, match=match):
            analyse(models / "theta0", model, manifests, out, **options)
        assert not out.exists()

    for other in (random_encoder("hubert", tmp_path / "deeper", encoder_layers=3), random_encoder("wav2vec2", tmp_path / "other")):
        refused(other, "cannot be compared with .*differ in family or size")
    refused(tmp_path / "nothing", "no such directory")
    shutil.copytree(models / "tuned", tmp_path / "broken")
    (tmp_path / "broken/model.safetensors").write_bytes(b"12345")
    refused(tmp_path / "broken", "broken")
    refused(models / "tuned", "no such folder", CorpusError, tmp_path / "nothing")
    refused(models / "tuned", "encoder/finetuning/method", ConfigError, model_name="mine")


def test_table_and_figure(results, tmp_path):
    files = [*sorted(results.iterdir()), tmp_path / "missing.json"]
    for folder in ("a", "b"):
        build_analysis(RECIPE, files, tmp_path / folder, tmp_path / folder, "features")
    for suffix in ("csv", "md", "png", "svg"):
        assert (tmp_path / f"a/features.{suffix}").read_bytes() == (tmp_path / f"b/features.{suffix}").read_bytes()
    text = (tmp_path / "a/features.md").read_text()
    for label, method in (("Stable-FT", "stable_ft"), ("Speech-FT", "speech_ft")):
        result = read_result(results / f"{method}.json")
        (line,) = [line.split() for line in text.splitlines() if line.startswith(f"| {label} ")]
        assert line[5:11:2] == [f"{result.deviation.norm:.4g}", f"{100 * result.deviation.relative:.2f}", f"{result.cosine:.4f}"]
    assert "| L2        | f           | pending          |" in text
    assert "- Pending: 1 of 3 models." in text
    frame = pd.read_csv(tmp_path / "a/features.csv")
    row = frame[(frame["method"] == "speech_ft") & (frame["quantity"] == "cosine") & (frame["of"] == "state_2")]
    assert row["value"].item() == result.states[2].cosine
    assert frame[frame["method"] == "l2"]["quantity"].tolist() == ["pending"]
    assert (tmp_path / "a/features.png").stat().st_size > 5000


def test_all_of_an_experiment_includes_its_analyses(results, tmp_path):
    values = yaml.safe_load((ROOT / "tests/experiment.yaml").read_text())
    rows = [{"model": "pr_sentences/stable_ft"}, {"model": "pr_sentences/speech_ft"}]
    values["analyses"] = {"features": {"encoder": "hubert_demo", "corpus": "sentences", "rows": rows}}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(values))
    result = json.loads((results / "stable_ft.json").read_text())
    path = tmp_path / "copied/analysis/features/hubert_demo/pr_sentences/stable_ft.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**result, "model": {**result["model"], "encoder": "hubert_demo", "finetuning": "pr_sentences"}}))
    (tmp_path / "copied/cells").mkdir()
    published = ROOT / "config/published.csv"
    written = build_experiment(tmp_path / "e.yaml", tmp_path / "copied/cells", published, tmp_path / "out", only=["features"])
    assert written == ["features"]
    text = (tmp_path / "out/features.md").read_text()
    assert f"| Stable-FT | pr_sentences | {result['deviation']['norm']:.4g} " in text
    assert "| Speech-FT | pr_sentences | pending " in text
    assert not list(tmp_path.rglob("*.png"))


def test_results_that_are_none(results, tmp_path):
    good, bad, nameless = results / "stable_ft.json", tmp_path / "bad.json", tmp_path / "nameless.json"
    bad.write_text('{"schema": 1}')
    for path in (tmp_path / "copy.json", nameless):
        shutil.copy(good, path)
    edit_json(nameless, model={**json.loads(good.read_text())["model"], "method": None})
    for files, message in (
        ([bad], r"bad\.json: .*problems"),
        ([good, tmp_path / "copy.json"], "is a result of e/f/stable_ft, like another file"),
        ([nameless], "has no model name"),
    ):
        with pytest.raises(AnalysisError, match=message):
            build_analysis(RECIPE, files, tmp_path / "out", tmp_path / "out", "x")
    content = json.loads(good.read_text())
    for change in ({"states": content["states"] * 2}, {"deviation": {"norm": 7.0, "relative": 0.1}}, {"frames": -1}):
        bad.write_text(json.dumps({**content, **change}))
        with pytest.raises(AnalysisError, match=r"bad\.json: 1 problem"):
            read_result(bad)
    with pytest.raises(AnalysisError, match="no such file"):
        read_result(tmp_path / "absent.json")
    assert not (tmp_path / "out").exists()


def test_command_line(models, corpus, tmp_path):
    def speechft(*arguments):
        shown = CliRunner().invoke(app, list(map(str, arguments)))
        assert shown.exit_code == 0, shown.output
        return shown.stdout

    inputs = (models / "theta0", models / "merged", corpus)
    assert "weights moved by" in speechft("analyse", *inputs, "--out", tmp_path / "r.json", "--name", "e/f/speech_ft")
    (tmp_path / "features.json").write_text(RECIPE.model_dump_json())
    command = ["report", "similarity", tmp_path / "features.json", tmp_path / "r.json", "--out", tmp_path / "t"]
    assert "# What fine-tuning did" in speechft(*command, "--figures", tmp_path / "f")
    found = sorted(f"{folder}/{path.name}" for folder in "ft" for path in (tmp_path / folder).iterdir())
    assert found == ["f/features.png", "f/features.svg", "t/features.csv", "t/features.md"]


def test_tables_of_analyses_are_made_without_torch(results, tmp_path):
    (tmp_path / "features.json").write_text(RECIPE.model_dump_json())
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise ImportError('no torch')")
    command = [sys.executable, "-m", "speechft.cli", "report", "similarity", tmp_path / "features.json", *results.iterdir()]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(list(map(str, [*command, "--out", tmp_path / "t"])), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "t/features.md").is_file()
