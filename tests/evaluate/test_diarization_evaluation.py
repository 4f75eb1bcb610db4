import json

import numpy as np
import pytest
import torch
from evaluate.tone_corpus import make_cut, write_splits
from lhotse import SupervisionSegment

from speechft.encoders import load_encoder
from speechft.errors import TaskError
from speechft.evaluate import evaluate, plan_evaluation
from speechft.evaluate.data.features import FrozenEncoder
from speechft.evaluate.estimate import CHUNK_SECONDS
from speechft.evaluate.protocols import diarization
from speechft.evaluate.protocols.diarization import LabelledFrames
from speechft.recipes.cell import read_cell
from speechft.recipes.evaluation import evaluation_recipe
from speechft.tasks import get_task, sd

PITCH = (300.0, 1500.0)
QUICK = {"protocol": "quick", "steps": 10, "batch_size": 2, "accumulate": 1, "eval_every": 5, "learning_rates": [3e-3, 1e-6]}


def make_mixture(folder, name, seconds, generator, speakers=("a", "b")):
    """Two tones that come and go; who has which pitch changes from one recording to the next."""
    time = np.arange(round(seconds * 16000)) / 16000
    waveform = 0.01 * generator.standard_normal(len(time))
    turns = []
    for speaker, pitch in zip(speakers, PITCH, strict=False):
        for start in np.sort(generator.uniform(0, seconds - 0.5, 2)).round(2):
            turns.append((speaker, start, 0.4))
            active = (time >= start) & (time < start + 0.4)
            waveform += active * 0.2 * np.sin(2 * np.pi * pitch * time)
    cut = make_cut(folder / "wav", name, waveform)
    cut.supervisions = [
        SupervisionSegment(f"{name}-{index}", name, float(start), duration, channel=0, speaker=speaker)
        for index, (speaker, start, duration) in enumerate(turns)
    ]
    return cut


def make_corpus(folder, sizes=(6, 2, 3)):
    generator = np.random.default_rng(0)
    splits = {
        split: [make_mixture(folder, f"{split}{index}", 1.0 + 0.5 * (index % 3), generator) for index in range(size)]
        for split, size in zip(("train", "dev", "test"), sizes, strict=True)
    }
    return write_splits(folder, splits)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("mixtures"))


def test_a_cell_of_diarization(model_dir, corpus, tmp_path):
    out = tmp_path / "sd.json"
    cell = evaluate(model_dir, "sd", corpus, out, QUICK)
    assert json.loads(out.read_text()) == cell
    read_cell(out)
    assert cell["selected_on"] == "dev"
    assert cell["counts"]["labels"] == 2
    assert [cell["counts"][name]["utterances"] for name in ("train", "dev", "test")] == [6, 2, 3]
    assert cell["counts"]["encoder_passes"] == 11
    assert (
        cell["counts"]["trainable_parameters"]
        == load_encoder(model_dir).num_states + 4 * 512 * (load_encoder(model_dir).hidden_size + 512 + 2) + 2 * 513
    )
    for trial in cell["trials"]:
        assert set(trial["dev"]) == {"SD_ACC", "SD_FRAME_DER"}
    chosen, other = cell["trials"]
    assert chosen["selected"]
    assert chosen["dev"]["SD_ACC"] > other["dev"]["SD_ACC"]
    (selected,) = cell["selected"]
    assert len(selected["alternatives"]) == 10
    assert "threshold 0.3, median 11" in selected["alternatives"]
    assert cell["metrics"]["SD"] == selected["test"]["SD"] == min(found["SD"] for found in selected["alternatives"].values())
    assert cell["metrics"]["SD"] < 80.0


def test_chunks_of_a_recording_are_scored_together(model_dir, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(sd.chunk_bounds, "__defaults__", (40, 320))
    (fold,) = diarization.load(get_task("sd"), corpus, load_encoder(model_dir), evaluation_recipe("sd", QUICK))
    split = fold.splits["test"]
    for index, cut in enumerate(split.cuts):
        chunks = range(split.first_clip[index], split.first_clip[index + 1])
        labels = [fold.chunk_labels["test"][row] for row in chunks]
        assert torch.equal(torch.cat(labels), get_task("sd").target(cut, fold.labels))
        assert [split.clips[row].start for row in chunks] == list(range(0, cut.num_samples, 40 * 320))
        assert [split.clips[row].num_samples for row in chunks] == [320 * len(label) for label in labels]
    lengths = {}
    original = diarization.system_turns

    def measured(recording, probabilities, *settings):
        lengths[recording] = len(probabilities)
        return original(recording, probabilities, *settings)

    with monkeypatch.context() as patch:
        patch.setattr(diarization, "system_turns", measured)
        cell = evaluate(model_dir, "sd", corpus, tmp_path / "sd.json", {**QUICK, "steps": 1, "learning_rates": [1e-3]})
    assert lengths == {cut.id: cut.num_samples // 320 for cut in split.cuts}
    assert cell["counts"]["test"]["utterances"] == 3
    assert cell["counts"]["encoder_passes"] == sum(len(fold.splits[name].clips) for name in ("train", "dev", "test"))
    recipe = {**QUICK, "steps": 3, "eval_every": 2, "learning_rates": [1e-3], "seeds": [1, 2], "cache_gb": 0.0}
    recomputed = evaluate(model_dir, "sd", corpus, tmp_path / "recomputed.json", recipe)
    monkeypatch.setitem(CHUNK_SECONDS, "sd", 40 * 320 / 16000)
    plan = plan_evaluation(model_dir, "sd", corpus, recipe)
    assert (plan.encoder_passes, plan.head_steps) == (pytest.approx(recomputed["counts"]["encoder_passes"], rel=0.2), 6)


def test_features_have_the_frames_of_their_labels(model_dir, corpus):
    encoder = FrozenEncoder(load_encoder(model_dir), torch.device("cpu"))
    (fold,) = diarization.load(get_task("sd"), corpus, encoder.encoder, evaluation_recipe("sd", QUICK))
    labels = fold.chunk_labels["train"]
    features = LabelledFrames(encoder, fold.splits["train"], labels)
    together, lengths = features[[0, 1, 2]]
    assert lengths.tolist() == [len(labels[row]) for row in range(3)] == [50, 75, 100]
    for row in range(3):
        alone, _ = features[[row]]
        torch.testing.assert_close(together[:, row, : lengths[row]], alone[:, 0], atol=1e-4, rtol=0)
        # The encoder gives one frame less; the last one is repeated.
        assert torch.equal(alone[:, 0, -1], alone[:, 0, -2])
        assert not torch.equal(alone[:, 0, -2], alone[:, 0, -3])


def test_a_last_chunk_without_a_frame_is_counted(model_dir, tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    # 1.02 s are 51 frames; the last chunk of 50 has one, which is too short for the encoder.
    cuts = {name: [make_mixture(tmp_path, name, 1.02, generator)] for name in ("train", "dev", "test")}
    corpus = write_splits(tmp_path, cuts)
    monkeypatch.setattr(sd.chunk_bounds, "__defaults__", (50, 320))
    cell = evaluate(model_dir, "sd", corpus, tmp_path / "sd.json", {**QUICK, "steps": 2, "eval_every": 2})
    assert cell["counts"]["test"]["dropped"] == {"last chunk shorter than one encoder frame": 1}
    assert cell["counts"]["encoder_passes"] == 3


def test_recordings_that_can_not_be_used_are_all_named(model_dir, tmp_path):
    generator = np.random.default_rng(0)
    good = {name: [make_mixture(tmp_path, name, 1.0, generator)] for name in ("train", "dev", "test")}
    one = make_mixture(tmp_path, "one", 1.0, generator, speakers=("a", "a"))
    short = make_mixture(tmp_path, "short", 1.0, generator)
    short.duration = 0.01
    corpus = write_splits(tmp_path, {**good, "train": [*good["train"], one], "test": [*good["test"], short]})
    with pytest.raises(TaskError) as error:
        evaluate(model_dir, "sd", corpus, tmp_path / "sd.json", QUICK)
    assert "2 recording(s)" in str(error.value)
    assert "train: one: has 1 speaker(s) (a), need 2" in str(error.value)
    assert "test: short: 160 samples" in str(error.value)
    assert not (tmp_path / "sd.json").exists()
