"""Fetch recorded speech for the mini encoders: `python mini/fetch_recordings.py [FOLDER]`.

Downloads the Debian packages of recording_packages.py with apt (root is not needed), extracts the speech, and writes 16 kHz mono FLAC and
`recordings.csv` to mini/recordings, 0.8 GB in total. Finished packages are kept, so an interrupted run resumes. Equal versions of packages
and libraries give equal files. The recordings are not part of the repository.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import soundfile
from recording_audio import RATE, Piece, decode, pieces
from recording_packages import PACKAGES, Package
from tqdm import tqdm

from speechft.files.atomic import atomic_directory, atomic_file

HERE = Path(__file__).parent
COLUMNS = ("path", "package", "version", "language", "seconds", "level_db", "source")
INDEX = "index.csv"


@dataclass(frozen=True)
class Source:
    """A speech file: path in the package, language and bytes."""

    path: str
    language: str
    content: bytes


def download(package: Package, folder: Path) -> Path:
    """Download the .deb file of a package; apt verifies it."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        sys.exit(f"{package.name}: apt-get and dpkg-deb are needed to get it. Run this on Debian or Ubuntu, or in a container of one.")
    done = subprocess.run(["apt-get", "download", package.name], cwd=folder, capture_output=True, text=True)
    found = sorted(folder.glob(f"{package.name}_*.deb"))
    if done.returncode or not found:
        errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        sys.exit(
            f"{package.name}: cannot be downloaded ({' '.join(errors) or 'apt-get brought nothing'}). Check the network, run "
            "`apt-get update` as root, see that `main` is among the sources, then run this again; finished packages are kept."
        )
    return found[-1]


def sources(package: Package, folder: Path) -> Iterator[Source]:
    """Yield the speech files of an unpacked package by path; duplicates are yielded once."""
    seen = set()
    for path, content in _files(folder):
        language = package.language_of(path)
        if language is None:
            continue
        digest = hashlib.sha256(content).digest()
        if digest not in seen:
            seen.add(digest)
            yield Source(path, language, content)


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        if file.suffix == ".pk3":  # archives of nexuiz
            with zipfile.ZipFile(file) as archive:
                for name in sorted(archive.namelist()):
                    if name.endswith((".ogg", ".wav")):
                        yield name, archive.read(name)
        else:
            yield f"/{file.relative_to(folder).as_posix()}", file.read_bytes()


def convert(source: Source) -> list[Piece] | None:
    """Extract the speech of a source; None if its rate is below 16 kHz."""
    samples, rate = decode(source.content, Path(source.path).suffix.lower())
    return list(pieces(samples, rate)) if rate >= RATE else None


def make(package: Package, out: Path) -> None:
    """Write the speech of a package and its index to the folder `out`."""
    with tempfile.TemporaryDirectory(prefix="speechft-") as temporary:
        deb = download(package, Path(temporary))
        version = deb.name.split("_")[1].replace("%3a", ":")
        unpacked = Path(temporary, "files")
        subprocess.run(["dpkg-deb", "-x", deb, unpacked], check=True)
        found = list(sources(package, unpacked))
    rows, made = [], []
    counts: dict[str, int] = defaultdict(int)
    with atomic_directory(out, "fetch_recordings") as folder, ThreadPoolExecutor() as pool:
        progress = tqdm(zip(found, pool.map(convert, found), strict=True), desc=package.name, total=len(found), unit="file", disable=None)
        for source, converted in progress:
            made.append(converted)
            for piece in converted or ():
                counts[source.language] += 1
                path = Path(source.language, f"{counts[source.language]:05}.flac")
                (folder / path).parent.mkdir(exist_ok=True)
                soundfile.write(folder / path, piece.samples, RATE, subtype="PCM_16")
                seconds, level = f"{len(piece.samples) / RATE:.2f}", f"{piece.level_db:.1f}"
                rows.append([f"{package.name}/{path}", package.name, version, source.language, seconds, level, source.path])
        _write_csv(folder / INDEX, rows)
    slow, nothing = sum(item is None for item in made), sum(item == [] for item in made)
    print(f"{package.name} {version}: {len(found)} files, without {slow} under 16 kHz, {nothing} under 0.5 s: {len(rows)} pieces of speech")


def _write_csv(path: Path, rows: list[list[str]]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


def unite(folder: Path, names: list[str]) -> None:
    """Write recordings.csv, a table of everything, and counts.csv, and print a summary."""
    rows = []
    for name in names:
        with (folder / name / INDEX).open(encoding="utf-8", newline="") as file:
            rows += list(csv.reader(file))[1:]
    _write_csv(folder / "recordings.csv", rows)
    totals: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        totals[row[1], row[3]].append(float(row[4]))
    with atomic_file(folder / "counts.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["package", "language", "pieces", "minutes"])
        writer.writerows([*key, len(seconds), f"{sum(seconds) / 60:.1f}"] for key, seconds in totals.items())
    print(f"{len(rows)} pieces, {sum(float(row[4]) for row in rows) / 3600:.2f} hours in {folder / 'recordings.csv'}")


def main(folder: Path) -> None:
    """Create the missing folders of packages, then the tables."""
    missing = [package for package in PACKAGES if not (folder / package.name / INDEX).is_file()]
    if importlib.util.find_spec("G722") is None and any(package.name.endswith("-g722") for package in missing):
        print("Without the decoder G722 asterisk's packages (2 of 9 hours) are left out. `pip install G722==1.2.8` brings it.")
        missing = [package for package in missing if not package.name.endswith("-g722")]
    for package in missing:
        make(package, folder / package.name)
    unite(folder, [package.name for package in PACKAGES if (folder / package.name / INDEX).is_file()])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "recordings")
