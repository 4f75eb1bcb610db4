"""Recording conditions of pre-training: drawn anew, repeatable, and of the kinds that were asked for."""

import numpy as np
import pytest
import torch
from pretrain.small_pretraining import RECIPE
from pydantic import ValidationError

from speechft.pretrain.augmentation import KNOTS_HZ, augment
from speechft.recipes.pretraining import Augmentation, PretrainRecipe

NOTHING = Augmentation(prob=0.0, response_db=0.0, snr_db=(200.0, 200.0), reverberate=False, mix_prob=0.0, mix_db=(0.0, 0.0))
ALL = Augmentation(prob=1.0, mix_prob=0.5)


def conditions(**changes):
    return NOTHING.model_copy(update={"prob": 1.0, **changes})


@pytest.fixture
def waveforms():
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(length, generator=generator) for length in (16_000, 9_000, 20_001)]


def level(samples):
    return float(samples.double().square().mean().sqrt())


def test_nothing_is_changed_unless_asked(waveforms):
    for given, found in zip(waveforms, augment(waveforms, NOTHING, np.random.default_rng(0)), strict=True):
        torch.testing.assert_close(found, given)


def test_lengths_and_levels_stay_and_the_inputs_are_left_alone(waveforms):
    copies = [waveform.clone() for waveform in waveforms]
    found = augment(waveforms, ALL, np.random.default_rng(0))
    for given, copy, changed in zip(waveforms, copies, found, strict=True):
        assert changed.shape == given.shape
        assert changed.dtype == torch.float32
        assert level(changed) == pytest.approx(level(given), rel=1e-5)
        assert (changed - given).abs().max() > 0.01
        torch.testing.assert_close(given, copy, rtol=0, atol=0)


def test_the_generator_decides(waveforms):
    first, again, other = (augment(waveforms, ALL, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_the_frequency_response_is_smooth_and_within_its_bounds():
    impulse = torch.zeros(16_000)
    impulse[0] = 1.0
    # A cut and a boost that the level's restoration moves together.
    (found,) = augment([impulse], conditions(response_db=9.0), np.random.default_rng(3))
    decibels = 20 * np.log10(np.abs(np.fft.rfft(found.numpy()))[50:7900])
    assert 3 < np.ptp(decibels) <= 18.01
    slopes = np.abs(np.diff(decibels)) / np.diff(np.log(np.arange(50, 7900)))
    assert slopes.max() <= 18 / np.diff(np.log(KNOTS_HZ)).min() * 1.05


def test_noise_has_the_ratio_asked_for():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(32_000) / 16_000)
    (found,) = augment([tone], conditions(snr_db=(10.0, 10.0)), np.random.default_rng(0))
    signal = float(found @ tone / (tone @ tone)) * tone
    assert 20 * np.log10(level(signal) / level(found - signal)) == pytest.approx(10, abs=0.3)


def test_reverberation_comes_after_the_sound():
    click = torch.zeros(16_000)
    click[4000] = 1.0
    (found,) = augment([click], conditions(reverberate=True), np.random.default_rng(0))
    assert found[:4000].abs().max() < 1e-4
    assert found[4000] > 0.5
    assert level(found[4001:5000]) > 10 * level(found[12_100:])


def test_a_piece_of_another_utterance_is_mixed_in():
    time = torch.arange(16_000) / 16_000
    tones = [torch.sin(2 * torch.pi * 500 * time), torch.sin(2 * torch.pi * 3000 * time)]
    rng = np.random.default_rng(5)
    (found, _) = augment(tones, conditions(prob=0.0, mix_prob=1.0, mix_db=(-6.0, -6.0)), rng)
    scale = float(found @ tones[0] / (tones[0] @ tones[0]))
    piece = (found - scale * tones[0]) / scale
    inside = (piece.abs() > 0.05).nonzero().flatten()
    assert 0 < int(inside[-1] - inside[0]) <= 8000
    middle = piece[int(inside[0]) + 10 : int(inside[-1]) - 10]
    assert level(middle) / level(tones[0]) == pytest.approx(10 ** (-6 / 20), rel=0.05)
    assert augment(tones[:1], conditions(prob=0.0, mix_prob=1.0), rng)[0].allclose(tones[0])  # nobody else is there


def test_silence_stays_silent():
    (found,) = augment([torch.zeros(8000)], ALL, np.random.default_rng(0))
    assert found.abs().max() == 0


def test_a_falling_range_is_refused():
    with pytest.raises(ValidationError, match="snr_db: 30 is more than 5; write the smaller value first"):
        PretrainRecipe(**{**RECIPE.model_dump(), "augmentation": {"snr_db": [30, 5]}})
