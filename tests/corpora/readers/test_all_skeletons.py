"""`speechft prepare --check` on skeletons of all published corpora at once: one table, with what was found and what was published."""

import yaml
from conftest import ROOT
from corpora.readers.skeletons import published
from typer.testing import CliRunner

from speechft.cli import app
from speechft.recipes.corpora import KINDS

EVIDENCE = ROOT / "docs/results/prepare_check.txt"
CORPORA = {
    "librispeech": {},
    "voxceleb1": {"use": "sid", "split_list": "corpora/voxceleb1/iden_split.txt"},
    "voxceleb1_asv": {"kind": "voxceleb1", "use": "asv", "trials": "corpora/voxceleb1_asv/trials.txt"},
    **{kind: {} for kind in KINDS if kind not in ("librispeech", "voxceleb1")},
    "damaged": {"kind": "librispeech"},
    "absent": {"kind": "librispeech"},
}


def test_one_table_of_all_corpora(tmp_path, monkeypatch):
    """After a change that is meant to be: write what is printed into docs/results/prepare_check.txt."""
    monkeypatch.chdir(tmp_path)
    entries = {name: {"kind": name, "path": f"corpora/{name}", **options} for name, options in CORPORA.items()}
    skeletons = {name: published(tmp_path / "corpora" / name, entry["kind"]) for name, entry in entries.items() if name != "absent"}
    skeletons["damaged"].remove("dev-clean/84/121123/84-121123-0001.flac")
    skeletons["damaged"].text("train-clean-100/103/1240/103-1240-0000.flac", "no audio")
    values = {"name": "x", "corpora": entries, "encoders": {}, "tasks": {}, "tables": {}}
    (tmp_path / "skeletons.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    done = CliRunner().invoke(app, ["prepare", "--check", "--experiment", "skeletons.yaml"])
    assert done.exit_code == 1, done.output
    # Above the table there is an empty line.
    printed = "\n".join(line.rstrip() for line in done.output.splitlines()).strip("\n") + "\n"
    assert printed == EVIDENCE.read_text(encoding="utf-8")
