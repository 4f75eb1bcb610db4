import json

import pytest

from speechft.finetune.method import multiplier


@pytest.mark.parametrize("total", [10, 37, 1000])
def test_multipliers_are_those_of_the_released_code(total, golden):
    expected = json.loads((golden / "speechft/schedule.json").read_text())["multiplier"][str(total)]
    assert [multiplier(k, total) for k in range(total + 3)] == pytest.approx(expected, abs=1e-12)


def test_phases_of_a_run_of_20_updates():
    assert [multiplier(k, 20) for k in (0, 1, 2, 9, 10, 11, 15, 19, 20, 21)] == pytest.approx([0, 0.5, 1, 1, 1, 0.9, 0.5, 0.1, 0, 0])


@pytest.mark.parametrize(
    ("warmup", "hold", "expected"), [(0.0, 0.0, [1, 0.75, 0.5, 0.25]), (0.5, 0.5, [0, 0.5, 1, 1]), (0.0, 1.0, [1] * 4)]
)
def test_phases_may_be_empty(warmup, hold, expected):
    assert [multiplier(k, 4, warmup, hold) for k in range(4)] == pytest.approx(expected)
