import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft.corpora import load_audio, num_samples_16k
from speechft.corpora.audio import samples_after_resampling
from speechft.errors import AudioError


def cut_of(folder, name, **options):
    (cut,) = folder.corpus("path,split", f"{name},train").prepare(**options)[1]["train"]
    return cut


def loudest_frequency(waveform):
    spectrum = np.abs(np.fft.rfft(waveform.numpy() * np.hanning(len(waveform))))
    return spectrum.argmax() * 16_000 / len(waveform)


def test_16_khz_samples_are_those_of_the_file(folder):
    path = folder.tone("a.flac", seconds=0.31)
    cut = cut_of(folder, "a.flac")
    waveform = load_audio(cut)
    assert waveform.dtype == torch.float32
    assert waveform.shape == (num_samples_16k(cut),) == (4960,)
    assert np.array_equal(waveform.numpy(), soundfile.read(path, dtype="float32")[0])


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 44100, 48000])
def test_resampling_keeps_length_and_frequency(folder, rate):
    folder.tone("a.wav", seconds=0.5, rate=rate, frequency=1000.0)
    cut = cut_of(folder, "a.wav")
    waveform = load_audio(cut)
    assert len(waveform) == num_samples_16k(cut) == pytest.approx(8000, abs=1)
    assert loudest_frequency(waveform) == pytest.approx(1000.0, abs=3.0)
    assert waveform[2000:6000].abs().max() == pytest.approx(0.5, abs=0.01)


@given(num_samples=st.integers(1, 30_000), rate=st.sampled_from([4000, 8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000]))
@settings(max_examples=200, deadline=None)
def test_length_is_known_beforehand(num_samples, rate):
    resampled = soxr.resample(np.zeros(num_samples, np.float32), rate, 16_000, quality="HQ")
    assert len(resampled) == samples_after_resampling(num_samples, rate)


@pytest.mark.parametrize("channel", [0, 1])
def test_channel_of_the_recipe(folder, channel):
    folder.tone("a.wav", seconds=0.5, rate=8000, channels=2, frequency=500.0)  # 500 Hz left, 1000 Hz right
    cut = cut_of(folder, "a.wav", channel=channel)
    assert loudest_frequency(load_audio(cut)) == pytest.approx(500.0 * (channel + 1), abs=3.0)


@pytest.mark.parametrize(("name", "rate"), [("a.wav", 16000), ("a.flac", 16000), ("a.opus", 16000), ("a.wav", 8000), ("a.flac", 24000)])
def test_samples_of_a_part_are_those_of_the_whole(name, rate, folder):
    folder.tone(name, seconds=1.0, rate=rate, **({"format": "OGG", "subtype": "OPUS"} if name.endswith(".opus") else {}))
    whole = cut_of(folder, name)
    part = whole.truncate(offset=0.25, duration=0.5)
    if rate == 16_000:
        assert torch.equal(load_audio(part), load_audio(whole, 4000, 8000))
    for cut in (whole, part):
        waveform = load_audio(cut)
        assert len(waveform) == num_samples_16k(cut) == (16_000 if cut is whole else 8_000)
        for start, count in ((0, 1), (7, 3001), (4000, len(waveform) - 4000), (0, len(waveform))):
            assert torch.equal(load_audio(cut, start, count), waveform[start : start + count])


def test_files_that_changed_since(folder):
    path = folder.tone("a.wav", seconds=0.5)
    cut = cut_of(folder, "a.wav")
    for change, message in (
        (lambda: folder.tone("a.wav", seconds=0.4), "6400 samples"),
        (lambda: folder.tone("a.wav", seconds=0.5, rate=8000), "8000 Hz"),
        (lambda: folder.samples("a.wav", np.full(8000, np.nan), subtype="FLOAT"), "NaN"),
        (lambda: path.write_bytes(b"RIFF"), "cannot be decoded"),
        (path.unlink, "no such file"),
    ):
        change()
        with pytest.raises(AudioError, match=f"{path}.*{message}"):
            load_audio(cut)
