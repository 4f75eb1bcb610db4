import os
from pathlib import Path

import pytest

# The smallest supported machine has two cores; more threads only make small tensors slower. Where tests run in several processes,
# each has one.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of values recorded from the reference implementation."""
    if not (SHARED / "golden").is_dir():
        pytest.skip("recorded outputs of the reference implementation (../shared/golden) are not on this machine")
    return SHARED / "golden"


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder of real recordings."""
    if not (SHARED / "data").is_dir():
        pytest.skip("real recordings (../shared/data) are not on this machine")
    return SHARED / "data"
