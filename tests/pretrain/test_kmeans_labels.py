import numpy as np
import pytest
import soundfile
import torch

from speechft.errors import TrainingError
from speechft.pretrain import kmeans_labels
from speechft.pretrain.kmeans_labels import (
    cluster_labels,
    fit_kmeans,
    mfcc_features,
    mfcc_frames,
    normalized,
    slopes,
    smoothed,
    write_labels,
)


def kaldi_mfcc(waveform, num_filters=23, num_ceps=13):
    """MFCC by the book, in float64: whole windows, DC removal, preemphasis, Povey window, mel, log, DCT-II, lifter."""
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    frames = []
    for start in range(0, len(waveform) - 399, 160):
        frame = waveform[start : start + 400].astype(np.float64)
        frame = frame - frame.mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        frames.append(np.abs(np.fft.rfft(frame * window, 512)) ** 2)
    mel = 1127.0 * np.log(1.0 + np.arange(257) * 16000 / 512 / 700.0)
    low, high = 1127.0 * np.log(1.0 + 20.0 / 700.0), 1127.0 * np.log(1.0 + 8000.0 / 700.0)
    centers = low + np.arange(num_filters + 2) * (high - low) / (num_filters + 1)
    rising = (mel[:, None] - centers[None, :-2]) / np.diff(centers)[:-1]
    falling = (centers[None, 2:] - mel[:, None]) / np.diff(centers)[1:]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters[256] = 0.0
    log_mel = np.log(np.maximum(np.stack(frames) @ filters, 1.1920929e-07))
    basis = np.cos(np.pi / num_filters * (np.arange(num_filters) + 0.5)[:, None] * np.arange(num_ceps)) * np.sqrt(2.0 / num_filters)
    basis[:, 0] = np.sqrt(1.0 / num_filters)
    lifter = 1.0 + 11.0 * np.sin(np.pi * np.arange(num_ceps) / 22.0)
    return log_mel @ basis * lifter


def test_cepstra_are_kaldis():
    waveform = torch.tensor(np.random.default_rng(0).standard_normal(4000) * 0.1, dtype=torch.float32)
    features = mfcc_features(waveform)
    assert features.shape == (1 + (4000 - 400) // 160, 39)
    np.testing.assert_allclose(features[:, :13], kaldi_mfcc(waveform.numpy()), atol=2e-3)
    np.testing.assert_allclose(features[:, 13:26], slopes(features[:, :13]), atol=1e-5)
    np.testing.assert_allclose(features[:, 26:], slopes(slopes(features[:, :13])), atol=1e-5)


def test_slope_of_a_ramp_is_its_slope():
    ramp = np.arange(10, dtype=np.float32)[:, None] * np.array([[3.0, -1.0]], dtype=np.float32)
    np.testing.assert_allclose(slopes(ramp)[2:-2], np.broadcast_to([3.0, -1.0], (6, 2)), atol=1e-5)


def write_files(folder, waveforms):
    files = [folder / f"{index}.flac" for index in range(len(waveforms))]
    for file, waveform in zip(files, waveforms, strict=True):
        soundfile.write(file, waveform, 16000)
    return files


def test_clusters_tell_tones_apart_and_are_repeatable(tmp_path):
    time = np.arange(8000) / 16000
    files = write_files(tmp_path, [0.3 * np.sin(2 * np.pi * pitch * time) for pitch in (300, 900, 2700)])
    centroids = fit_kmeans(files, 3, seed=0)
    np.testing.assert_array_equal(centroids, fit_kmeans(files, 3, seed=0))
    write_labels(tmp_path / "train.km", files, cluster_labels(mfcc_frames, centroids))
    lines = [line.split() for line in (tmp_path / "train.km").read_text().splitlines()]
    assert [len(line) for line in lines] == [48] * 3
    assert len({max(set(line), key=line.count) for line in lines}) == 3
    with pytest.raises(TrainingError, match="145 clusters"):
        fit_kmeans(files, 145, seed=0)


def test_labels_that_were_cut_go_on_where_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(kmeans_labels, "LABEL_PART", 2)
    files = write_files(tmp_path, [np.zeros(800 * (index + 1)) for index in range(5)])
    seen = []

    def label(waveforms):
        seen.append(len(waveforms))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return [np.array([len(waveform) // 800]) for waveform in waveforms]

    with pytest.raises(KeyboardInterrupt):
        write_labels(tmp_path / "train.km", files, label)
    assert not (tmp_path / "train.km").exists()
    write_labels(tmp_path / "train.km", files, label)
    assert seen == [2, 2, 1, 1]
    assert (tmp_path / "train.km").read_text().split() == ["1", "2", "3", "4", "5"]
    assert sorted(path.name for path in tmp_path.glob("train.km*")) == ["train.km"]


def test_normalized_clusters_do_not_tell_channels_apart(tmp_path):
    """The same sounds through two channels: raw clusters differ between the channels, normalized ones do not."""
    generator = np.random.default_rng(0)
    sounds = generator.standard_normal((200, 4)).astype(np.float32)
    channels = [sounds, 3.0 * sounds + 50.0]

    def features(waveforms):
        return [channels[int(waveform[0])] for waveform in waveforms]

    first, second = normalized(features)([torch.tensor([0.0]), torch.tensor([1.0])])
    assert first.dtype == np.float32
    np.testing.assert_allclose(first, second, atol=1e-5)
    np.testing.assert_allclose(first.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(first.std(0), 1, atol=1e-4)
    centroids = sounds[:8]
    for wrap, same in ((normalized, True), (lambda plain: plain, False)):
        labels = cluster_labels(wrap(features), centroids)([torch.tensor([0.0]), torch.tensor([1.0])])
        assert bool((labels[0] == labels[1]).all()) is same


def test_a_constant_value_is_normalized_to_zero():
    (found,) = normalized(lambda waveforms: [np.full((5, 2), 7.0, dtype=np.float32)])([torch.zeros(1)])
    assert (found == 0).all()


def test_smoothing_is_a_mean_over_neighbors_with_the_edges_repeated():
    ramp = np.array([[0.0], [3.0], [6.0], [30.0]], dtype=np.float32)
    (found,) = smoothed(lambda waveforms: [ramp for _ in waveforms], 3)([torch.zeros(1)])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], [1.0, 3.0, 13.0, 22.0])
