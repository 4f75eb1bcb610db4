"""Time and peak memory of a command.

The kernel initializes a process's peak with the memory of its parent, so a small command started by a large program appears large. Here a
small launcher starts and measures it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)
measured = {"seconds": time.perf_counter() - start, "cpu_seconds": usage.ru_utime + usage.ru_stime, "megabytes": usage.ru_maxrss / 1024}
with open(sys.argv[1], "w") as file:
    json.dump({**measured, "status": os.waitstatus_to_exitcode(status)}, file)
"""


@dataclass(frozen=True)
class Measured:
    """Measurements of a successful command."""

    seconds: float
    """Wall time in seconds."""
    cpu_seconds: float
    megabytes: float
    """Peak resident memory of the largest of its processes."""
    output: str
    """Standard output."""


def measured_run(command: Sequence[str | Path], *, cwd: Path | None = None, environment: dict[str, str] | None = None) -> Measured:
    """Run a command to its end, with `environment` added to that of this process.

    Raises:
        SystemExit: the command failed; the message contains the end of its output.
    """
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "errors").open("w+b") as errors:
        report = Path(folder) / "report.json"
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(report), *map(str, command)]
        done = subprocess.run(
            launcher, cwd=cwd, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, stderr=errors, check=True
        )
        measured = json.loads(report.read_text(encoding="utf-8"))
        output = done.stdout.decode(errors="replace")
        if measured.pop("status"):
            errors.seek(0)
            printed = output[-2000:] + errors.read().decode(errors="replace")[-2000:]
            raise SystemExit(f"{' '.join(map(str, command))} failed:\n{printed}")
    return Measured(**measured, output=output)


def peak_megabytes() -> float:
    """Return the peak resident memory of this process since the start of its program."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("/proc/self/status has no VmHWM; peak memory can be measured only on Linux")
