"""The comparison of protocols in benchmarks/cost.py; what ours counts is tested in tests/planning."""

import pytest


@pytest.fixture
def cost(script):
    return script("cost")


def test_er_by_hand(cost):
    of_a_run = 30_000 * 8 * 4 + 30 * (0.16 + 0.2) * 5531
    theirs = cost.s3prl_passes("er", learning_rates=4)
    assert theirs.utterances == pytest.approx(4 * 5 * of_a_run)
    assert theirs.hours == pytest.approx(theirs.utterances * 4.5 / 3600)
    assert cost.our_passes("er") == cost.SplitSize(pytest.approx(5531), pytest.approx(5531 * 4.5 / 3600))


def test_pr_and_asr_by_hand(cost):
    theirs, ours = cost.s3prl_passes("pr", 7), cost.our_passes("pr", cache_gb=0.0)
    one = 100_000 * 2 * 16 + 100 * 2703
    assert (theirs.utterances, ours.utterances) == (pytest.approx(7 * one + 2620), pytest.approx(one + 2620))
    assert ours.hours == pytest.approx(3_200_000 / 28_539 * 100.6 + 100 * 5.4 + 5.4)
    # Real batches of ASR are half as large, on both sides.
    assert cost.s3prl_passes("asr", 7) == cost.s3prl_passes("pr", 7)


def test_searches_and_trials(cost):
    assert cost.s3prl_passes("qbe").utterances == 14 * (138 + 138 + 2438)
    assert cost.our_passes("qbe", cache_gb=1e9).utterances == 138 + 138 + 2438
    # Without trials of dev, test chooses: scored at each of ten evaluations and once more in the end.
    assert cost.our_passes("asv", cache_gb=0.0).utterances == pytest.approx(200_000 * 5 * 10 + 11 * 4715)
    assert cost.s3prl_passes("asv", 4).utterances == pytest.approx(4 * (200_000 * 5 * 10 + 10 * 4715))


def test_crops_of_sid(cost):
    """`superb` draws a new crop at every access, which no cache can hold; with a fixed number each is encoded once."""
    assert cost.our_passes("sid").utterances == pytest.approx(200_000 * 4 * 8 + 6904 + 8251)
    assert cost.our_passes("sid", protocol="quick", crop_draws=1).utterances == 138_361 + 6904 + 8251
    assert cost.our_passes("sid").hours > 200_000 * 4 * 8 * 8 / 3600


def test_times_are_hours_over_throughput(run_script):
    shown = run_script("cost.py", "--throughput", 10, "--learning-rates", 4)
    cells = next(line for line in shown.splitlines() if line.startswith("| KS |")).strip("| ").split(" | ")
    # 6.4 million clips of 1 s in training, 40 times 9879 in scoring, 4 times all of that; ours: 60 973 clips once.
    assert cells == ["KS", "27.2 M", "0.061 M", "7,550", "16.9", "446", "755", "1.69"]
