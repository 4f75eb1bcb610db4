"""Manifests and recordings that are not what they were when the corpus was prepared."""

import gzip
import os
import shutil

import pytest

from speechft.corpora import load_split
from speechft.corpora.prepare import prepare_corpus
from speechft.corpora.unchanged import RECORDINGS
from speechft.corpora.union import unite_corpora
from speechft.errors import CorpusError
from speechft.recipes.corpora import CorpusRecipe


@pytest.fixture
def prepared(corpus_folder, tmp_path):
    """(Folder of recordings, folder of manifests)."""
    folder = corpus_folder(tmp_path / "corpus")
    prepare_corpus(CorpusRecipe(path=folder / "c.csv"), tmp_path / "man")
    return folder, tmp_path / "man"


@pytest.fixture
def corpus_folder():
    import numpy as np
    import soundfile

    def make(folder):
        folder.mkdir()
        lines = ["path,id,label,split"]
        for number in range(6):
            soundfile.write(folder / f"{number}.wav", np.full(1600, 0.1 * number), 16_000, subtype="PCM_16")
            lines.append(f"{number}.wav,{folder.name}{number},a,{('train', 'dev', 'test')[number % 3]}")
        (folder / "c.csv").write_text("\n".join(lines))
        return folder

    return make


def rewrite(path, change):
    lines = gzip.decompress(path.read_bytes()).decode().splitlines(keepends=True)
    path.write_bytes(gzip.compress("".join(change(lines)).encode()))


@pytest.mark.parametrize("change", [lambda lines: lines[:1], lambda lines: [*lines, lines[0]], lambda lines: lines[::-1]])
def test_a_manifest_that_was_changed_by_hand_is_refused(prepared, change):
    rewrite(prepared[1] / "train.jsonl.gz", change)
    with pytest.raises(CorpusError, match=r"train\.jsonl\.gz: is not the file that corpus\.json describes"):
        load_split(prepared[1], "train")
    with pytest.raises(CorpusError, match="is not the file that corpus"):
        load_split({"train": prepared[1] / "train.jsonl.gz"}, "train")
    assert len(load_split(prepared[1], "dev")) == 2


def test_manifests_without_a_description_are_taken_as_they_are(prepared):
    rewrite(prepared[1] / "train.jsonl.gz", lambda lines: lines[:1])
    (prepared[1] / "corpus.json").unlink()
    assert len(load_split(prepared[1], "train")) == 1


@pytest.mark.parametrize("content", ["[]", "null", "{", "[" * 100_000])
def test_a_damaged_description_is_one_error(prepared, content):
    (prepared[1] / "corpus.json").write_text(content)
    with pytest.raises(CorpusError, match=r"corpus\.json: "):
        load_split(prepared[1], "train")
    with pytest.raises(Exception, match=r"corpus\.json: "):
        unite_corpora([prepared[1]], prepared[1].parent / "united")


def test_a_recording_that_was_replaced_is_refused(prepared):
    folder, manifests = prepared
    shutil.copyfile(folder / "1.wav", folder / "0.wav")
    (folder / "3.wav").write_bytes((folder / "3.wav").read_bytes()[:-2])
    with pytest.raises(CorpusError, match="2 recording.s. are not what they were") as refused:
        load_split(manifests, "train")
    assert [problem.partition(": ")[2] for problem in refused.value.problems] == ["has another content", "has 3242 bytes, had 3244"]
    assert len(load_split(manifests, "dev")) == 2
    (folder / "2.wav").unlink()
    with pytest.raises(CorpusError, match=r"2\.wav: No such file or directory"):
        load_split(manifests, "test")


def test_a_copy_with_another_time_is_the_same_recording(prepared):
    os.utime(prepared[0] / "0.wav", (1, 1))
    assert len(load_split(prepared[1], "train")) == 2


def test_a_union_knows_the_recordings_of_its_members(prepared, corpus_folder, tmp_path):
    other = corpus_folder(tmp_path / "other")
    prepare_corpus(CorpusRecipe(path=other / "c.csv"), tmp_path / "man2")
    unite_corpora([prepared[1], tmp_path / "man2"], tmp_path / "united")
    assert len((tmp_path / "united" / RECORDINGS).read_text().splitlines()) == 13
    shutil.copyfile(other / "1.wav", other / "0.wav")
    with pytest.raises(CorpusError, match=r"other/0\.wav: has another content"):
        load_split(tmp_path / "united", "train")


def test_damaged_notes_are_one_error(prepared):
    (prepared[1] / RECORDINGS).write_bytes(b"path\n\xff,1\n")
    with pytest.raises(CorpusError, match=r"recordings\.csv: damaged"):
        load_split(prepared[1], "train")
