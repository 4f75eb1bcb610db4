"""Crops of long training utterances: fixed ones, and new ones at every access."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from evaluate.corpora import FEW, QUICK
from evaluate.test_cells import without_times
from evaluate.tone_corpus import make_cut, make_splits, write_splits

from speechft.corpora import load_audio
from speechft.encoders import load_encoder
from speechft.evaluate import evaluate, plan_evaluation
from speechft.evaluate.data.clips import Clip, CropTable
from speechft.evaluate.data.features import CroppedMeans, FrozenEncoder, mean_vectors
from speechft.evaluate.data.splits import load_splits
from speechft.evaluate.probes.batches import training_batches
from speechft.tasks import get_task
from speechft.tasks.catalog import TASKS

SECONDS = 0.7
EVERY = {**QUICK["sid"], "crop_draws": "every"}


def short_crops():
    """SID, with crops that some of the tones are shorter than."""
    task = get_task("sid")
    task.train_crop_seconds = SECONDS
    return task


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def train(model_dir, manifests):
    return load_splits(short_crops(), manifests, load_encoder(model_dir), "every")[1]["train"]


def test_rows_of_crops_are_unique():
    clips = [Clip(None, 0, samples) for samples in (12, 5, 30, 10)]
    table = CropTable(clips, [10] * 4)
    assert len(table) == 2
    assert [clip.num_samples for clip in table] == [5, 10]
    assert table.heard == [10, 5, 10, 10]
    drawn, numbers = {}, generator()
    for utterance in range(4):
        for _ in range(60):
            row = table.draw(utterance, numbers)
            clip = table[row]
            assert clip.num_samples == table.heard[utterance]
            assert clip.start + clip.num_samples <= clips[utterance].num_samples
            assert drawn.setdefault(row, (utterance, clip.start)) == (utterance, clip.start)
    assert len({start for utterance, start in drawn.values() if utterance == 2}) > 15
    assert {start for utterance, start in drawn.values() if utterance == 0} == {0, 1, 2}
    assert [row for row, (utterance, _) in drawn.items() if utterance in (1, 3)] == [0, 1]


def test_every_access_has_a_new_crop(train):
    long = {cut.id for cut in train.cuts if cut.duration > SECONDS}
    assert 3 <= len(long) <= len(train) - 3

    def batches(seed=0):
        return [rows for rows, _ in islice(training_batches(get_task("sid"), train, len(train), generator(seed)), 5)]

    assert batches() == batches()
    starts = {cut.id: set() for cut in train.cuts}
    for clip in (train.clips[row] for rows in batches() for row in rows):
        starts[clip.cut.id].add(clip.start)
        if clip.cut.id in long:
            assert clip.num_samples == round(SECONDS * 16000)
            torch.testing.assert_close(clip.load(), load_audio(clip.cut)[clip.start : clip.start + clip.num_samples], atol=0, rtol=0)
    assert all(len(found) == (5 if cut_id in long else 1) for cut_id, found in starts.items())
    assert len({*batches()[0]} & {*batches(1)[0]}) == len(train) - len(long), "another seed has other crops"


def test_the_order_of_utterances_does_not_depend_on_crops(train, model_dir, manifests):
    encoder, task = load_encoder(model_dir), short_crops()
    fixed, several = (load_splits(task, manifests, encoder, draws)[1]["train"] for draws in (1, 5))
    streams = [
        [split.clips[row].cut.id for rows, _ in islice(training_batches(task, split, 4, generator()), 12) for row in rows]
        for split in (train, fixed, several)
    ]
    assert streams[0] == streams[1] == streams[2]


def test_features_are_those_of_the_cropped_waveform(train, model_dir, tmp_path):
    encoder = FrozenEncoder(load_encoder(model_dir), torch.device("cpu"))
    means = CroppedMeans(encoder, train.clips, mean_vectors(encoder, train.clips, tmp_path, "train"))
    before = encoder.passes
    rows = [row for rows, _ in islice(training_batches(get_task("sid"), train, 5, generator()), 2) for row in rows]
    found = means[torch.tensor(rows)]
    assert encoder.passes - before == sum(row >= len(train.clips) for row in rows) > 0
    for row, vectors in zip(rows, found, strict=True):
        clip = train.clips[row]
        waveform = load_audio(clip.cut)[clip.start : clip.start + clip.num_samples]
        states = encoder.encoder.encode([waveform]).hidden_states
        torch.testing.assert_close(vectors, torch.stack([state[0].mean(dim=0) for state in states]), atol=2e-5, rtol=0)


def test_a_killed_evaluation_hears_the_same_crops(model_dir, manifests, tmp_path, kill_after, count_passes, monkeypatch):
    monkeypatch.setitem(TASKS, "sid", replace(TASKS["sid"], crop_seconds=short_crops().train_crop_seconds))
    recipe = {**EVERY, "seeds": [1, 2]}
    expected = evaluate(model_dir, short_crops(), manifests, tmp_path / "whole.json", recipe)
    assert expected["counts"]["encoder_passes"] == count_passes["clips"]
    plan = plan_evaluation(model_dir, "sid", manifests, recipe)
    assert plan.encoder_passes == pytest.approx(expected["counts"]["encoder_passes"], rel=0.2)
    # 60 steps of two batches of at most four utterances, two seeds; about half of the utterances are long.
    assert 200 < plan.new_crops < 800
    assert f"{plan.new_crops:,.0f} passes are random crops" in str(plan)
    kill_after(110)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model_dir, short_crops(), manifests, tmp_path / "cell.json", recipe)
    made = kill_after()
    cell = evaluate(model_dir, short_crops(), manifests, tmp_path / "cell.json", recipe)
    assert made["steps"] == 20
    assert without_times(cell) == without_times(expected)
    fixed = plan_evaluation(model_dir, "sid", manifests, QUICK["sid"])
    assert (fixed.encoder_passes, fixed.new_crops) == (30, 0)


def test_utterances_that_are_heard_whole_need_one_pass(cell_of):
    cells = [cell_of("sid", crop_draws=draws) for draws in ("every", 1)]
    assert [cell["counts"]["encoder_passes"] for cell in cells] == [30, 30]
    assert cells[0]["trials"] == cells[1]["trials"]


def test_silence_is_cropped_anew_on_demand(model_dir, tmp_path):
    splits = make_splits(tmp_path, FEW)
    random = np.random.default_rng(0)
    for name in ("train", "dev", "test"):
        splits[name].append(make_cut(tmp_path / "wav", f"noise-{name}", 0.1 * random.standard_normal(40_000), label="_silence_"))
    manifests = write_splits(tmp_path, splits)
    train, dev = (load_splits(get_task("ks"), manifests, load_encoder(model_dir), "every")[1][name] for name in ("train", "dev"))
    assert len(train.clips) == 6
    assert train.clips[train.draw_clips([6], generator())[0]].num_samples == 16_000
    # Dev is scored on crops that do not change.
    assert [clip.num_samples for clip in dev.clips[3:]] == [16_000, 16_000]
    cell = evaluate(model_dir, "ks", manifests, tmp_path / "a.json", {**QUICK["ks"], "crop_draws": "every"})
    # Nine recordings that do not change, and a quarter of 60 batches of 7 draws, since classes are balanced.
    assert cell["counts"]["encoder_passes"] == pytest.approx(15 + 105, abs=36)
