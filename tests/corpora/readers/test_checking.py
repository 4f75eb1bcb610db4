"""`speechft prepare --check`: one table of all corpora of an experiment."""

import subprocess
import sys

import pytest
import yaml

from speechft.corpora.checking import check_corpus
from speechft.recipes.corpora import CorpusRecipe


@pytest.fixture
def aishell3(skeleton):
    for part, speaker in (("train", "SSB0005"), ("test", "SSB0009")):
        skeleton.audio(f"{part}/wav/{speaker}/{speaker}0001.wav", seconds=3.6, rate=44_100)
        skeleton.text(f"{part}/content.txt", f"{speaker}0001.wav\t广 guang3")
    return skeleton


def test_sizes_problems_and_remarks(aishell3):
    found = check_corpus("mandarin", aishell3.recipe("aishell3", complete=True))
    (row,) = found.splits
    assert (row.split, row.found, row.problems) == ("train", "2 utterances, 2 speakers", 1)
    assert row.expected == "in all 88,035 utterances, 218 speakers, 85 hours"
    assert row.hours == pytest.approx(0.002)
    assert found.problems == ("all splits: 2 utterances, published are 88035; look at train/content.txt and test/content.txt",)
    assert [remark.split(";")[0] for remark in found.remarks] == [
        "all splits: 2 speakers, published are 218",
        "all splits: 0.002 hours, published are 85",
    ]


def test_the_sizes_of_a_part_of_a_corpus_are_remarks(aishell3):
    found = check_corpus("mandarin", aishell3.recipe("aishell3"))
    assert (found.problems, found.splits[0].problems) == ((), 0)
    assert found.remarks[0] == "all splits: 2 utterances, published are 88035; look at train/content.txt and test/content.txt"


def test_parts_count_as_long_as_they_are(skeleton):
    for split in ("train", "dev", "test"):
        skeleton.audio(f"legacy/{split}/sph/A_2009.sph", seconds=5.4, format="NIST", subtype="PCM_16")
        skeleton.text(f"legacy/{split}/stm/A_2009.stm", "A_2009 1 A 0.0 1.8 <o> a", "A_2009 1 A 3.6 5.6 <o> b")
    found = check_corpus("talks", skeleton.recipe("tedlium3"))
    assert [row.hours for row in found.splits] == pytest.approx([0.001] * 3)
    assert found.splits[0].expected == "2,351 recordings, 268,263 utterances"


def test_one_corpus_that_is_missing_does_not_hide_the_others(aishell3, folder):
    folder.tone("a.wav")
    folder.table("path,split\na.wav,train\nb.wav,test\n")
    (folder.path / "mixtures.csv").write_text("mixture,path,speaker,split,offset\nm,a.wav,x,train,0\nm,a.wav,y,train,1\n")
    recipes = {
        "speech": aishell3.recipe("librispeech"),
        "mine": folder.recipe(),
        "mixed": CorpusRecipe(kind="mixtures", path=folder.path / "mixtures.csv"),
    }
    speech, mine, mixed = (check_corpus(name, recipe) for name, recipe in recipes.items())
    assert "train-clean-100: no such folder" in speech.problems[0]
    assert [(row.split, row.found) for row in speech.splits] == [("train", "nothing"), ("dev", "nothing"), ("test", "nothing")]
    assert speech.splits[1].expected == "2,703 utterances, 40 speakers, 5.4 hours"
    assert [problem.endswith("b.wav: no such file") for problem in mine.problems] == [True]
    assert [row.split for row in mine.splits] == ["train", "test"]
    assert (mixed.splits[0].found, mixed.splits[0].hours, mixed.problems) == ("1 utterances, 2 speakers", None, ())


def test_the_command_prints_a_table_and_fails_where_something_is_wrong(aishell3, folder, tmp_path):
    folder.tone("a.wav")
    folder.table("path,split\na.wav,train\n")
    values = {
        "name": "x",
        "corpora": {
            "mine": {"kind": "csv", "path": str(folder.csv)},
            "mandarin": {"kind": "aishell3", "path": str(aishell3.path)},
            "both": {"kind": "union", "of": ["mine", "mandarin"]},
        },
        "encoders": {"fbank": {"kind": "fbank"}},
        "tasks": {},
        "tables": {},
    }
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    command = [sys.executable, "-m", "speechft.cli", "prepare", "--check", "--experiment", str(tmp_path / "x.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    heading, *rows = [line.split() for line in done.stdout.splitlines() if line.strip() and "─" not in line]
    assert heading == ["corpus", "split", "found", "expected", "hours", "problems"]
    assert rows[0] == ["mine", "train", "1", "utterances", "-", "0.00", "0"]
    assert rows[1][:4] == ["mandarin", "train", "2", "utterances,"]
    assert "mandarin: all splits: 2 utterances, published are 88035" in done.stdout
    values["corpora"] = {"mine": values["corpora"]["mine"]}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    assert subprocess.run(command, capture_output=True).returncode == 0
