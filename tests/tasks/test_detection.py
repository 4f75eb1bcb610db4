import json

import numpy as np
import pytest

from speechft.tasks.detection import FALSE_ALARM_WEIGHT, equal_error_rate, maximum_term_weighted_value, term_weighted_value


def test_equal_error_rates_equal_the_reference(golden):
    arrays = np.load(golden / "metrics" / "eer.npz")
    records = json.loads((golden / "metrics" / "eer.json").read_text())
    assert len(records) == 9
    for record in records:
        found = equal_error_rate(arrays[f"{record['name']}_labels"], arrays[f"{record['name']}_scores"])
        assert found == pytest.approx(record["eer"], abs=1e-6), record["name"]


def slow_maximum(scores, relevant, weight):
    """The definition: try every threshold, count misses and false alarms of every query."""
    best = 0.0
    for threshold in np.unique(np.concatenate(scores)):
        losses = []
        for score, found in zip(scores, relevant, strict=True):
            if found.any():
                detected = score >= threshold
                false_alarms = (detected & ~found).sum() / max(1, (~found).sum())
                losses.append((found & ~detected).sum() / found.sum() + weight * false_alarms)
        best = max(best, 1 - np.mean(losses))
    return best


@pytest.mark.parametrize("weight", [FALSE_ALARM_WEIGHT, 0.7, 0.0])
@pytest.mark.parametrize("seed", range(5))
def test_maximum_is_that_over_all_thresholds(seed, weight):
    generator = np.random.default_rng(seed)
    relevant = generator.random((7, 30)) < 0.2
    relevant[3] = False
    relevant[4] = True
    # Rounded, so that targets and others tie.
    scores = np.round(generator.normal(size=(7, 30)) + 1.5 * relevant, 1)
    value, threshold = maximum_term_weighted_value(list(scores), list(relevant), weight)
    assert value == pytest.approx(slow_maximum(list(scores), list(relevant), weight), abs=1e-12)
    assert term_weighted_value(scores >= threshold, relevant, weight) == pytest.approx(value, abs=1e-12)


def test_values_by_hand():
    relevant = np.array([[True, False, False], [True, True, False], [False, False, False]])
    scores = np.array([[3.0, 0.0, 1.0], [3.0, 2.0, -1.0], [9.0, 9.0, 9.0]])
    assert maximum_term_weighted_value(list(scores), list(relevant)) == (1.0, 2.0)
    detected = scores > 2.0
    # The first query has all, the second one of two; the third has no term and does not count.
    assert term_weighted_value(detected, relevant) == pytest.approx(1 - (0 + 0.5) / 2)
    detected[0, 1] = True
    assert term_weighted_value(detected, relevant) == pytest.approx(1 - (0.5 + 12.49 / 2) / 2)


def test_nothing_detected_has_the_value_zero():
    assert maximum_term_weighted_value([np.array([0.0, 1.0])], [np.array([True, False])]) == (0.0, float("inf"))


NONE = np.zeros((1, 2), dtype=bool)


@pytest.mark.parametrize(
    ("metric", "arguments", "message"),
    [
        (equal_error_rate, (np.ones(3), np.arange(3)), "both kinds"),
        (maximum_term_weighted_value, ([np.array([0.0, 1.0])], [NONE[0]]), "no query"),
        (term_weighted_value, (NONE, NONE), "no query"),
    ],
)
def test_what_has_no_value(metric, arguments, message):
    with pytest.raises(ValueError, match=message):
        metric(*arguments)
