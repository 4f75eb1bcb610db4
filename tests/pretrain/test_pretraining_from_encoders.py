"""HuBERT's later iterations and continued pre-training; wav2vec 2.0."""

import json
import shutil

import pytest
import torch
from finetune.watching import read_log
from pretrain.small_pretraining import ARCHITECTURE, BATCHES, RECIPE, interrupted_after
from torch.nn.functional import cosine_similarity

from speechft.encoders import export_checkpoint, load_encoder
from speechft.encoders.directory.layout import read_pretraining_only, read_source_config, read_tensors
from speechft.encoders.directory.random_encoders import random_encoder
from speechft.errors import CheckpointError, ConfigError, TrainingError
from speechft.fairseq_plugin.trainer import import_fairseq
from speechft.merge import merge
from speechft.pretrain import continue_pretraining, pretrain
from speechft.pretrain.kmeans_labels import load_centroids, read_waveform
from speechft.recipes.pretraining import ContinuedPretrainRecipe, PretrainRecipe

SECOND = {"architecture": ARCHITECTURE, "clusters": 6, "updates": 6, "warmup_updates": 2, "validate_every": 4, **BATCHES}
CONTINUED = {"updates": 10, "head_only": 0.3, "validate_every": 5, "peak_lr": 1e-3, **BATCHES}
WAV2VEC2 = {
    "family": "wav2vec2",
    "architecture": ARCHITECTURE,
    "contrastive": {"negatives": 10, "entries": 8},
    "updates": 30,
    "warmup_updates": 2,
    "peak_lr": 5e-3,
    "validate_every": 10,
    **BATCHES,
}


@pytest.fixture(scope="module")
def manifests(make_corpus, tmp_path_factory):
    return [make_corpus(tmp_path_factory.mktemp("speech") / "a", {"train": 14}, seconds=(0.3, 0.8))]


@pytest.fixture(scope="module")
def models(manifests, tmp_path_factory):
    """One of each kind; `{name}_work` is its work directory."""
    folder = tmp_path_factory.mktemp("models")
    pretrain(RECIPE, manifests, folder / "first")
    second = PretrainRecipe(**SECOND, targets={"layer": 1})
    pretrain(second, manifests, folder / "second", folder / "second_work", targets_from=folder / "first", keep_work=True)
    pretrain(PretrainRecipe(**WAV2VEC2), manifests, folder / "wav2vec2", folder / "wav2vec2_work", keep_work=True)
    for start, name in (("first", "own"), ("wav2vec2", "wav2vec2_more")):
        recipe = ContinuedPretrainRecipe(**CONTINUED)
        continue_pretraining(folder / start, recipe, manifests, folder / name, folder / f"{name}_work", keep_work=True)
    return folder


def train_files(work):
    root, *lines = (work / "data/train.tsv").read_text().splitlines()
    return [f"{root}/{line.split()[0]}" for line in lines]


def test_layer_targets_are_the_nearest_clusters_of_each_frame_at_50_hz(models):
    encoder, centroids = load_encoder(models / "first"), torch.from_numpy(load_centroids(models / "second_work/data/centroids.npy"))
    lines = (models / "second_work/data/train.km").read_text().splitlines()
    assert centroids.shape == (6, 32)
    for path, line in zip(train_files(models / "second_work"), lines, strict=True):
        wave = read_waveform(path)
        labels = list(map(int, line.split()))
        assert len(labels) == encoder.frame_count(len(wave))
        with torch.no_grad():
            frames = encoder.encode([wave]).hidden_states[1][0]
        assert labels == torch.cdist(frames, centroids).argmin(dim=1).tolist()
    assert json.loads((models / "second_work/data/labels.json").read_text()) == {"rate": 50.0, "symbols": 6}
    facts = json.loads((models / "second/provenance.json").read_text())
    assert set(facts["inputs"]) == {"manifest_0", "targets", "targets_pretraining_only"}
    assert len(read_pretraining_only(models / "second")["label_embs_concat"]) == 6 + 4


def test_layer_targets_learn_from_random_weights(models):
    assert not torch.equal(*(read_tensors(models / name / "model.safetensors")["masked_spec_embed"] for name in ("first", "second")))


def opened_by_fairseq(encoder, folder, expected_task):
    import_fairseq()
    from fairseq import checkpoint_utils

    export_checkpoint(encoder, folder / f"{encoder.name}.pt")
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(folder / f"{encoder.name}.pt")])
    assert type(task).__name__ == expected_task
    return model.eval()


def test_own_predictions_are_those_of_fairseqs_model(models, tmp_path):
    model = opened_by_fairseq(models / "first", tmp_path, "HubertPretrainingTask")
    lines = (models / "own_work/data/train.km").read_text().splitlines()
    for path, line in list(zip(train_files(models / "own_work"), lines, strict=True))[:4]:
        with torch.no_grad():
            x = model.extract_features(read_waveform(path)[None])[0][0]
            scores = cosine_similarity(model.final_proj(x)[:, None], model.label_embs_concat[None], dim=-1)
        assert list(map(int, line.split())) == scores[:, 4:].argmax(dim=1).tolist()


@pytest.mark.parametrize(("start", "name"), [("first", "own"), ("wav2vec2", "wav2vec2_more")])
def test_continued_pretraining_begins_with_the_encoder_and_then_the_head_alone(models, start, name):
    before, after = read_tensors(models / start / "model.safetensors"), read_tensors(models / name / "model.safetensors")
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert not any(key.startswith("feature_extractor.") for key in changed)
    assert "encoder.layers.1.attention.k_proj.weight" in changed
    head_before, head_after = read_pretraining_only(models / start), read_pretraining_only(models / name)
    assert head_before.keys() == head_after.keys()
    assert not torch.equal(head_before["final_proj.weight"], head_after["final_proj.weight"])
    log = read_log(models / name)
    assert [row["phase"] for row in log] == ["head"] * 3 + ["all"] * 7
    assert [float(row["lr"]) for row in log] == pytest.approx([1e-3 * k for k in (0, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2)])


def test_head_phase_leaves_the_encoder_as_it_was(models, manifests, tmp_path):
    recipe = ContinuedPretrainRecipe(**{**CONTINUED, "updates": 4, "head_only": 1.0})
    continue_pretraining(models / "first", recipe, manifests, tmp_path / "out")
    before, after = read_tensors(models / "first/model.safetensors"), read_tensors(tmp_path / "out/model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    heads = read_pretraining_only(models / "first"), read_pretraining_only(tmp_path / "out")
    assert not torch.equal(heads[0]["label_embs_concat"], heads[1]["label_embs_concat"])


def test_own_layer_of_an_encoder_without_a_head_gives_targets(theta0, manifests, tmp_path):
    recipe = ContinuedPretrainRecipe(**{**CONTINUED, "updates": 4}, targets={"layer": 2}, clusters=5)
    continue_pretraining(theta0, recipe, manifests, tmp_path / "out")
    assert len(read_pretraining_only(tmp_path / "out")["label_embs_concat"]) == 5 + 4
    merge(theta0, tmp_path / "out", tmp_path / "merged", alpha=0.25)
    before, after, merged = (read_tensors(path / "model.safetensors") for path in (theta0, tmp_path / "out", tmp_path / "merged"))
    name = "encoder.layers.0.attention.q_proj.weight"
    torch.testing.assert_close(merged[name], 0.75 * before[name] + 0.25 * after[name])


def test_contrastive_loss_falls_and_the_right_latent_is_found_more_often(models):
    log = read_log(models / "wav2vec2")
    first, last = (sum(float(row["loss"]) for row in part) / 5 for part in (log[:5], log[-5:]))
    assert last < first - 0.1
    assert float(log[-1]["temperature"]) == pytest.approx(0.5, abs=1e-3)
    assert float(log[0]["temperature"]) == pytest.approx(2.0, abs=1e-3)
    assert [int(row["update"]) for row in log if row["valid_loss"]] == [10, 20, 30]
    assert 1.0 <= float(log[-1]["code_perplexity"]) <= 16.0


def test_wav2vec2_keeps_its_quantizer_and_equals_fairseqs_model(models, tmp_path):
    state = torch.load(models / "wav2vec2_work/checkpoints/checkpoint_last.pt", weights_only=True)["model"]
    kept = read_pretraining_only(models / "wav2vec2")
    assert {"quantizer.vars", "quantizer.weight_proj.weight", "project_q.weight", "final_proj.weight"} <= set(kept)
    assert all(torch.equal(kept[name], state[name]) for name in kept)
    for name in ("wav2vec2", "wav2vec2_more"):
        model = opened_by_fairseq(models / name, tmp_path, "AudioPretrainingTask")
        wave = torch.randn(6000, generator=torch.Generator().manual_seed(0)) * 0.1
        with torch.no_grad():
            theirs = model.extract_features(wave[None], padding_mask=None)["x"][0]
            ours = load_encoder(models / name).encode([wave]).hidden_states[-1][0]
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "updates"), [("second", 5), ("own", 7), ("wav2vec2", 13)])
def test_interrupted_runs_end_with_the_same_weights(name, updates, models, manifests, tmp_path):
    def run():
        folders = (manifests, tmp_path / "out", tmp_path / "work")
        if name == "second":
            pretrain(PretrainRecipe(**SECOND, targets={"layer": 1}), *folders, targets_from=models / "first")
        elif name == "own":
            continue_pretraining(models / "first", ContinuedPretrainRecipe(**CONTINUED), *folders)
        else:
            pretrain(PretrainRecipe(**WAV2VEC2), *folders)

    with interrupted_after(updates, "RepeatableWav2Vec2Task" if name == "wav2vec2" else "RepeatableHubertTask"):
        run()
    run()
    for file in ("model.safetensors", "pretraining_only.safetensors", "training.csv"):
        assert (tmp_path / "out" / file).read_bytes() == (models / name / file).read_bytes(), file


def test_dropped_layers_are_repeatable(manifests, tmp_path):
    start = random_encoder("wav2vec2", tmp_path / "start", encoder_layerdrop=0.5)
    recipe = ContinuedPretrainRecipe(**{**CONTINUED, "updates": 4})
    for out in ("a", "b"):
        continue_pretraining(start, recipe, manifests, tmp_path / out)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert read_source_config(tmp_path / "a")["model_cfg"]["encoder_layerdrop"] == 0.5


@pytest.mark.parametrize(("source", "family"), [("first", "wav2vec2"), ("wav2vec2", "hubert")])
def test_the_other_family_can_be_the_start(source, family, models, manifests, tmp_path):
    changed = {key: value for key, value in (SECOND if family == "hubert" else WAV2VEC2).items() if key != "architecture"}
    recipe = PretrainRecipe(**{**changed, "family": family, "updates": 1})
    pretrain(recipe, manifests, tmp_path / "out", start=models / source)
    start, made = load_encoder(models / source), load_encoder(tmp_path / "out")
    assert made.family == family
    # The learning rate of the first update is 0.
    for name, tensor in start.backbone.state_dict().items():
        assert torch.equal(made.backbone.state_dict()[name], tensor), name
    head = read_pretraining_only(tmp_path / "out")
    assert ("quantizer.vars" in head) == (family == "wav2vec2")
    assert ("label_embs_concat" in head) == (family == "hubert")
    assert len(read_log(tmp_path / "out")) == 1


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"targets": {"layer": 1}}, {}, "targets-from"),
        ({"targets": {"layer": 9}}, {"targets_from": "first"}, "hidden states 0"),
        ({"targets": {"layer": 1}, "clusters": 10_000}, {"targets_from": "first"}, "10000 clusters"),
        ({"targets": "own_predictions"}, {}, "none is given"),
        ({}, {"start": "first"}, "architecture"),
    ],
)
def test_what_is_impossible_is_named(changes, options, message, models, manifests, tmp_path):
    recipe = PretrainRecipe(**{**SECOND, **changes})
    with pytest.raises((ConfigError, TrainingError), match=message):
        pretrain(recipe, manifests, tmp_path / "out", **{key: models / name for key, name in options.items()})
    assert not (tmp_path / "out").exists()


def test_encoders_that_cannot_be_continued_are_named(manifests, theta0, tmp_path):
    odd = shutil.copytree(theta0, tmp_path / "odd")
    source = json.loads((odd / "source_config.json").read_text())
    (odd / "source_config.json").write_text(json.dumps({**source, "dictionaries": [{"symbols": list("abcdefghi")}]}))
    wavlm = random_encoder("wavlm", tmp_path / "wavlm")
    for encoder, message in ((odd, "special|begins with"), (wavlm, "cannot pre-train wavlm")):
        with pytest.raises(CheckpointError, match=message):
            continue_pretraining(encoder, ContinuedPretrainRecipe(**CONTINUED), manifests, tmp_path / "out")
