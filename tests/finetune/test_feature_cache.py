"""The output of a frozen extractor, kept on disk: the same weights to the bit, whatever becomes of the file."""

import errno
import json
import logging
import os
import shutil

import pytest
import torch
from finetune.watching import interrupted_after

from speechft.encoders import load_encoder
from speechft.files.hashes import sha256_file
from speechft.finetune import batches, finetune
from speechft.finetune.feature_cache import FeatureCache, room_for_features
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.values import validate
from speechft.tasks.sid import SpeakerIdentification

RECIPE = FinetuneRecipe(task="sid", updates=12, batch_size=4, accumulate=2, validate_every=3, peak_lr=2e-3, seed=3, early=(0.4,))
COMPARED = ("model.safetensors", "early/0.40/model.safetensors", "training.csv")
FILES = ("sid-dev.f32", "sid-train.f32")


def hashes(out):
    return [sha256_file(out / file) for file in COMPARED]


def recipe(changes):
    return validate(FinetuneRecipe, {**RECIPE.model_dump(), **changes}, "test")


@pytest.fixture(scope="module")
def without(theta0, corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("without") / "out"
    finetune(theta0, RECIPE, corpus, out, out.parent / "work", cache_gb=0, keep_work=True)
    assert not (out.parent / "work/features").exists()
    return hashes(out)


@pytest.fixture(scope="module")
def interrupted(theta0, corpus, tmp_path_factory):
    work = tmp_path_factory.mktemp("interrupted") / "work"
    with interrupted_after(7):
        finetune(theta0, RECIPE, corpus, work.parent / "out", work)
    return work


def test_weights_are_the_same_and_audio_is_not_read_again(without, theta0, corpus, tmp_path, monkeypatch):
    read = []
    load_audio = batches.load_audio
    monkeypatch.setattr(batches, "load_audio", lambda cut: read.append(cut.id) or load_audio(cut))
    finetune(theta0, RECIPE, corpus, tmp_path / "out", tmp_path / "work")
    assert hashes(tmp_path / "out") == without
    # fairseq reads dev once before it trains; then it is scored four times.
    assert sum(name.startswith("dev") for name in read) == 2 * 9
    # 24 batches visit train five times; some are read ahead.
    assert sum(name.startswith("train") for name in read) < 2 * 18
    assert not (tmp_path / "work").exists()
    assert "cache_gb" not in json.loads((tmp_path / "out/provenance.json").read_text())["recipe"]


def harm_checksums(path):
    content = bytearray(path.read_bytes())
    content[: 8 * 18] = bytes(range(8 * 18))
    path.write_bytes(content)


def harm_features(path):
    """As if the process had died while it wrote each of them."""
    content = bytearray(path.read_bytes())
    content[8 * 18 :] = bytes(len(content) - 8 * 18)
    path.write_bytes(content)


DAMAGE = {
    "nothing": lambda path: None,
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "wrong checksums": harm_checksums,
    "unfinished features": harm_features,
    "cannot be opened": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_resumed_run_ends_the_same_whatever_became_of_the_file(damage, without, interrupted, theta0, corpus, tmp_path):
    shutil.copytree(interrupted, tmp_path / "work")
    for name in FILES:
        DAMAGE[damage](tmp_path / "work/features" / name)
    finetune(theta0, RECIPE, corpus, tmp_path / "out", tmp_path / "work")
    assert hashes(tmp_path / "out") == without


def test_a_run_may_resume_with_another_size(without, interrupted, theta0, corpus, tmp_path):
    shutil.copytree(interrupted, tmp_path / "work")
    finetune(theta0, RECIPE, corpus, tmp_path / "out", tmp_path / "work", cache_gb=1e-5)
    assert hashes(tmp_path / "out") == without


def test_a_full_disk_costs_one_warning(without, theta0, corpus, tmp_path, monkeypatch, caplog):
    written, pwrite = [], os.pwrite

    def until_full(file, content, offset):
        written.append(offset)
        if len(written) > 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(file, content, offset)

    monkeypatch.setattr(os, "pwrite", until_full)
    with caplog.at_level(logging.WARNING, "speechft.finetune"):
        finetune(theta0, RECIPE, corpus, tmp_path / "out", tmp_path / "work", keep_work=True)
    assert hashes(tmp_path / "out") == without
    (warning,) = (record.getMessage() for record in caplog.records if "cannot cache features" in record.getMessage())
    assert "No space left on device" in warning
    assert not list((tmp_path / "work/features").iterdir()), "no room is taken"
    assert len(written) == 31, "nothing more is written"


# Changes -> what is kept.
KEPT = {
    "adapters": ({"adapters": {"kind": "lora", "rank": 2}}, FILES),
    "bf16": ({"precision": "bf16"}, FILES),
    "the extractor learns": ({"head_only": 0.0, "freeze_extractor": False}, ()),
    "features depend on the batch": ({"padding": "reference"}, ()),
}


@pytest.mark.parametrize("name", KEPT)
def test_only_what_never_changes_is_kept(name, theta0, corpus, tmp_path):
    changes, files = KEPT[name]
    chosen = recipe({"updates": 6, **changes})
    finetune(theta0, chosen, corpus, tmp_path / "with", tmp_path / "work", keep_work=True)
    assert tuple(sorted(path.name for path in (tmp_path / "work").glob("features/*"))) == files
    if files:
        finetune(theta0, chosen, corpus, tmp_path / "without", cache_gb=0)
        assert hashes(tmp_path / "with") == hashes(tmp_path / "without")


def test_crops_are_drawn_anew(without, theta0, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(SpeakerIdentification, "train_crop_seconds", 0.45)
    finetune(theta0, RECIPE, corpus, tmp_path / "with", tmp_path / "work", keep_work=True)
    finetune(theta0, RECIPE, corpus, tmp_path / "without", cache_gb=0)
    assert hashes(tmp_path / "with") == hashes(tmp_path / "without") != without
    kept = [(tmp_path / "work/features" / name).stat().st_size for name in FILES]
    assert 8 * 18 < kept[1] < 2 * kept[0], "some of 18 utterances of train, but all 9 of dev"


def test_a_budget_holds_the_first_utterances_and_another_finds_them(tmp_path):
    frames = [3, None, 5, 2]
    features = {item: torch.randn(count, 4) for item, count in enumerate(frames) if count}
    # Four checksums, and 16 bytes a frame.
    small = FeatureCache(tmp_path / "features/x.f32", frames, 4, budget_bytes=32 + 16 * 8)
    for item, value in features.items():
        small.write(item, value)
    assert (tmp_path / "features/x.f32").stat().st_size == small.bytes == 32 + 16 * 8
    assert [small.read(item) is not None for item in range(4)] == [True, False, True, False]
    large = FeatureCache(tmp_path / "features/x.f32", frames, 4, budget_bytes=1e6)
    large.write(3, features[3])
    for item, value in features.items():
        assert torch.equal(large.read(item), value)
    assert large.read(1) is None
    none = FeatureCache(tmp_path / "none/x.f32", frames, 4, budget_bytes=32)
    none.write(0, features[0])
    assert none.read(0) is None
    assert none.bytes == 0
    assert not (tmp_path / "none").exists()


def test_a_cache_leaves_half_of_a_disk_to_others(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9e9, 5e9, 4e9))
    assert room_for_features(tmp_path / "features", 1) == 1e9
    assert room_for_features(tmp_path / "features", 3) == 2e9
    (tmp_path / "features").mkdir()
    (tmp_path / "features/x.f32").write_bytes(bytes(1 << 20))
    assert room_for_features(tmp_path / "features", 3) == pytest.approx(2e9 + (1 << 19), abs=5000)


def test_features_of_an_utterance_are_those_of_any_batch(theta0):
    encoder = load_encoder(theta0)
    waveforms = [torch.randn(length, generator=torch.Generator().manual_seed(length)) for length in (8000, 3000, 7000)]
    together = encoder.extract(waveforms)
    assert all(torch.equal(own, encoder.extract([waveform])[0]) for own, waveform in zip(together, waveforms, strict=True))
    encoded, expected = encoder.encode_features(together), encoder.encode(waveforms)
    assert torch.equal(encoded.lengths, expected.lengths)
    assert len(encoded.hidden_states) == 1
    torch.testing.assert_close(encoded.hidden_states[-1], expected.hidden_states[-1], atol=1e-5, rtol=0)
