"""One side of merge.py in its own process; prints JSON.

    python merge_worker.py FOLDER METHOD [directories | hashes]

Merges base.safetensors and finetuned.safetensors; `directories`: as encoder directories, `hashes`: hashes both instead.
`seconds`, `cpu_seconds`: of the merge alone, with libraries loaded. `above_mb`: peak resident memory above that after a merge of two
numbers, which has loaded everything that a merge needs.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch
from measured import peak_megabytes
from safetensors.torch import save_file

from speechft.files.hashes import sha256_file
from speechft.merge import get_method, merge, merge_files


def as_directory(weights: Path) -> Path:
    """Create an encoder directory with the weight file."""
    directory = weights.with_name(f"{weights.name}_directory")
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text('{"model_type": "hubert", "speechft_normalize": false}', encoding="utf-8")
    if not (directory / "model.safetensors").exists():
        os.link(weights, directory / "model.safetensors")
    return directory


def work(base: Path, finetuned: Path, out: Path, method: str, what: str) -> None:
    if what == "hashes":
        print(sha256_file(base), sha256_file(finetuned), file=sys.stderr)
    elif what == "directories":
        merge(as_directory(base), as_directory(finetuned), out.with_name(f"{out.name}_directory"), method)
    else:
        merge_files(base, [finetuned], out, get_method(method))


def main() -> None:
    folder, method, what = Path(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "files"
    tiny = [folder / "tiny_base", folder / "tiny_finetuned"]
    for path, value in zip(tiny, (0.0, 1.0), strict=True):
        if not path.exists():
            save_file({"x": torch.full((1,), value)}, path)
    work(*tiny, folder / "tiny_out", method, what)
    before, start, cpu = peak_megabytes(), time.perf_counter(), time.process_time()
    work(folder / "base.safetensors", folder / "finetuned.safetensors", folder / "merged.safetensors", method, what)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "interpreter_mb": before, "above_mb": peak_megabytes() - before}))


if __name__ == "__main__":
    main()
