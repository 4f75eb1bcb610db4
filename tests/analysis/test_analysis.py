"""Weight deviation and feature similarity against their definitions; files, refusals, table and figure."""

import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT
from evaluate.tone_corpus import make_splits, write_splits
from safetensors.torch import load_file
from typer.testing import CliRunner

from speechft.analysis.deviation import part_of, weight_deviation
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


def test_deviation_is_the_norm_of_the_difference(models):
    start, tuned = (load_file(models / name / "model.safetensors") for name in ("theta0", "tuned"))
    whole, parts = weight_deviation(models / "theta0", models / "tuned")
    difference = torch.cat([(tuned[name].double() - start[name].double()).flatten() for name in start])
    norm = torch.cat([start[name].double().flatten() for name in start]).norm()
    assert whole.norm == pytest.approx(float(difference.norm()), rel=1e-9)
    assert whole.relative == pytest.approx(float(difference.norm() / norm), rel=1e-9)
    assert set(parts) == {"extractor", "projection", "positions", "layer_1", "layer_2", "rest"}
    assert math.sqrt(sum(part.norm**2 for part in parts.values())) == pytest.approx(whole.norm, rel=1e-9)
    first = [name for name in start if name.startswith("encoder.layers.0.")]
    expected = torch.cat([(tuned[name] - start[name]).double().flatten() for name in first]).norm()
    assert parts["layer_1"].norm == pytest.approx(float(expected), rel=1e-6)


def test_a_merge_moves_by_alpha(models):
    tuned, _ = weight_deviation(models / "theta0", models / "tuned")
    merged, _ = weight_deviation(models / "theta0", models / "merged")
    assert merged.norm == pytest.approx(0.25 * tuned.norm, rel=1e-5)
    same, parts = weight_deviation(models / "theta0", models / "theta0")
    assert same.norm == same.relative == 0.0
    assert all(part.norm == 0.0 for part in parts.values())


def test_parts_of_an_encoder():
    names = {
        "feature_extractor.conv_layers.0.conv.weight": "extractor",
        "feature_projection.projection.bias": "projection",
        "encoder.pos_conv_embed.conv.parametrizations.weight.original0": "positions",
        "encoder.layers.11.attention.q_proj.weight": "layer_12",
        "encoder.layer_norm.weight": "rest",
        "masked_spec_embed": "rest",
    }
    assert {name: part_of(name) for name in names} == names


def test_similarity_follows_its_definition(models, corpus, tmp_path):
    value = analyse(models / "theta0", models / "tuned", corpus, tmp_path / "result.json", AnalysisRecipe(utterances=9))
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
    assert read_result(tmp_path / "result.json").cosine == pytest.approx(np.mean([state["cosine"] for state in value["states"]]))


def test_a_merge_stays_nearer_than_what_it_is_made_of(models, corpus, tmp_path):
    results = {name: analyse(models / "theta0", models / name, corpus, tmp_path / f"{name}.json") for name in ("theta0", "merged", "tuned")}
    for measure in ("cosine", "cka"):
        means = {name: np.mean([state[measure] for state in value["states"]]) for name, value in results.items()}
        assert means["theta0"] == pytest.approx(1.0, abs=1e-5)
        assert means["theta0"] > means["merged"] > means["tuned"]
    assert analyse(models / "theta0", models / "merged", corpus, tmp_path / "again.json") == results["merged"]


def test_bf16_is_recorded_and_marked(models, corpus, tmp_path):
    files = {}
    for precision in ("fp32", "bf16"):
        recipe = AnalysisRecipe(utterances=3, precision=precision)
        files[precision] = tmp_path / f"{precision}.json"
        analyse(models / "theta0", models / "tuned", corpus, files[precision], recipe, model_name=f"e/f/{precision}")
    exact, rounded = (read_result(path) for path in files.values())
    assert (exact.precision, rounded.precision) == ("fp32", "bf16")
    assert rounded.cosine != exact.cosine
    assert rounded.cosine == pytest.approx(exact.cosine, abs=0.02)
    assert rounded.deviation == exact.deviation
    rows = [{"encoder": "e", "finetuning": "f", "method": name, "label": name.upper()} for name in files]
    build_analysis(AnalysisTableRecipe.model_validate({"title": "A", "rows": rows}), list(files.values()), tmp_path / "out", None, "a")
    text = (tmp_path / "out/a.md").read_text()
    assert "| FP32  |" in text
    assert "| BF16† |" in text
    assert "†: features in bf16" in text
    frame = pd.read_csv(tmp_path / "out/a.csv")
    assert list(frame.groupby("method")["precision"].unique().explode()) == ["bf16", "fp32"]
    # A result of an earlier version says it among its software.
    content = json.loads(files["bf16"].read_text())
    content.pop("precision")
    files["bf16"].write_text(json.dumps({**content, "software": {"encoder_precision": "bf16 autocast"}}))
    assert read_result(files["bf16"]).precision == "bf16"


def test_alignment_ignores_rotation_and_scale():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(50, 8, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))
    comparison = Comparison(8, torch.device("cpu"))
    for part in (slice(0, 20), slice(20, 50)):
        comparison.add(frames[part], 3 * frames[part] @ rotation + 1)
    result = comparison.result(4)
    assert result.state == 4
    assert result.cka == pytest.approx(1.0)
    assert result.cosine < 0.9
    constant = Comparison(8, torch.device("cpu"))
    constant.add(torch.ones(5, 8), torch.ones(5, 8))
    assert (constant.result(0).cosine, constant.result(0).cka) == (pytest.approx(1.0), 1.0)


def test_utterances_are_taken_from_the_whole_split(models, corpus, tmp_path):
    few = analyse(models / "theta0", models / "tuned", corpus, tmp_path / "few.json", AnalysisRecipe(utterances=3))
    assert few["utterances"] == 3
    lengths = [load_encoder(models / "theta0").frame_count(len(load_audio(cut))) for cut in list(load_split(corpus, "dev"))[::3]]
    assert few["frames"] == sum(lengths)


def test_what_can_not_be_compared(models, corpus, tmp_path):
    random_encoder("hubert", tmp_path / "deeper", encoder_layers=3)
    random_encoder("wav2vec2", tmp_path / "other")
    for other in ("deeper", "other"):
        with pytest.raises(AnalysisError, match="cannot be compared with .*differ in family or size"):
            analyse(models / "theta0", tmp_path / other, corpus, tmp_path / "out.json")
    with pytest.raises(AnalysisError, match="no such directory"):
        analyse(models / "theta0", tmp_path / "nothing", corpus, tmp_path / "out.json")
    shutil.copytree(models / "tuned", tmp_path / "broken")
    (tmp_path / "broken/model.safetensors").write_bytes(b"12345")
    with pytest.raises(AnalysisError, match="broken"):
        analyse(models / "theta0", tmp_path / "broken", corpus, tmp_path / "out.json")
    with pytest.raises(CorpusError, match="no such folder"):
        analyse(models / "theta0", models / "tuned", tmp_path / "nothing", tmp_path / "out.json")
    with pytest.raises(ConfigError, match="encoder/finetuning/method"):
        analyse(models / "theta0", models / "tuned", corpus, tmp_path / "out.json", model_name="mine")
    assert not (tmp_path / "out.json").exists()


@pytest.fixture(scope="module")
def results(models, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for name, method in (("tuned", "stable_ft"), ("merged", "speech_ft")):
        analyse(models / "theta0", models / name, corpus, folder / f"{method}.json", model_name=f"e/f/{method}")
    return folder


RECIPE = AnalysisTableRecipe(
    title="What fine-tuning did",
    note="Tones.",
    rows=[
        {"encoder": "e", "finetuning": "f", "method": method, "label": label}
        for method, label in (("stable_ft", "Stable-FT"), ("speech_ft", "Speech-FT"), ("l2", "L2"))
    ],
)


def test_table_and_figure(results, tmp_path):
    files = [*sorted(results.iterdir()), tmp_path / "missing.json"]
    for folder in ("a", "b"):
        build_analysis(RECIPE, files, tmp_path / folder, tmp_path / folder, "features")
    for suffix in ("csv", "md", "png", "svg"):
        assert (tmp_path / f"a/features.{suffix}").read_bytes() == (tmp_path / f"b/features.{suffix}").read_bytes()
    found = {method: read_result(results / f"{method}.json") for method in ("stable_ft", "speech_ft")}
    text = (tmp_path / "a/features.md").read_text()
    for label, method in (("Stable-FT", "stable_ft"), ("Speech-FT", "speech_ft")):
        result = found[method]
        (line,) = [line.split() for line in text.splitlines() if line.startswith(f"| {label} ")]
        assert line[5:11:2] == [f"{result.deviation.norm:.4g}", f"{100 * result.deviation.relative:.2f}", f"{result.cosine:.4f}"]
    assert "| L2        | f           | pending          |" in text
    assert "- Pending: 1 of 3 models." in text
    frame = pd.read_csv(tmp_path / "a/features.csv")
    row = frame[(frame["method"] == "speech_ft") & (frame["quantity"] == "cosine") & (frame["of"] == "state_2")]
    assert row["value"].item() == found["speech_ft"].states[2].cosine
    assert frame[frame["method"] == "l2"]["quantity"].tolist() == ["pending"]
    assert (tmp_path / "a/features.png").stat().st_size > 5000


def test_all_of_an_experiment_includes_its_analyses(results, tmp_path):
    values = yaml.safe_load((ROOT / "tests/experiment.yaml").read_text())
    rows = [{"model": "pr_sentences/stable_ft"}, {"model": "pr_sentences/speech_ft"}]
    values["analyses"] = {"features": {"encoder": "hubert_demo", "corpus": "sentences", "rows": rows}}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(values))
    result = json.loads((results / "stable_ft.json").read_text())
    result["model"].update(encoder="hubert_demo", finetuning="pr_sentences")
    path = tmp_path / "copied/analysis/features/hubert_demo/pr_sentences/stable_ft.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(result))
    (tmp_path / "copied/cells").mkdir()
    published = ROOT / "config/published.csv"
    written = build_experiment(tmp_path / "e.yaml", tmp_path / "copied/cells", published, tmp_path / "out", only=["features"])
    assert written == ["features"]
    text = (tmp_path / "out/features.md").read_text()
    assert f"| Stable-FT | pr_sentences | {result['deviation']['norm']:.4g} " in text
    assert "| Speech-FT | pr_sentences | pending " in text
    assert not list(tmp_path.rglob("*.png"))


def test_results_that_are_none(results, tmp_path):
    (tmp_path / "bad.json").write_text('{"schema": 1}')
    with pytest.raises(AnalysisError, match=r"bad\.json: .*problems"):
        build_analysis(RECIPE, [tmp_path / "bad.json"], tmp_path / "out", tmp_path / "out", "x")
    shutil.copy(results / "stable_ft.json", tmp_path / "copy.json")
    with pytest.raises(AnalysisError, match="is about e/f/stable_ft, as another file is"):
        build_analysis(RECIPE, [results / "stable_ft.json", tmp_path / "copy.json"], tmp_path / "out", tmp_path / "out", "x")
    nameless = json.loads((results / "stable_ft.json").read_text())
    nameless["model"].update(encoder=None, finetuning=None, method=None)
    (tmp_path / "nameless.json").write_text(json.dumps(nameless))
    with pytest.raises(AnalysisError, match="does not say which model"):
        build_analysis(RECIPE, [tmp_path / "nameless.json"], tmp_path / "out", tmp_path / "out", "x")
    with pytest.raises(AnalysisError, match="no such file"):
        read_result(tmp_path / "absent.json")
    assert not (tmp_path / "out").exists()


def test_command_line(models, corpus, tmp_path):
    shown = CliRunner().invoke(
        app,
        [
            "analyse",
            *map(str, (models / "theta0", models / "merged", corpus)),
            "--out",
            str(tmp_path / "r.json"),
            "--name",
            "e/f/speech_ft",
        ],
    )
    assert shown.exit_code == 0, shown.output
    assert "weights moved by" in shown.stdout
    (tmp_path / "features.json").write_text(RECIPE.model_dump_json())
    arguments = ["report", "similarity", str(tmp_path / "features.json"), str(tmp_path / "r.json"), "--out", str(tmp_path / "t")]
    shown = CliRunner().invoke(app, [*arguments, "--figures", str(tmp_path / "f")])
    assert shown.exit_code == 0, shown.output
    assert "# What fine-tuning did" in shown.stdout
    found = sorted(f"{folder}/{path.name}" for folder in "ft" for path in (tmp_path / folder).iterdir())
    assert found == ["f/features.png", "f/features.svg", "t/features.csv", "t/features.md"]


def test_tables_of_analyses_are_made_without_torch(results, tmp_path):
    (tmp_path / "features.json").write_text(RECIPE.model_dump_json())
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise ImportError('no torch')")
    command = [sys.executable, "-m", "speechft.cli", "report", "similarity", tmp_path / "features.json", *results.iterdir()]
    command += ["--out", tmp_path / "t"]
    done = subprocess.run(
        list(map(str, command)), env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{tmp_path}:{ROOT}"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "t/features.md").is_file()
