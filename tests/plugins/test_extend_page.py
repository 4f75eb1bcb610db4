"""docs/extend.md: every file and every command of it, as they stand there."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from plugins.conftest import COMMANDS, FILES

from speechft.encoders import random_encoder
from speechft.files.structured import read_json

RATE = 16_000


def add_words(folder):
    """Tones of half a second, longer for longer words."""
    for place, word in enumerate(("on", "down", "seven", "noise")):
        (folder / word).mkdir(parents=True)
        for speaker, pitch in (("anna", 1.0), ("ben", 1.2)):
            for take in range(4):
                times = np.arange(RATE // 2 + 800 * take) / RATE
                noise = np.random.default_rng(take).standard_normal(len(times))
                tone = 0.3 * np.sin(2 * np.pi * 300 * 2**place * pitch * times) + 0.01 * noise
                soundfile.write(folder / word / f"{speaker}_{take}.wav", tone, RATE)


@pytest.mark.slow
def test_the_page_does_what_it_says(page):
    add_words(page / "words")
    for seed, name in enumerate(("base", "finetuned")):
        random_encoder("hubert", page / "models" / name, seed=seed)
    # Commands find the `speechft` and `python` of these tests.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    said = {}
    for command in COMMANDS:
        done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, cwd=page, env=environment)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        said[command.split("\n")[0]] = done.stdout + done.stderr
    assert {path.name for path in (page / "models").iterdir()} == {"base", "finetuned", "farther", "merged"}
    farther = read_json(page / "models/farther/provenance.json")["recipe"]
    assert farther["plugins"].keys() == {"farther.py"}
    assert farther["plugins"] == read_json(page / "results/recipes/merge/farther.json")["plugins"]
    corpus = read_json(page / "manifests/words/corpus.json")
    assert {split: found["utterances"] for split, found in corpus["splits"].items()} == {"train": 12, "dev": 6, "test": 6}
    cell = read_json(page / "rate.json")
    assert (cell["protocol"], cell["recipe"]["plugins"].keys()) == ("quick", {"tasks.py", "rate.py"})
    rows = (page / "results/tables/rates.md").read_text()
    assert "rate error letters/s ↓" in rows
    assert all(f"| {label} " in rows for label in ("Pre-trained", "Farther", "Energies"))
    assert "Protocol: quick" in rows
    assert "pending" not in rows


def test_the_page_shows_one_of_each():
    assert FILES.keys() == {
        *("farther.py", "words.py", "energies.py", "names.py", "rate.py", "tasks.py"),
        *("experiment.yaml", "here.py", "pyproject.toml"),
    }
    assert len(COMMANDS) == 6
