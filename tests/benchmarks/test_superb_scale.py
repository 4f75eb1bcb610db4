"""What docs/paper.md says about the ends of SUPERB's scales is what the published numbers give."""

import re

import numpy as np
import pytest
from conftest import ROOT

from speechft.tables.scores import SUPERB_S_NORMALIZERS, superb_score

TEXT = (ROOT / "docs/paper.md").read_text()
WORDS = " ".join(TEXT.split())


@pytest.fixture
def scale(script):
    return script("superb_scale")


def test_ends_that_are_known_are_found(scale):
    metrics = np.random.default_rng(0).uniform(20, 90, (6, 5))
    scores = np.array([superb_score(dict(zip(scale.KEYS, row, strict=True))) for row in metrics])
    expected = [SUPERB_S_NORMALIZERS[key].sota for key in scale.KEYS]
    np.testing.assert_allclose(scale.upper_ends(metrics, scores), expected, rtol=1e-6)


def test_the_ends_in_the_code_solve_the_published_rows(scale):
    metrics, scores = scale.published_rows()
    assert metrics.shape == (6, 5)
    ends = scale.upper_ends(metrics, scores)
    np.testing.assert_allclose(ends, [SUPERB_S_NORMALIZERS[key].sota for key in scale.KEYS], atol=2e-3)
    assert np.linalg.cond((metrics - scale.FBANK) * scale.WEIGHTS) == pytest.approx(3568, abs=1)
    assert "the condition number is 3568" in WORDS


def test_the_printed_intervals_are_those_of_rounding(scale):
    printed = re.search(r"\| 95 % of the solutions \|(.*)\|", TEXT)[1].split("|")
    printed = np.array([[float(end) for end in cell.split(" to ")] for cell in printed])
    low, high = np.percentile(scale.moved_ends(3000, seed=1), [2.5, 97.5], axis=0)
    # 3000 draws do not repeat what 20 000 gave to the last digit.
    np.testing.assert_allclose(printed, np.stack([low, high], axis=1), atol=0.12)


def test_superb_full_of_the_published_rows_on_our_scales(scale):
    differences = scale.full_differences()
    assert (round(differences.min()), round(differences.max())) == (15, 23)
    assert "15 to 23 points above the published scores" in WORDS
    assert "15 to 23 points higher" in (ROOT / "docs/results/paper/full_superb.md").read_text()
    for end in ("0.109", "0.112"):
        within = float(re.search(rf"with {end} .*?within (\d\.\d)", WORDS)[1])
        assert within - 0.1 < abs(scale.full_differences(float(end))).max() <= within


def test_the_script_prints_tables(run_script):
    shown = run_script("superb_scale.py", "--draws", 50)
    assert "Condition number 3568, largest residual 1.2e-04, 50 draws." in shown
    assert "| upper end | 2.42 | 95.11 | 70.68 | 92.40 | 17.69 |" in shown
    assert "| 0.0886 (WavLM Large) | +14.69, +22.55, +23.22 |" in shown
