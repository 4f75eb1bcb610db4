"""Cost of `speechft prepare` and of reading its manifests at the size of VoxCeleb1, now and at another revision.

    python benchmarks/corpora.py --before 92f828c --files 20000
    python benchmarks/corpora.py

The stand-in has as many recordings as VoxCeleb1, of 2 s each, with its folders and split list: hard links to eight files of noise in a
temporary folder. Each row is a separate process. Reading is `load_split` of train and the hash of its content, as in every evaluation; the
dry run is `speechft evaluate --dry-run`. Memory is that of the largest process, including its libraries (first row).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from machine import describe
from measured import Measured, measured_run

from speechft.conventions import SAMPLE_RATE
from speechft.encoders import random_encoder

ROOT = Path(__file__).parents[1]
VOXCELEB1 = 153_516
SECONDS, SPEAKERS, IN_A_VIDEO = 2.0, 1251, 7
SHARES = {"1": ("dev", 0.9013), "2": ("dev", 0.045), "3": ("test", 0.0537)}
"""Number of a split in the list -> folder and share of the recordings, as in VoxCeleb1."""
LIBRARIES = "import speechft.corpora.manifests"
READ = """
import sys
from speechft.corpora import load_split
from speechft.evaluate.data.splits import manifest_hash
print(manifest_hash(tuple(load_split(sys.argv[1], "train"))))
"""
CLI = "import sys; from speechft.cli import main; sys.exit(main())"


def make_stand_in(folder: Path, files: int) -> Path:
    """Create the corpus and return its recipe."""
    folder.mkdir()
    generator, sources = np.random.default_rng(0), []
    for number in range(8):
        sources.append(folder / f"{number}.wav")
        soundfile.write(sources[-1], 0.1 * generator.standard_normal(round(SECONDS * SAMPLE_RATE)), SAMPLE_RATE)
    lines: list[str] = []
    for split, (half, share) in SHARES.items():
        for number in range(round(share * files)):
            speaker = 10_001 + number // IN_A_VIDEO % SPEAKERS + (2000 if half == "test" else 0)
            name = f"id{speaker:05}/{split}-{number // IN_A_VIDEO:07}/{number % IN_A_VIDEO:05}.wav"
            path = folder / half / "wav" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(sources[number % len(sources)], path)
            lines.append(f"{split} {name}\n")
    (folder / "iden_split.txt").write_text("".join(lines), encoding="utf-8")
    recipe = {"kind": "voxceleb1", "path": str(folder), "use": "sid", "split_list": str(folder / "iden_split.txt"), "complete": False}
    (folder / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    return folder / "recipe.json"


def at_revision(revision: str, folder: Path) -> Path:
    """Check out the package at a revision."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", revision, "speechft", "config"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    subprocess.run(["tar", "x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def measure(package: Path, arguments: list[str]) -> Measured:
    """Measure a Python process that imports speechft from `package`."""
    return measured_run(
        [sys.executable, "-c", *arguments], cwd=package, environment={"PYTHONPATH": str(package), "PYTHONWARNINGS": "ignore"}
    )


def row(name: str, now: Measured, before: Measured | None) -> str:
    """Format a row of the table."""
    shown = []
    for field, unit in (("cpu_seconds", "s"), ("seconds", "s"), ("megabytes", "MB")):
        value = getattr(now, field)
        earlier = "" if before is None else f", was {getattr(before, field):.3g} ({value / getattr(before, field):.2f})"
        shown.append(f"{value:.3g} {unit}{earlier}")
    return f"| {name} | {' | '.join(shown)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=VOXCELEB1)
    parser.add_argument("--before", metavar="REVISION", help="also measure this revision, whose `prepare` has no --threads")
    parser.add_argument("--folder", type=Path, help="where to create the temporary folder: 10 MB, and one inode per recording")
    parser.add_argument("--small", action="store_true", help="200 recordings: numbers mean nothing")
    options = parser.parse_args()
    files = 200 if options.small else options.files
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        recipe = make_stand_in(folder / "corpus", files)
        random_encoder("hubert", folder / "encoder", seed=0)
        earlier = at_revision(options.before, folder / "before") if options.before else None
        print(f"{describe()} {files:,} recordings. In parentheses: now / then.\n")
        print("| | CPU time | wall time | peak memory |\n|---|---|---|---|")
        print(row("imports alone", measure(ROOT, [LIBRARIES]), None), flush=True)
        prepare = [CLI, "prepare", "--recipe", str(recipe), "--out"]
        then = measure(earlier, [*prepare, str(folder / "out-then")]) if earlier else None
        one = measure(ROOT, [*prepare, str(folder / "out"), "--threads", "1"])
        print(row("prepare, one thread", one, then), flush=True)
        two = measure(ROOT, [*prepare, str(folder / "out-2"), "--threads", "2"])
        print(row("prepare, two threads", two, one).replace("was", "with one"), flush=True)
        contents = {(folder / out / "train.jsonl.gz").read_bytes() for out in ("out", "out-2", *(["out-then"] if earlier else []))}
        if len(contents) > 1:
            raise SystemExit("The manifests differ.")
        dry = [CLI, "evaluate", str(folder / "encoder"), "sid", str(folder / "out"), "--dry-run"]
        for title, arguments in (("read train", [READ, str(folder / "out")]), ("dry run", dry)):
            now, then = measure(ROOT, arguments), measure(earlier, arguments) if earlier else None
            if then is not None and now.output != then.output:
                raise SystemExit(f"{title}: the outputs differ.")
            print(row(title, now, then), flush=True)


if __name__ == "__main__":
    main()
