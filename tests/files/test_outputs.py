"""No command replaces what it did not make: every verb, against everything that can be at its output."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT
from corpora.conftest import CorpusFolder
from typer.main import get_command
from typer.testing import CliRunner

from speechft.cli import app
from speechft.corpora.finding import Found
from speechft.encoders.directory.random_encoders import random_encoder
from speechft.errors import ConfigError, DownloadError, OutputError
from speechft.fairseq_plugin.jobs import remove_work
from speechft.files.atomic import atomic_directory, write_text
from speechft.files.markers import MARKER
from speechft.files.structured import write_json
from speechft.planning.speeds import load_throughput
from speechft.recipes.corpora import SpeechCommands
from speechft.starter.superb import derive

COMMANDS = {name: verb for name, verb in get_command(app).commands.items() if not verb.hidden}
VERBS = {*COMMANDS, *(f"report {kind}" for kind in COMMANDS["report"].commands)} - {"report", "report table"}  # the latter is `tables`
APART = ("fetch", "rehearse", "superb", "init")
"""Verbs with tests of their own, below."""
CORPUS = SpeechCommands(kind="speech_commands", path="corpora")
FOLDER, FILE, SET, NOTHING = "a folder", "a file", "files in a folder", "nothing"


class Decision(NamedTuple):
    """What a verb writes, its arguments but for the output, and what it reads."""

    output: str
    arguments: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()


TRAINED = ("enc", "man")
COUNTS = {"train": 12, "dev": 4, "test": 4}
DECISIONS = {
    "prepare": Decision(FOLDER, ("--csv", "corpus/corpus.csv"), ()),
    "unite": Decision(FOLDER, ("man",), ("man",)),
    "import": Decision(FOLDER, ("enc",), ("enc",)),
    "fbank": Decision(FOLDER),
    "store": Decision(FOLDER, ("enc",), ("enc",)),
    "export": Decision(FILE, ("enc", "--format", "s3prl"), ("enc",)),
    "finetune": Decision(FOLDER, ("enc", "man", "--recipe", "ft.json"), TRAINED),
    "early": Decision(FOLDER, ("tuned", "--share", "0.5"), ("tuned",)),
    "pretrain": Decision(FOLDER, ("man", "--recipe", "pre.json"), ("man",)),
    "continue": Decision(FOLDER, ("enc", "man", "--recipe", "cont.json"), TRAINED),
    "merge": Decision(FOLDER, ("enc", "enc2"), ("enc", "enc2")),
    "evaluate": Decision(FILE, ("enc", "ks", "man", "--recipe", "ks.json"), TRAINED),
    "analyse": Decision(FILE, ("enc", "enc2", "man"), ("enc2", "man")),
    "connect": Decision(FILE, ("enc", "tuned", "man", "--alpha", "0,1"), ("tuned",)),
    "report page": Decision(FILE, ("report.json", "--results", "."), ("cells/e/none/pretrained/ks.json",)),
    "choose": Decision(FILE, ("choice.json", "half.json", "other.json"), ("half.json",)),
    "report figure": Decision(FILE, ("table.json", "cell.json"), ("cell.json",)),
    "report training": Decision(FILE, ("log.csv",), ("log.csv",)),
    "schema": Decision(FILE),
    "calibrate": Decision(FILE, ("--encoder", "enc"), ("enc",)),
    "fetch": Decision(FILE),
    "tables": Decision(SET, ("table.json", "cell.json"), ("cell.json",)),
    "report differences": Decision(SET, ("table.json", "cell.json"), ("cell.json",)),
    "report alpha": Decision(SET, ("line.json", "cell.json"), ("cell.json",)),
    "report similarity": Decision(SET, ("moved.json", "analysis.json"), ("analysis.json",)),
    "report connection": Decision(SET, ("between.json", "connection.json"), ("connection.json",)),
    "rehearse": Decision(SET),
    "superb": Decision(SET),
    "init": Decision(FOLDER),
    **{verb: Decision(NOTHING) for verb in ("inspect", "check-encoder", "run", "plan", "doctor", "resume", "jobs")},
}
WRITING = {verb: decision for verb, decision in DECISIONS.items() if decision.output != NOTHING and verb not in APART}
FOLDERS = [verb for verb, decision in WRITING.items() if decision.output == FOLDER]


def speechft(verb, *arguments):
    return CliRunner().invoke(app, [*verb.split(), *map(str, arguments)])


def done(*arguments):
    result = speechft(*arguments)
    assert result.exit_code == 0, (arguments, result.output, result.exception)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with an input of every kind."""
    folder = tmp_path_factory.mktemp("world")
    before = Path.cwd()
    os.chdir(folder)
    try:
        corpus = CorpusFolder(folder / "corpus")
        tones = [(f"{split}{number}.wav", split, number % 2) for split, count in COUNTS.items() for number in range(count)]
        for name, _, kind in tones:
            corpus.tone(name, 0.5, frequency=(200, 1200)[kind])
        corpus.csv.write_text("".join(["path,text,speaker,label,split\n", *(f"{n},ab,s{k},{'lh'[k]},{s}\n" for n, s, k in tones)]))
        done("prepare", "--csv", "corpus/corpus.csv", "--out", "man")
        for seed, name in enumerate(("enc", "enc2")):
            random_encoder("hubert", name, seed=seed, encoder_layers=1)
        probe = {"protocol": "quick", "steps": 4, "batch_size": 4, "eval_every": 2, "seeds": [1], "learning_rates": [0.1]}
        write_json("ks.json", {"task": "ks", **probe})
        tuning = {"updates": 4, "batch_size": 4, "validate_every": 2, "early": [0.5], "peak_lr": 1e-3, "head_only": 0.2}
        write_json("ft.json", {"task": "sid", **tuning})
        short = {"updates": 2, "validate_every": 2, "batch_seconds": 2.0, "max_seconds": 0.5, "valid_fraction": 0.15, "mask_length": 4}
        extractor = [{"channels": 16, "kernel": k, "stride": s} for k, s in [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)]]
        size = {"layers": 1, "hidden_size": 32, "ffn_size": 64, "attention_heads": 2, "conv_pos": 16, "conv_pos_groups": 4, "final_dim": 16}
        write_json("pre.json", {**short, "architecture": {**size, "extractor": extractor}, "clusters": 8, "warmup_updates": 1})
        write_json("cont.json", {**short, "targets": "mfcc", "clusters": 8})
        rows = [{"encoder": "e", "finetuning": "none", "method": name, "label": name} for name in ("pretrained", "other")]
        write_json("table.json", {"title": "t", "rows": rows, "tasks": ["ks"], "differences": [[0, 1]]})
        write_json("report.json", {"title": "t", "tables": {"t": {"title": "t", "rows": rows, "tasks": ["ks"]}}})
        points = [{**row, "alpha": float(alpha)} for alpha, row in enumerate(rows)]
        write_json("line.json", {"title": "t", "points": points, "tasks": ["ks"], "start": "a", "end": "b"})
        write_json("moved.json", {"title": "t", "rows": rows})
        (folder / "log.csv").write_text("update,loss\n1,2\n2,1\n")
        done("evaluate", "enc", "ks", "man", "--recipe", "ks.json", "--name", "e/none/pretrained", "--out", "cell.json")
        cell = json.loads((folder / "cell.json").read_text())
        cell["trials"][0]["dev"] = {"KS": 50.0}
        write_json("half.json", cell)
        write_json("other.json", {**cell, "model": {**cell["model"], "method": "other"}})
        write_json("choice.json", {"points": points, "tasks": ["ks"]})
        (folder / "cells/e/none/pretrained").mkdir(parents=True)
        shutil.copy("cell.json", "cells/e/none/pretrained/ks.json")
        done("analyse", "enc", "enc2", "man", "--name", "e/none/other", "--out", "analysis.json")
        done("finetune", "enc", "man", "--recipe", "ft.json", "--out", "tuned")
        write_json("between.json", {"title": "t", "start": rows[0], "end": rows[1], "alphas": [0, 1]})
        done("connect", "enc", "tuned", "man", "--alpha", "0,1", "--out", "connection.json")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(world, monkeypatch):
    monkeypatch.chdir(world)
    speeds = next(iter(load_throughput(ROOT / "config/throughput.json").devices.values()))
    monkeypatch.setattr("speechft.planning.calibration.calibrate", lambda *_, **__: speeds)
    return world


def tree(*folders):
    """Hash of all names, kinds and contents."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b"/"
            digest.update(f"{path} {hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def run(verb, out):
    return speechft(verb, *WRITING[verb].arguments, "--out", out)


def refuses(verb, out, *watched):
    before = tree(*watched)
    result = run(verb, out)
    assert isinstance(result.exception, OutputError), (result.exit_code, result.output, result.exception)
    assert tree(*watched) == before
    return str(result.exception)


def written(verb, out):
    """The files of an output: itself, or those of a set."""
    return [Path(out)] if DECISIONS[verb].output != SET else [Path(out) / f"{Path(WRITING[verb].arguments[0]).stem}.csv"]


def test_every_verb_has_a_decision_and_a_row_in_the_docs():
    assert set(DECISIONS) == VERBS, "decide what a new verb may replace, here and in docs/outputs.md"
    text = (ROOT / "docs/outputs.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    assert {row[0].strip("`"): row[1] for row in rows} == {verb: decision.output for verb, decision in DECISIONS.items()}
    for verb, _, own, other, given, link in rows:
        if (verb := verb.strip("`")) in WRITING:
            assert (own.endswith("replaced"), other, link) == (True, "refused", "refused")
            assert given == ("refused" if WRITING[verb].arguments else "no inputs")


@pytest.mark.parametrize("verb", WRITING)
def test_its_own_output_is_replaced(here, tmp_path, verb):
    out = tmp_path / "out"
    for _ in range(2):
        result = run(verb, out)
        assert result.exit_code == 0, (result.output, result.exception)
        assert all(path.exists() for path in written(verb, out))
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []


@pytest.mark.parametrize("verb", WRITING)
def test_something_else_and_links_are_not(here, tmp_path, verb):
    out, linked = tmp_path / "out", tmp_path / "linked"
    (other,), (link,) = written(verb, out), written(verb, linked)
    if WRITING[verb].output == FOLDER:
        other.mkdir()
        other /= "thesis.txt"
    other.parent.mkdir(exist_ok=True)
    other.write_text("years")
    assert "not replaced" in refuses(verb, out, tmp_path, here)
    link.parent.mkdir(exist_ok=True)
    for target in (tmp_path, tmp_path / "nowhere"):
        link.symlink_to(target)
        assert "is a link" in refuses(verb, linked, tmp_path, here)
        link.unlink()


@pytest.mark.parametrize("verb", [verb for verb, decision in WRITING.items() if decision.inputs])
def test_inputs_are_not(here, tmp_path, verb):
    for given in WRITING[verb].inputs:
        if Path(given).is_dir():
            if WRITING[verb].output == FOLDER:
                refuses(verb, given, here)
            if verb != "calibrate":
                assert "is inside the input" in refuses(verb, Path(given) / "new", here)
        elif WRITING[verb].output != FOLDER:
            (path,) = written(verb, tmp_path / "out")
            path.parent.mkdir(exist_ok=True)
            path.hardlink_to(given)
            assert "is the input" in refuses(verb, tmp_path / "out", here, tmp_path)


@pytest.mark.parametrize("verb", [verb for verb, decision in WRITING.items() if decision.output != SET])
def test_the_working_folder_and_those_above_it_are_not(here, tmp_path, verb, monkeypatch):
    for out in (".", "..", here, here.parent):
        refuses(verb, out, here)
    monkeypatch.setenv("HOME", str(tmp_path))
    refuses(verb, tmp_path, tmp_path)


@pytest.mark.parametrize("verb", FOLDERS)
def test_a_file_that_was_added_is_kept(here, tmp_path, verb):
    out = tmp_path / "out"
    with atomic_directory(out, verb) as folder:
        (folder / "model.safetensors").write_text("old")
    (out / "notes.txt").write_text("mine")
    assert "contains notes.txt" in refuses(verb, out, tmp_path)
    (out / "notes.txt").unlink()
    (out / "empty").mkdir()
    assert "contains empty/" in refuses(verb, out, tmp_path)


def test_init_writes_where_nothing_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done("init", "mine")
    (tmp_path / "mine/config/experiment.yaml").write_text("years")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("years")
    before = tree(tmp_path)
    for out in ("mine", "link", "file", "."):
        assert isinstance(speechft("init", out).exception, OutputError), out
    assert tree(tmp_path) == before
    full = iter([write_text, write_text])
    with monkeypatch.context() as patch:  # the disk is full at the third file
        patch.setattr("speechft.starter.write_text", lambda *arguments: next(full)(*arguments))
        assert speechft("init", "second").exit_code != 0
    assert not any((tmp_path / "second").iterdir())
    done("init", "second")


def test_what_another_command_made_is_not_replaced_but_what_is_left_of_it(here, tmp_path):
    out = tmp_path / "out"
    done("store", "enc", "--out", out)
    assert "was made by `speechft store`" in refuses("merge", out, tmp_path)
    (out / "model.safetensors").unlink()
    assert run("merge", out).exit_code == 0
    for name in ("model.safetensors", "config.json", "provenance.json"):  # as Snakemake does before it makes them again
        (out / name).unlink()
    assert run("merge", out).exit_code == 0
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository/README.md").write_text("# My models\n")
    refuses("merge", tmp_path / "repository", tmp_path)


def test_recordings_of_an_older_output_are_inputs(here, tmp_path):
    done("prepare", "--csv", "corpus/corpus.csv", "--out", tmp_path / "out")
    marker = json.loads((tmp_path / "out" / MARKER).read_text())
    recording = tmp_path / "out/a.wav"
    recording.write_bytes((here / "corpus/train0.wav").read_bytes())
    (tmp_path / "out" / MARKER).write_text(json.dumps({**marker, "files": [*marker["files"], "a.wav"]}))
    (tmp_path / "c.csv").write_text(f"path,text,split\n{recording},ab,train\n")
    result = speechft("prepare", "--csv", tmp_path / "c.csv", "--out", tmp_path / "out")
    assert "is inside the output" in str(result.exception)
    assert recording.exists()


def test_work_directories_of_others_and_outputs_are_refused(here, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("years")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    before = tree(tmp_path)
    for verb in ("finetune", "pretrain", "continue"):
        for work, out in (("full", "out"), ("link", "out"), ("out/work", "out"), ("around", "around/out")):
            result = speechft(verb, *WRITING[verb].arguments, "--out", tmp_path / out, "--work-dir", tmp_path / work)
            assert isinstance(result.exception, OutputError), (result.output, result.exception)
    result = speechft("finetune", *WRITING["finetune"].arguments, "--out", tmp_path / "out", "--tensorboard", tmp_path / "out/events")
    assert "is inside the output" in str(result.exception)
    assert tree(tmp_path) == before


def test_a_work_directory_keeps_what_came_from_elsewhere(here, tmp_path):
    made = ["identity.json", "training.csv", "checkpoints/checkpoint_last.pt", "data/train/0000000.flac", "early-0.20.safetensors"]
    made.append("features/sid-train.f32")
    for name in (*made, "notes.txt", "checkpoints/notes.txt"):
        (tmp_path / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "work" / name).write_text("x")
    remove_work(tmp_path / "work")
    left = sorted(str(path.relative_to(tmp_path / "work")) for path in (tmp_path / "work").rglob("*"))
    assert left == ["checkpoints", "checkpoints/notes.txt", "notes.txt"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/identity.json").write_text("{}")
    remove_work(tmp_path / "empty")
    assert not (tmp_path / "empty").exists()
    done("evaluate", "enc", "ks", "man", "--recipe", "ks.json", "--out", tmp_path / "work/cell.json", "--work-dir", tmp_path / "work")
    assert {path.suffix for path in (tmp_path / "work").iterdir()} == {"", ".txt", ".json", ".lock"}


def test_rehearse_replaces_only_an_earlier_rehearsal(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = ("rehearse", "config/demo.yaml", "--encoders", "mine", "--no-gpus", "--out")
    for _ in range(2):
        done(*arguments, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/experiment.yaml").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    before = tree(tmp_path)
    assert "is neither empty nor the folder of a rehearsal" in str(speechft(*arguments, tmp_path / "mine").exception)
    assert "is a link" in str(speechft(*arguments, tmp_path / "link").exception)
    result = speechft("rehearse", tmp_path / "out/experiment.yaml", "--out", tmp_path / "out")
    assert "is the input" in str(result.exception)
    assert tree(tmp_path) == before
    with (tmp_path / "out/experiment.yaml").open("a") as file:
        file.write("# edited\n")
    (tmp_path / "mine/rehearsal.json").write_text('{"play": "Hamlet"}')
    before = tree(tmp_path)
    assert "is not an experiment as `speechft rehearse` derived it" in str(speechft(*arguments, tmp_path / "out").exception)
    assert "neither empty nor the folder of a rehearsal" in str(speechft(*arguments, tmp_path / "mine").exception)
    assert tree(tmp_path) == before


def test_superb_replaces_an_experiment_that_nobody_edited(here, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "speechft.starter.superb.find_corpora", lambda *_, **__: Found({"speech_commands": CORPUS}, {}, {"speech_commands": ()})
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    for seed in (1, 2):
        random_encoder("hubert", f"enc{seed}", seed=seed, encoder_layers=1)
        derive([f"enc{seed}"], here, Path("out"))
    assert "enc2" in (tmp_path / "out/experiment.yaml").read_text()
    (tmp_path / "link").mkdir()
    (tmp_path / "link/experiment.yaml").symlink_to(tmp_path / "out/experiment.yaml")
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="is a link"):
        derive(["enc2"], here, Path("link"))
    with (tmp_path / "out/experiment.yaml").open("a") as file:
        file.write("# mine\n")
    with pytest.raises(ConfigError, match="not the requested enc1"):
        derive(["enc1"], here, Path("out"))
    (tmp_path / "out/experiment.yaml").write_text((tmp_path / "out/experiment.yaml").read_text().removesuffix("# mine\n"))
    assert tree(tmp_path) == before


def test_fetch_replaces_nothing(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"content")
    address, folder = (tmp_path / "a.bin").as_uri(), tmp_path / "here"
    folder.mkdir()
    out = folder / "z.bin"
    for name in ("z.bin.part", "z.bin.part.json"):
        (folder / name).write_text("mine")
        before = tree(folder)
        result = speechft("fetch", "--url", address, "--out", out)
        assert isinstance(result.exception, DownloadError)
        (folder / ".z.bin.lock").unlink()
        assert tree(folder) == before
        (folder / name).unlink()
    out.symlink_to(folder / "nowhere")
    assert "is a link" in str(speechft("fetch", "--url", address, "--out", out).exception)
    out.unlink()
    for _ in range(2):
        done("fetch", "--url", address, "--out", out)
        assert out.read_bytes() == b"content"
    assert not (folder / "z.bin.part").exists()
