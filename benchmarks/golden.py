"""Measure differences from recorded values of s3prl: `python benchmarks/golden.py` prints Markdown.

Runs the tests that compare with tests/golden and records each comparison that has a tolerance: the largest absolute error of a test, and
the largest share of its tolerance used. Tests without a tolerance (labels, splits, decoded text) compare exactly. For encoders, see
`encoder_exactness.py`.
"""

import math
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from machine import describe

ROOT = Path(__file__).resolve().parents[1]
ApproxScalar: Any = type(pytest.approx(0.0))


@dataclass
class Errors:
    """Errors in the comparisons of a test function."""

    comparisons: int = 0
    largest: float = 0.0
    share: float = 0.0

    def add(self, error: float, share: float, count: int = 1) -> None:
        """Record `count` numbers that differ by at most `error`, and at most `share` of the tolerance."""
        self.comparisons += count
        self.largest = max(self.largest, error)
        self.share = max(self.share, share)


class Recorder:
    """pytest plugin that selects the tests with recorded values and observes their comparisons."""

    def __init__(self) -> None:
        self.errors: dict[str, Errors] = defaultdict(Errors)
        self.outcomes: dict[str, list[bool]] = defaultdict(list)
        self.current: str | None = None

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[Any]) -> None:
        """Drop all other tests."""
        others = [item for item in items if "golden" not in item.fixturenames]
        items[:] = [item for item in items if "golden" in item.fixturenames]
        config.hook.pytest_deselected(items=others)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Any:
        """Watch one test."""
        self.current = item.nodeid.split("[")[0]
        try:
            return (yield)
        finally:
            self.current = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the outcome of a test."""
        if report.when == "call" or report.failed:
            self.outcomes[report.nodeid.split("[")[0]].append(report.passed)

    def watch(self) -> None:
        """Record every comparison that has a tolerance."""
        equal, close = ApproxScalar.__eq__, torch.testing.assert_close

        def scalar(approx: Any, actual: Any) -> Any:
            result = equal(approx, actual)
            if self.current and isinstance(actual, int | float) and math.isfinite(actual) and math.isfinite(approx.expected):
                error, tolerance = abs(actual - approx.expected), float(approx.tolerance)
                self.errors[self.current].add(error, error / tolerance if tolerance else 0.0)
            return result

        def tensors(actual: Any, expected: Any, *args: Any, **kwargs: Any) -> None:
            close(actual, expected, *args, **kwargs)
            if self.current and isinstance(actual, torch.Tensor) and actual.is_floating_point() and actual.numel():
                atol, rtol = kwargs.get("atol", 1e-5), kwargs.get("rtol", 1.3e-6)
                difference = (actual.detach() - expected.detach()).abs()
                share = float((difference / (atol + rtol * expected.detach().abs())).max()) if atol or rtol else 0.0
                self.errors[self.current].add(float(difference.max()), share, actual.numel())

        ApproxScalar.__eq__ = scalar
        torch.testing.assert_close = tensors


def main() -> int:
    # Tests import helpers from tests/finetune, which finetune.py in this folder would hide.
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != ROOT / "benchmarks"]
    recorder = Recorder()
    recorder.watch()
    folders = [str(ROOT / "tests" / name) for name in ("corpora", "evaluate", "finetune", "merge", "tasks")]
    status = pytest.main(
        [*folders, "-q", "--durations=0", "--durations-min=60", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[recorder]
    )
    print(f"\n{describe()}\n")
    print("| test | runs | passed | numbers compared | largest absolute error | largest share of the tolerance |")
    print("|---|---|---|---|---|---|")
    for test, outcomes in recorder.outcomes.items():
        errors = recorder.errors.get(test)
        differences = f"{errors.comparisons} | {errors.largest:.1e} | {errors.share:.2%}" if errors else "exact | - | -"
        print(f"| `{test.removeprefix('tests/')}` | {len(outcomes)} | {sum(outcomes)} | {differences} |")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
