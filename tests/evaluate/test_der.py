import json

import numpy as np
import pytest

from speechft.corpora.rttm import Turn, read_rttm, rttm_line
from speechft.evaluate.protocols.der import errors_by_recording, sum_of_errors
from speechft.evaluate.protocols.diarization import MEDIANS, THRESHOLDS, system_turns


def diarization_errors(reference, system):
    return sum_of_errors(errors_by_recording(reference, system))


@pytest.fixture
def recorded(golden):
    return json.loads((golden / "metrics" / "sd_rttm.json").read_text())


def test_turns_equal_the_reference(golden, recorded):
    probabilities = np.load(golden / "metrics" / "sd_rttm.npz")
    settings = {(case["threshold"], case["median"]) for case in recorded["cases"]}
    assert settings == {(threshold, median) for threshold in THRESHOLDS for median in MEDIANS}
    for case in recorded["cases"]:
        turns = [
            turn
            for name in probabilities
            for turn in system_turns(name, probabilities[name], case["threshold"], case["median"], case["frame_shift"])
        ]
        assert [rttm_line(turn) for turn in turns] == case["rttm"]


def test_error_rates_equal_the_reference(recorded, tmp_path):
    def turns_of(lines):
        (tmp_path / "turns.rttm").write_text("\n".join(lines))
        return read_rttm(tmp_path / "turns.rttm")

    reference = turns_of(recorded["reference_rttm"])
    scored = [case for case in recorded["cases"] if "der_overall_percent" in case]
    assert len(scored) == 10
    overall = []
    for case in scored:
        system = turns_of(case["rttm"])
        overall.append(100 * diarization_errors(reference, system).rate)
        assert overall[-1] == pytest.approx(case["der_overall_percent"], abs=1e-6)
        for name, expected in case["der_percent"].items():
            sides = ([turn for turn in turns if turn.recording == name] for turns in (reference, system))
            assert 100 * diarization_errors(*sides).rate == pytest.approx(expected, abs=1e-6)
    assert min(overall) == pytest.approx(recorded["best_der_overall_percent"], abs=1e-6)


def test_a_probability_at_the_threshold_is_silence():
    value = np.float32(0.3)
    assert not system_turns("r", np.full((4, 1), value), 0.3, 1)
    assert len(system_turns("r", np.full((4, 1), np.nextafter(value, np.float32(1))), 0.3, 1)) == 1


@pytest.mark.filterwarnings("ignore:kernel_size exceeds")
def test_the_median_filter_is_scipys():
    from scipy.signal import medfilt

    generator = np.random.default_rng(0)
    for length in (1, 5, 11, 40, 300):
        active = (generator.random((length, 2)) > 0.4).astype(np.float32)
        filtered = medfilt(active, (11, 1)) > 0.5
        found = np.zeros_like(filtered)
        for turn in system_turns("r", active, 0.5, 11):
            found[round(turn.start * 50) : round(turn.end * 50), int(turn.speaker[-1])] = True
        assert np.array_equal(found, filtered)


A, B = Turn("r", 0.0, 10.0, "a"), Turn("r", 8.0, 4.0, "b")
SHORT_A, SHORT_B = Turn("r", 0.0, 3.0, "a"), Turn("r", 3.0, 2.0, "b")
SWAPPED = [Turn("r", 0.0, 3.0, "b"), Turn("r", 3.0, 2.0, "a")]
OTHER = Turn("s", 0.0, 3.0, "a")


@pytest.mark.parametrize(
    ("reference", "system", "errors", "rate"),
    [
        # x is a, y is b: 8-10 lacks a, 11-12 lacks b; 7-8 has y too much, 20-21 lies outside the reference but inside the scored extent.
        ([A, B], [Turn("r", 0.0, 8.0, "x"), Turn("r", 7.0, 4.0, "y"), Turn("r", 20.0, 1.0, "z")], (14.0, 3.0, 2.0, 0.0), 5 / 14),
        # y is a because 4-10 is longer than 0-4, so x is b: 0-4 is confused, and 8-10 lacks b.
        ([A, B], [Turn("r", 0.0, 4.0, "x"), Turn("r", 4.0, 6.0, "y"), Turn("r", 10.0, 2.0, "x")], (14.0, 2.0, 0.0, 4.0), 6 / 14),
        # Names of speakers have no meaning; they are mapped for each recording by itself.
        ([SHORT_A, SHORT_B], SWAPPED, (5.0, 0.0, 0.0, 0.0), 0.0),
        ([SHORT_A, SHORT_B], [Turn("r", 0.0, 5.0, "a")], (5.0, 0.0, 0.0, 2.0), 2 / 5),
        ([SHORT_A, SHORT_B, OTHER], [*SWAPPED, OTHER], (8.0, 0.0, 0.0, 0.0), 0.0),
        ([SHORT_A], [], (3.0, 3.0, 0.0, 0.0), 1.0),
        ([], [SHORT_A], (0.0, 0.0, 3.0, 0.0), float("inf")),
        ([], [], (0.0, 0.0, 0.0, 0.0), 0.0),
        # Turns of one speaker that overlap count once.
        ([Turn("r", 0.0, 2.0, "a"), Turn("r", 1.0, 2.0, "a")], [SHORT_A], (3.0, 0.0, 0.0, 0.0), 0.0),
    ],
)
def test_errors_by_hand(reference, system, errors, rate):
    found = diarization_errors(reference, system)
    assert (found.scored, found.missed, found.false_alarm, found.confused) == errors
    assert found.rate == pytest.approx(rate)
