"""Byte-order marks and Unicode forms in every kind of text file that people bring."""

import unicodedata
from pathlib import Path

import pytest

from speechft.errors import SpeechFTError
from speechft.experiment.schema import load_experiment
from speechft.files.structured import read_json
from speechft.files.text import decode, on_disk, read_text
from speechft.tables.published import load_published
from speechft.tasks import get_task
from speechft.tasks.lexicon import load_lexicon

MARK = "\ufeff"
COMPOSED = "É"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


def test_marks_and_line_ends(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes((MARK + "a\r\nb\rc\n").encode())
    assert read_text(path) == "a\nb\nc\n"


@pytest.mark.parametrize("content", ["a".encode("utf-16"), "ab".encode("utf-16-le"), b"a\0b"])
def test_utf16_and_nul_are_not_text(content):
    with pytest.raises(UnicodeDecodeError, match="UTF-8"):
        decode(content)


def test_files_of_every_kind_may_have_a_mark_and_words_either_form(tmp_path):
    path = tmp_path / "x"
    path.write_text(MARK + '{"a": 1}', encoding="utf-8")
    assert read_json(path) == {"a": 1}
    path.write_text('{"a": 1}', encoding="utf-16")
    with pytest.raises(SpeechFTError, match="is not valid JSON .*UTF-16"):
        read_json(path)
    demo = Path("config/demo.yaml")
    path.write_text(MARK + demo.read_text(encoding="utf-8").replace("\n", "\r\n"), encoding="utf-8", newline="")
    assert load_experiment(path) == load_experiment(demo)
    path.write_text(f"{MARK}table,encoder,finetuning,method,metric,value\nt,e,none,pretrained,PR,5.0\n", encoding="utf-8")
    assert load_published(path).value("t", "e", "none", "pretrained", "PR") == 5.0
    path.write_text(f"{MARK}CAF{DECOMPOSED} K AE0 F EY1\r\nCAF{COMPOSED} F\r\n", encoding="utf-8", newline="")
    assert load_lexicon([str(path)]) == {f"CAF{COMPOSED}": ("K", "AE0", "F", "EY1")}


def test_classes_and_slot_types_in_either_form(tmp_path):
    assert get_task("ks", classes=[DECOMPOSED, "a"]).label_set([]).symbols == (COMPOSED, "a")
    path = tmp_path / "slots.txt"
    path.write_text(f"{MARK}O\nd{DECOMPOSED}part\n", encoding="utf-8")
    assert get_task("sf", slots=path).label_set([]).extra["slot_types"] == [f"d{COMPOSED}part"]
    path.write_text(f"O\nd{DECOMPOSED}part\nd{COMPOSED}part\n", encoding="utf-8")
    with pytest.raises(SpeechFTError, match="one distinct type per line"):
        get_task("sf", slots=path).label_set([])


def test_names_on_disk(tmp_path):
    (tmp_path / DECOMPOSED).mkdir()
    there = tmp_path / DECOMPOSED / f"{COMPOSED}.wav"
    there.touch()
    for folder in (COMPOSED, DECOMPOSED):
        for file in (COMPOSED, DECOMPOSED):
            assert on_disk(tmp_path / folder / f"{file}.wav") == there
    missing = tmp_path / COMPOSED / "b.wav"
    assert on_disk(missing) == tmp_path / DECOMPOSED / "b.wav"
    assert on_disk(tmp_path / ("é" * 300)) == tmp_path / ("é" * 300)
