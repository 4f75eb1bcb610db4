"""One side of merge.py in a process of its own; prints JSON.

    python merge_worker.py FOLDER METHOD

`seconds`, `cpu_seconds`: of the merge alone, with libraries loaded. `above_mb`: how far its peak of resident memory is above that after a
merge of two numbers, which has loaded everything that a merge needs.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from speechft.merge import get_method, merge_files


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    folder, method = Path(sys.argv[1]), get_method(sys.argv[2])
    for name, value in (("tiny_base", 0.0), ("tiny_finetuned", 1.0)):
        save_file({"x": torch.full((1,), value)}, folder / name)
    merge_files(folder / "tiny_base", [folder / "tiny_finetuned"], folder / "tiny_out", method)
    before, start, cpu = peak_mb(), time.perf_counter(), time.process_time()
    merge_files(folder / "base.safetensors", [folder / "finetuned.safetensors"], folder / "merged.safetensors", method)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "interpreter_mb": before, "above_mb": peak_mb() - before}))


if __name__ == "__main__":
    main()
