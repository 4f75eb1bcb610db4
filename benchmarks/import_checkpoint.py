"""Time and peak memory of importing a fairseq checkpoint of HuBERT-base size, with optimizer state as in published ones.

    python benchmarks/import_checkpoint.py     # prints Markdown; needs 3 GB of disk in --folder

Each import is a separate process, `speechft import`, which includes starting Python and loading libraries; the first row is that part
alone.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from machine import describe, median_and_range
from measured import measured_run
from peer import hubert_base


def make_checkpoint(folder: Path, small: bool) -> None:
    """Write fairseq checkpoints with random weights and Adam's two moments: checkpoint.pt, and legacy.pt in torch's layout before 1.6."""
    import torch
    from fairseq.data.dictionary import Dictionary

    from speechft.encoders import export_checkpoint

    model = hubert_base(folder / "model", small=small)
    export_checkpoint(model, folder / "bare.pt", format="fairseq")
    with torch.serialization.safe_globals([Dictionary]):
        content = torch.load(folder / "bare.pt", weights_only=True)
    moments = {
        index: {"step": 400_000, "exp_avg": torch.zeros_like(tensor), "exp_avg_sq": torch.ones_like(tensor)}
        for index, tensor in enumerate(content["model"].values())
    }
    content["last_optimizer_state"] = {"state": moments, "param_groups": [{"lr": 5e-4, "params": list(moments)}]}
    torch.save(content, folder / "checkpoint.pt")
    # This layout cannot be mapped into memory.
    torch.save(content, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    (folder / "bare.pt").unlink()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="folder for temporary files; default: the system's")
    parser.add_argument("--small", action="store_true", help="use a tiny model, to test this script")
    return parser.parse_args()


def main() -> None:
    options = parse()
    rows = []
    threads = {"OMP_NUM_THREADS": str(options.threads)}
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        make_checkpoint(folder, options.small)
        speechft = [sys.executable, "-m", "speechft.cli", "import"]
        commands = {"libraries alone": [sys.executable, "-c", "import speechft.encoders.checkpoints.importing"]}
        for name in ("checkpoint", "legacy"):
            commands[f"{name} ({(folder / f'{name}.pt').stat().st_size / 1e9:.2f} GB)"] = [
                *speechft,
                str(folder / f"{name}.pt"),
                "--out",
                str(folder / "imported"),
            ]
        for name, command in commands.items():
            # The first one brings libraries and the file into the page cache.
            runs = [measured_run(command, environment=threads) for _ in range(options.repetitions + 1)][1:]
            peaks = [measured.megabytes / 1024 for measured in runs]
            rows.append(f"| {name} | {median_and_range([measured.seconds for measured in runs])} | {median_and_range(peaks, 'GiB')} |")
    print(describe())
    print(f"{'A tiny model, not HuBERT base' if options.small else 'HuBERT base, random weights'}; {options.threads} threads; ", end="")
    print(f"{options.repetitions} repetitions after one; median (range). Files were in the page cache.\n")
    print("| import of | time | peak resident memory |\n|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
