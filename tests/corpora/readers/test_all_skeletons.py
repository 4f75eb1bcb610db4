"""`speechft prepare --check` on skeletons of all published corpora at once: one table, with what was found and what was published."""

import re

import pytest
import yaml
from conftest import ROOT
from corpora.readers.conftest import Skeleton
from corpora.readers.test_aishell import build_aishell1, build_aishell3
from corpora.readers.test_audio_snips import build_snips
from corpora.readers.test_crema_d import build_crema
from corpora.readers.test_fluent_speech_commands import build_fluent
from corpora.readers.test_iemocap import build_iemocap
from corpora.readers.test_libri2mix import build_libri2mix
from corpora.readers.test_librispeech import build_librispeech
from corpora.readers.test_quesst14 import build_quesst
from corpora.readers.test_speech_commands import build_commands, find_speakers
from corpora.readers.test_tedlium3 import build_tedlium
from corpora.readers.test_timit import build_timit
from corpora.readers.test_voxceleb1 import RECORDINGS, TESTED, build_voxceleb
from typer.testing import CliRunner

from speechft.cli import app
from speechft.recipes.corpora import KINDS

EVIDENCE = ROOT / "docs/results/prepare_check.txt"


def build_sid(skeleton):
    build_voxceleb(skeleton)
    lines = [f"{split} {name.split('wav/')[1]}" for split, name in zip((1, 2, 3), RECORDINGS, strict=True)]
    skeleton.text("iden_split.txt", *lines)


def build_asv(skeleton):
    build_voxceleb(skeleton)
    names = [name.removeprefix("test/wav/") for name in TESTED]
    skeleton.text("trials.txt", f"1 {names[0]} {names[1]}", f"0 {names[0]} {names[2]}")


def build_broken(skeleton):
    """LibriSpeech with a part that is missing, a recording that is lost and one that is damaged."""
    build_librispeech(skeleton)
    (skeleton.path / "dev-clean/84/121123/84-121123-0001.flac").unlink()
    (skeleton.path / "train-clean-100/103/1240/103-1240-0000.flac").write_bytes(b"no audio")


CORPORA = {
    "librispeech": (build_librispeech, {}),
    "voxceleb1": (build_sid, {"use": "sid", "split_list": "iden_split.txt"}),
    "voxceleb1_asv": (build_asv, {"kind": "voxceleb1", "use": "asv", "trials": "trials.txt"}),
    "speech_commands": (lambda skeleton: build_commands(skeleton, find_speakers()), {}),
    "fluent_speech_commands": (build_fluent, {}),
    "iemocap": (build_iemocap, {}),
    "audio_snips": (build_snips, {}),
    "quesst14": (build_quesst, {}),
    "libri2mix": (build_libri2mix, {}),
    "timit": (lambda skeleton: build_timit(skeleton, lower=False), {}),
    "tedlium3": (build_tedlium, {}),
    "crema_d": (build_crema, {}),
    "aishell3": (build_aishell3, {}),
    "aishell1": (build_aishell1, {}),
    "damaged": (build_broken, {"kind": "librispeech"}),
    "absent": (lambda skeleton: None, {"kind": "librispeech"}),
}


@pytest.fixture
def printed(tmp_path, monkeypatch):
    """What the command prints, and its exit status."""
    entries = {}
    for name, (build, options) in CORPORA.items():
        build(Skeleton(tmp_path / "corpora" / name))
        paths = {key: f"corpora/{name}/{value}" for key, value in options.items() if key in ("split_list", "trials")}
        entries[name] = {"kind": name, "path": f"corpora/{name}", **options, **paths}
    values = {"name": "x", "corpora": entries, "encoders": {}, "tasks": {}, "tables": {}}
    (tmp_path / "skeletons.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["prepare", "--check", "--experiment", "skeletons.yaml"])
    assert done.exit_code == 1, done.output
    # Above the table there is an empty line.
    return "\n".join(line.rstrip() for line in done.output.splitlines()).strip("\n") + "\n"


def test_one_table_of_all_corpora(printed):
    table, _, problems = printed.partition("\n\n")
    heading, _, *rows = table.splitlines()
    assert heading.split() == ["corpus", "split", "found", "expected", "hours", "problems"]
    named = {row.split()[0]: re.split(r"  +", row) for row in rows if row[2] != " "}
    assert list(named) == list(CORPORA)
    assert set(KINDS) <= {options.get("kind", name) for name, (_, options) in CORPORA.items()}
    # Two recordings of 0.3 s in each part of LibriSpeech, where thousands are expected.
    assert named["librispeech"][2:6] == ["train", "2 utterances, 1 speakers", "28,539 utterances, 251 speakers, 100.6 hours", "0.00"]
    assert named["absent"][2:4] == ["train", "nothing"]
    # Every skeleton is too small, and is said to be: a problem where the number is certain, else a remark.
    for name in CORPORA:
        said = [line for line in problems.splitlines() if line.startswith(f"{name}: ")]
        assert bool(int(named[name][-1])) == any("remark: " not in line for line in said), name
        assert name == "absent" or any("published are" in line for line in said), name
    assert "damaged: corpora/damaged/dev-clean/84/121123/84-121123-0001.flac: no such file" in problems
    assert "damaged: corpora/damaged/train-clean-100/103/1240/103-1240-0000.flac: damaged or not audio" in problems
    assert "absent: corpora/absent/train-clean-100: no such folder, needed for LibriSpeech" in problems


def test_the_evidence_in_the_documentation_is_what_is_printed(printed):
    """After a change that is meant to be: write `printed` into docs/results/prepare_check.txt."""
    assert EVIDENCE.read_text(encoding="utf-8") == printed
