"""Describe the machine of a measurement in one line, and format numbers for tables."""

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path


def cpu_model() -> str:
    """Return the kernel's name of the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.lower().startswith(("model name", "hardware")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe(gpu: str | None = None) -> str:
    """Format a line of Markdown with the machine and relevant versions."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB"]
    parts += [gpu] if gpu else []
    parts += [f"Linux {platform.release()}", f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    return "Machine: " + "; ".join(parts) + "."


def median_and_range(values: Sequence[float], unit: str = "s") -> str:
    """Format median and range, such as `1.23 s (1.20 to 1.31)`."""
    return f"{statistics.median(values):.3g} {unit} ({min(values):.3g} to {max(values):.3g})"
