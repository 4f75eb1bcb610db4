from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluate.corpora import QUICK, make_mixture
from evaluate.tone_corpus import write_splits

from speechft.conventions import SPLITS
from speechft.encoders import load_encoder
from speechft.errors import TaskError
from speechft.evaluate import evaluate, plan_evaluation
from speechft.evaluate.data.features import FrozenEncoder
from speechft.evaluate.protocols import diarization
from speechft.evaluate.protocols.diarization import LabelledFrames
from speechft.tasks import get_task, sd
from speechft.tasks.catalog import TASKS


@pytest.fixture
def corpus(corpus_of):
    return corpus_of("sd")


def test_the_best_setting_of_the_post_processing_is_reported(cell_of):
    cell = cell_of("sd")
    chosen, other = cell["trials"]
    assert chosen["selected"]
    assert chosen["dev"]["SD_ACC"] > other["dev"]["SD_ACC"]
    assert set(chosen["dev"]) == {"SD_ACC", "SD_FRAME_DER"}
    (selected,) = cell["selected"]
    assert len(selected["alternatives"]) == 10
    assert "threshold 0.3, median 11" in selected["alternatives"]
    assert cell["metrics"]["SD"] == selected["test"]["SD"] == min(found["SD"] for found in selected["alternatives"].values())
    assert cell["metrics"]["SD"] < 80.0


def test_chunks_of_a_recording_are_scored_together(model_dir, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(sd.chunk_bounds, "__defaults__", (40, 320))
    (fold,) = diarization.load(get_task("sd"), corpus, load_encoder(model_dir))
    split = fold.splits["test"]
    for index, cut in enumerate(split.cuts):
        chunks = range(split.first_clip[index], split.first_clip[index + 1])
        labels = [fold.chunk_labels["test"][row] for row in chunks]
        assert torch.equal(torch.cat(labels), get_task("sd").target(cut, fold.labels))
        assert [split.clips[row].start for row in chunks] == list(range(0, cut.num_samples, 40 * 320))
        assert [split.clips[row].num_samples for row in chunks] == [320 * len(label) for label in labels]
    lengths, original = {}, diarization.system_turns

    def measured(recording, probabilities, *settings):
        lengths[recording] = len(probabilities)
        return original(recording, probabilities, *settings)

    with monkeypatch.context() as patch:
        patch.setattr(diarization, "system_turns", measured)
        cell = evaluate(model_dir, "sd", corpus, tmp_path / "sd.json", {**QUICK["sd"], "steps": 1, "learning_rates": [1e-3]})
    assert lengths == {cut.id: cut.num_samples // 320 for cut in split.cuts}
    assert cell["counts"]["test"]["utterances"] == 3
    assert cell["counts"]["encoder_passes"] == sum(len(fold.splits[name].clips) for name in SPLITS)
    recipe = {**QUICK["sd"], "steps": 3, "eval_every": 2, "learning_rates": [1e-3], "seeds": [1, 2], "cache_gb": 0.0}
    recomputed = evaluate(model_dir, "sd", corpus, tmp_path / "recomputed.json", recipe)
    monkeypatch.setitem(TASKS, "sd", replace(TASKS["sd"], chunk_seconds=40 * 320 / 16000))
    plan = plan_evaluation(model_dir, "sd", corpus, recipe)
    assert (plan.encoder_passes, plan.head_steps) == (pytest.approx(recomputed["counts"]["encoder_passes"], rel=0.2), 6)


def test_features_have_the_frames_of_their_labels(model_dir, corpus):
    encoder = FrozenEncoder(load_encoder(model_dir), torch.device("cpu"))
    (fold,) = diarization.load(get_task("sd"), corpus, encoder.encoder)
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
    corpus = write_splits(tmp_path, {name: [make_mixture(tmp_path, name, 1.02, generator)] for name in SPLITS})
    monkeypatch.setattr(sd.chunk_bounds, "__defaults__", (50, 320))
    cell = evaluate(model_dir, "sd", corpus, tmp_path / "sd.json", {**QUICK["sd"], "steps": 2, "eval_every": 2})
    assert cell["counts"]["test"]["dropped"] == {"last chunk shorter than one encoder frame": 1}
    assert cell["counts"]["encoder_passes"] == 3


def test_recordings_that_cannot_be_used_are_all_named(model_dir, tmp_path):
    generator = np.random.default_rng(0)
    splits = {name: [make_mixture(tmp_path, name, 1.0, generator)] for name in SPLITS}
    splits["train"].append(make_mixture(tmp_path, "one", 1.0, generator, speakers=("a", "a")))
    splits["test"].append(make_mixture(tmp_path, "short", 1.0, generator))
    splits["test"][-1].duration = 0.01
    message = r"(?s)2 recording\(s\).*train: one: has 1 speaker\(s\) \(a\), expected 2.*test: short: 160 samples"
    with pytest.raises(TaskError, match=message):
        evaluate(model_dir, "sd", write_splits(tmp_path, splits), tmp_path / "sd.json", QUICK["sd"])
    assert not (tmp_path / "sd.json").exists()
