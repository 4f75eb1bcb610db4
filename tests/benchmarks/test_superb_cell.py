"""Both sides of benchmarks/superb_cell.py get the same recordings, and what it measures is everything that a process starts."""

import copy
import csv
import json
import sys
import time

import numpy as np
import pytest
import soundfile
import torch

from speechft.corpora import load_split
from speechft.tasks import get_task

WORDS = ("ONE", "TWO THREE", "FOUR", "FIVE SIX")


@pytest.fixture
def cell(script):
    return script("superb_cell")


@pytest.fixture
def corpora(script):
    return script("superb_cell_corpora")


@pytest.fixture
def table(tmp_path):
    """A table of 60 sentences by five speakers, at 8 kHz; the recordings of one speaker are too short for ER."""
    rows, generator = [], np.random.default_rng(0)
    for index in range(60):
        speaker, split = f"speaker{index % 5}", ("train", "train", "train", "dev", "test")[index // 5 % 5]
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, 0.1 * generator.standard_normal(6400 if speaker == "speaker0" else 9600), 8000)
        rows.append({"path": path.name, "speaker": speaker, "text": WORDS[index % 4], "split": split})
    rows.append({"path": "keyword.wav", "speaker": "speaker1", "text": "", "split": "train"})
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "table.csv"


def test_both_sides_have_the_same_folds(corpora, table, tmp_path):
    made = corpora.make_emotions(corpora.read_table(table), tmp_path / "er", clips_per_fold=8)
    divided = get_task("er").folds(tuple(load_split(made.manifests, "train")))
    assert len(divided) == 5
    for session, splits in divided.items():
        read = {name: json.loads((made.meta / session / f"{name}_meta_data.json").read_text()) for name in ("train", "test")}
        names = {name: [(item["path"], item["label"]) for item in found["meta_data"]] for name, found in read.items()}
        # What s3prl does with the training file: seed 0, 80 % for training.
        torch.manual_seed(0)
        parts = torch.utils.data.random_split(names["train"], [made.train, len(names["train"]) - made.train])
        expected = {"train": list(parts[0]), "dev": list(parts[1]), "test": names["test"]}
        ours = {
            name: [("/".join(cut.recording.sources[0].source.split("/")[-2:]), cut.supervisions[0].custom["label"]) for cut in splits[name]]
            for name in splits
        }
        assert ours == expected
        assert len(names["test"]) == 8
        assert len(parts[1]) + 8 == made.scored
        assert {label for _, label in names["test"]} == set(corpora.EMOTIONS)
    paths = list(made.root.glob("Session*/*.wav"))
    assert len(paths) == made.clips == 40
    assert {(soundfile.info(path).frames, soundfile.info(path).samplerate) for path in paths} == {(16_000, 16_000)}


def test_both_sides_have_the_same_phones(corpora, table, tmp_path):
    made = corpora.make_phones(corpora.read_table(table), tmp_path / "pr", {"train": 20, "dev": 5, "test": 5})
    task = get_task("pr", lexicon=[str(made.lexicon)])
    symbols = ["<pad>", "<eos>", "<unk>", *made.vocabulary.read_text().split()]
    for split, path in made.splits.items():
        cuts = list(load_split(made.manifests, split))
        entries = json.loads(path.read_text())
        assert len(cuts) == len(entries) == made.sizes[split]
        for cut, entry in zip(cuts, entries, strict=True):
            assert cut.recording.sources[0].source == entry["path"]
            target = task.target(cut, task.label_set(cuts)).tolist()
            assert [symbols[index] for index in target] == [*entry["phones"].split(), "<eos>"]
            assert soundfile.info(entry["path"]).samplerate == 16_000


def test_a_table_that_does_not_do_is_refused(corpora, table, tmp_path):
    rows = corpora.read_table(table)
    with pytest.raises(SystemExit, match="4 speakers with 15 recordings"):
        corpora.make_emotions(rows, tmp_path / "er", clips_per_fold=12)
    with pytest.raises(SystemExit, match="10 usable recordings in split 'dev', 13 are needed"):
        corpora.make_phones(rows, tmp_path / "pr", {"dev": 13})


def test_a_process_and_its_children_are_measured(cell, tmp_path):
    bench = object.__new__(cell.Bench)
    bench.folder, bench.threads, bench.jobs = tmp_path, 1, 0
    work = "import time\nwhile time.process_time() < 0.5: pass"
    parent = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {work!r}]); time.sleep(0.5)"
    started = time.perf_counter()
    cost = bench.measure([sys.executable, "-c", parent])
    assert 0.5 <= cost.cpu < 1.5
    assert 1.0 <= cost.wall <= time.perf_counter() - started
    with pytest.raises(SystemExit, match="ended with status 1:\n(.|\n)*ValueError"):
        bench.measure([sys.executable, "-c", "raise ValueError"])


def test_different_work_is_refused(cell):
    recipe = {"steps": 3, "accumulate": 2, "batch_size": 4, "eval_every": 3}
    report = {"steps": 3, "batches": [4, 4, 2, 4, 4, 2], "scored": {"dev": 5, "test": 2}, "evaluations": {"dev": 1, "test": 1}}
    scored = {"dev": 5, "test": 2}

    def check(reports):
        cell.check_same_work("er", cell.Reference(reports=reports), {"recipe": recipe}, 10, scored)

    check([report] * 20)
    for key, wrong in (("steps", 2), ("batches", [4] * 6), ("scored", {"dev": 5}), ("evaluations", {"dev": 2, "test": 2})):
        other = copy.deepcopy(report) | {key: wrong}
        with pytest.raises(SystemExit, match=key):
            check([report] * 19 + [other])


@pytest.mark.slow
def test_both_sides_train_and_score(table, run_script):
    sizes = ("--train", 20, "--dev", 4, "--test", 2, "--clips-per-fold", 4)
    options = ("--small", "--table", table, "--er-steps", 1, "--pr-steps", 1, *sizes)
    shown = run_script("superb_cell.py", *options, needs_s3prl=True)
    utterances = [line.split(" | ")[5] for line in shown.splitlines() if line.startswith(("| ER", "| PR"))]
    # ER: 20 runs of 32 training visits and 4 + 4 scored clips. PR: 4 runs of 32 and 4, and 2 tested.
    assert utterances == ["800 / 20", "- / 20", "146 / 38", "146 / 26"]
