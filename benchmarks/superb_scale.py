"""Measure how well the published scores determine the upper ends of SUPERB's scales; prints Markdown for docs/paper.md.

    python benchmarks/superb_scale.py

SUPERB_S is linear in the inverse length of each metric's scale, so that the six published rows with all five metrics give the upper ends
by least squares. Every published number is varied at random within its rounding, to measure the variation of the ends. For SUPERB_FULL,
with three published rows, only the upper end of QbE is varied.
"""

import argparse
from pathlib import Path

import numpy as np

from speechft.tables.metrics import METRICS
from speechft.tables.published import load_published
from speechft.tables.scores import SUPERB_FULL_NORMALIZERS, SUPERB_FULL_TASKS, SUPERB_S_TASKS, Normalizer, superb_full_score

PUBLISHED = Path(__file__).parents[1] / "config/published.csv"
MODELS = (("none", "pretrained"), ("asr_tedlium3", "stable_ft"), ("asr_tedlium3", "speech_ft"))
ENCODERS = ("hubert_base", "wav2vec2_base")
KEYS = tuple(key for keys in SUPERB_S_TASKS.values() for key in keys)
WEIGHTS = np.array([1000 / len(SUPERB_S_TASKS) / len(keys) for keys in SUPERB_S_TASKS.values() for _ in keys])
FBANK = np.array([SUPERB_FULL_NORMALIZERS[key].fbank for key in KEYS])
ROUNDING = 0.005
"""Largest rounding error: all numbers are published with two decimals."""


def published_rows() -> tuple[np.ndarray, np.ndarray]:
    """Return metrics (6, 5) and SUPERB_S (6,) of the rows published with both."""
    published = load_published(PUBLISHED)
    rows = [published.row("encoders", encoder, *model) for encoder in ENCODERS for model in MODELS]
    return np.array([[row[key] for key in KEYS] for row in rows]), np.array([row["SUPERB_S"] for row in rows])


def upper_ends(metrics: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Fit the upper ends (5,) of the scales by least squares."""
    inverse_lengths = np.linalg.lstsq((metrics - FBANK) * WEIGHTS, scores, rcond=None)[0]
    return FBANK + 1 / inverse_lengths


def moved_ends(draws: int, seed: int = 0) -> np.ndarray:
    """Fit upper ends (draws, 5) to published numbers varied uniformly and independently within their rounding."""
    generator = np.random.default_rng(seed)

    def moved(values: np.ndarray) -> np.ndarray:
        return values + generator.uniform(-ROUNDING, ROUNDING, values.shape)

    metrics, scores = published_rows()
    return np.array([upper_ends(moved(metrics), moved(scores)) for _ in range(draws)])


def full_differences(qbe_end: float | None = None) -> np.ndarray:
    """Return SUPERB_FULL on our scales minus the published value for the three published rows, optionally with another QbE upper end."""
    scales = dict(SUPERB_FULL_NORMALIZERS)
    if qbe_end is not None:
        scales["QbE"] = Normalizer(scales["QbE"].fbank, qbe_end, "assumed")
    published = load_published(PUBLISHED)
    rows = [published.row("full_superb", "hubert_base", *model) for model in MODELS]
    metrics = [{key: row[key] for keys in SUPERB_FULL_TASKS.values() for key in keys} for row in rows]
    return np.array([superb_full_score(of_row, scales) - row["SUPERB_FULL"] for of_row, row in zip(metrics, rows, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20_000)
    draws = parser.parse_args().draws
    metrics, scores = published_rows()
    ends = upper_ends(metrics, scores)
    residuals = (metrics - FBANK) * WEIGHTS @ (1 / (ends - FBANK)) - scores
    condition = np.linalg.cond((metrics - FBANK) * WEIGHTS)
    print(f"Condition number {condition:.0f}, largest residual {np.abs(residuals).max():.1e}, {draws} draws.\n")
    print(f"| | {' | '.join(key.replace('_', ' ') for key in KEYS)} |\n|{'---|' * (len(KEYS) + 1)}")
    print(f"| upper end | {' | '.join(METRICS[key].shown(value) for key, value in zip(KEYS, ends, strict=True))} |")
    low, high = np.percentile(moved_ends(draws), [2.5, 97.5], axis=0)
    print(f"| 95 % | {' | '.join(f'{start:.2f} to {stop:.2f}' for start, stop in zip(low, high, strict=True))} |")
    print("\n| upper end of QbE | ours minus published SUPERB_FULL |\n|---|---|")
    for end in (None, 0.108, 0.109, 0.110, 0.111, 0.112):
        shown = f"{SUPERB_FULL_NORMALIZERS['QbE'].sota} (WavLM Large)" if end is None else f"{end:.3f}"
        print(f"| {shown} | {', '.join(f'{value:+.2f}' for value in full_differences(end))} |")


if __name__ == "__main__":
    main()
