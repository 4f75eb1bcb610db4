"""What a measurement ran on, in one line; and numbers as tables show them."""

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path


def cpu_model() -> str:
    """Name of the processor as the kernel gives it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.lower().startswith(("model name", "hardware")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe(gpu: str | None = None) -> str:
    """One line of Markdown about the machine and the versions that matter."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB"]
    parts += [gpu] if gpu else []
    parts += [f"Linux {platform.release()}", f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    return "Machine: " + "; ".join(parts) + "."


def median_and_range(values: Sequence[float], unit: str = "s") -> str:
    """E.g. `1.234 s (1.201 to 1.310)`."""
    return f"{statistics.median(values):.3g} {unit} ({min(values):.3g} to {max(values):.3g})"
