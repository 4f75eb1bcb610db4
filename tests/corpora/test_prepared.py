"""Prepared corpora: their manifests are read, compared with what they were, and united."""

import dataclasses
import gzip
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from corpora.conftest import CorpusFolder
from lhotse.serialization import deserialize_item

from speechft.corpora import inspection, load_split, prepare, prepare_corpus, unite_corpora
from speechft.corpora.inspection import RecordingFacts
from speechft.corpora.manifests import make_cut, values_of
from speechft.corpora.rttm import Turn
from speechft.corpora.unchanged import RECORDINGS
from speechft.corpora.utterances import Utterance
from speechft.errors import CorpusError, OutputError, SpeechFTError
from speechft.recipes.corpora import CorpusRecipe


@pytest.fixture
def prepared(tmp_path):
    """Prepare a corpus: its recordings are in NAME, two for each split, its manifests in `NAME-man`."""

    def make(name="corpus"):
        (tmp_path / name).mkdir()
        folder = CorpusFolder(tmp_path / name)
        for number in range(6):
            folder.samples(f"{number}.wav", np.full(1600, 0.1 * number))
        rows = (f"{number}.wav,{name}{number},{name},{('train', 'dev', 'test')[number % 3]}" for number in range(6))
        folder.corpus("path,id,speaker,split", *rows).prepare(f"{name}-man")
        return folder.path, tmp_path / f"{name}-man"

    return make


def ids(manifests, split):
    return [cut.id for cut in load_split(manifests, split)]


def test_directory_mapping_and_lhotse_give_the_same_eager_set(prepared):
    from lhotse import CutSet

    _, manifests = prepared()
    cuts = load_split(manifests, "train")
    assert not cuts.is_lazy
    assert [cut.id for cut in cuts] == ["corpus0", "corpus3"]
    assert list(load_split({"train": manifests / "train.jsonl.gz"}, "train")) == list(cuts)
    assert list(CutSet.from_file(manifests / "train.jsonl.gz")) == list(cuts)


def test_missing_split_names_those_there_are(prepared):
    _, manifests = prepared()
    (manifests / "test.jsonl.gz").unlink()
    for given, split, message in (
        (manifests, "test", r"no split 'test'.*Splits there: dev, train\."),
        ({"dev": manifests / "dev.jsonl.gz"}, "test", "no split 'test'.*Splits there: dev"),
        ({"dev": manifests / "gone.jsonl.gz"}, "dev", "gone.jsonl.gz: no such file"),
        (manifests / "elsewhere", "dev", "no such folder"),
    ):
        with pytest.raises(CorpusError, match=message):
            load_split(given, split)


def test_damaged_manifests(prepared):
    path = prepared()[1] / "train.jsonl.gz"
    intact = path.read_bytes()
    text = gzip.decompress(intact)
    flipped = bytearray(intact)
    flipped[len(intact) // 2] ^= 0xFF
    for content, message in (
        *((damaged, ": damaged manifest") for damaged in (intact[:-20], bytes(flipped), b"\xff\xfe\x00", intact[:10])),
        (gzip.compress(text + text[:100] + b"\n"), ", line 3: not a lhotse cut"),
        (gzip.compress(b'{"id": "a"}\n'), ", line 1"),
        (b"", ".*no cuts"),
    ):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match=f"{path}{message}"):
            load_split(path.parent, "train")


def test_importing_the_package_is_cheap():
    code = "import sys, speechft.corpora; print(sorted({'torch', 'lhotse', 'numpy', 'soundfile'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def rewrite(path, change):
    lines = gzip.decompress(path.read_bytes()).decode().splitlines(keepends=True)
    path.write_bytes(gzip.compress("".join(change(lines)).encode()))


@pytest.mark.parametrize("change", [lambda lines: lines[:1], lambda lines: [*lines, lines[0]], lambda lines: lines[::-1]])
def test_a_manifest_that_was_changed_by_hand_is_refused(prepared, change):
    _, manifests = prepared()
    rewrite(manifests / "train.jsonl.gz", change)
    for given in (manifests, {"train": manifests / "train.jsonl.gz"}):
        with pytest.raises(CorpusError, match=r"train\.jsonl\.gz: its SHA-256 is not the one in corpus\.json"):
            load_split(given, "train")
    assert len(load_split(manifests, "dev")) == 2
    (manifests / "corpus.json").write_text('{"splits": {"train": {}}}')
    with pytest.raises(CorpusError, match=r"corpus\.json: has no SHA-256 of train\.jsonl\.gz"):
        load_split(manifests, "train")
    (manifests / "corpus.json").unlink()
    load_split(manifests, "train")  # without a description manifests are taken as they are


@pytest.mark.parametrize("content", ["[]", "null", "{", "[" * 100_000])
def test_a_damaged_description_is_one_error(prepared, content):
    _, manifests = prepared()
    (manifests / "corpus.json").write_text(content)
    with pytest.raises(CorpusError, match=r"corpus\.json: "):
        load_split(manifests, "train")
    with pytest.raises(SpeechFTError, match=r"corpus\.json: "):
        unite_corpora([manifests], manifests.parent / "united")


def test_a_recording_that_was_replaced_is_refused(prepared):
    folder, manifests = prepared()
    os.utime(folder / "1.wav", (1, 1))  # a copy with another time is the same recording
    shutil.copyfile(folder / "1.wav", folder / "0.wav")
    (folder / "3.wav").write_bytes((folder / "3.wav").read_bytes()[:-2])
    with pytest.raises(CorpusError, match="2 recording.s. have changed since") as refused:
        load_split(manifests, "train")
    assert [problem.partition(": ")[2] for problem in refused.value.problems] == ["different content", "3242 bytes, but had 3244"]
    assert len(load_split(manifests, "dev")) == 2
    (folder / "2.wav").unlink()
    with pytest.raises(CorpusError, match=r"2\.wav: No such file or directory"):
        load_split(manifests, "test")
    whole = (manifests / RECORDINGS).read_text()
    for content, problem in ((b"path\n\xff,1\n", "damaged"), (b"", "lacks "), (whole.split("\n")[0].encode(), "lacks ")):
        (manifests / RECORDINGS).write_bytes(content)
        with pytest.raises(CorpusError, match=rf"recordings\.csv: {problem}"):
            load_split(manifests, "dev")


def test_splits_of_a_union_are_joined_in_order_and_a_missing_one_adds_nothing(prepared, folder, tmp_path):
    _, first = prepared("first")
    folder.corpus("path,speaker,split", "b1.wav,b,train", "b2.wav,b,dev", "b3.wav,b,train").prepare("second")
    both = tmp_path / "both"
    summary = unite_corpora([first, tmp_path / "second"], both)
    assert ids(both, "train") == ["first0", "first3", "b1", "b3"]
    assert ids(both, "dev") == ["first1", "first4", "b2"]
    assert ids(both, "test") == ["first2", "first5"]
    assert (summary["splits"]["train"]["utterances"], summary["splits"]["train"]["speakers"]) == (4, 2)
    # It knows the recordings of its members.
    assert len((both / RECORDINGS).read_text().splitlines()) == 10
    folder.tone("b1.wav", frequency=441.0)
    with pytest.raises(CorpusError, match=r"b1\.wav: different content"):
        load_split(both, "train")


def test_the_same_id_twice_or_a_folder_that_was_not_prepared_leaves_nothing(prepared, tmp_path):
    _, first = prepared("first")
    shutil.copytree(first, tmp_path / "second")
    for other, message in (("second", "recording id 'first0' is also in .*first"), ("nothing", "no such file")):
        with pytest.raises(CorpusError, match=rf"{other}(/corpus\.json)?: {message}"):
            unite_corpora([first, tmp_path / other], tmp_path / "both")
        assert not (tmp_path / "both").exists()


def annotated_cuts():
    """A cut of each form that manifests have, and of some that only those from elsewhere have."""
    from lhotse import AudioSource, Features, MonoCut, Recording, SupervisionSegment
    from lhotse.augmentation import Speed

    facts = RecordingFacts(Path("/a/b.wav"), 8000, 4000, 2, 1, "")
    turns = (Turn("a", 0.0, 0.2, "ann"), Turn("a", 0.1, 0.3, "bob"))
    for name, given in {
        "bare": {},
        "text": {"text": "größe", "speaker": "ann", "label": "yes", "labels": {"accent": "x"}, "fold": "1"},
        "phones": {"phones": (("a", 0.0, 0.1), ("b", 0.1, 0.3)), "relevant": "d1 d2"},
        "turns": {"turns": turns},
    }.items():
        yield name, make_cut(Utterance(1, "a", facts.path, "train", **given), facts)
    part = dataclasses.replace(facts, first_sample=800, num_samples=1600, of_samples=4000)
    yield "part", make_cut(Utterance(1, "a", facts.path, "train"), part)
    recording = Recording("r", [AudioSource("file", [0], "/a.wav")], 16000, 16000, 1.0)
    supervision = SupervisionSegment("s", "r", 0.0, 1.0, custom={"age": 30, "of": recording})
    yield "numbers", MonoCut("c", 0.0, 1.0, 0, supervisions=[supervision], recording=recording, custom={"snr": 3.5})
    transformed = dataclasses.replace(recording, transforms=[Speed(0.9)])
    yield "transformed", MonoCut("c", 0.0, 1.0, 0, recording=transformed)
    features = Features("fbank", 100, 80, 0.01, 16000, 0.0, 1.0, "lilcom_files", "/f", "a", "r", 0)
    yield "features", MonoCut("c", 0.0, 1.0, 0, recording=recording, features=features)


@pytest.mark.parametrize(("name", "cut"), annotated_cuts())
def test_the_json_of_a_cut_is_that_of_lhotse(name, cut):
    given = cut.to_dict()
    assert json.dumps(values_of(cut), sort_keys=True) == json.dumps(given, sort_keys=True)
    assert deserialize_item(json.loads(json.dumps(values_of(cut)))) == cut


def test_several_processes_find_what_one_does(prepared, tmp_path, monkeypatch):
    folder, one = prepared()
    started = []

    def pool(count, *args, **options):
        started.append(count)
        return ProcessPoolExecutor(count, *args, **options)

    monkeypatch.setattr(inspection, "ProcessPoolExecutor", pool)
    monkeypatch.setattr(inspection, "_PORTION", 4)
    prepare_corpus(CorpusRecipe(path=folder / "corpus.csv"), tmp_path / "two", threads=3)
    assert started == [2]
    for name in ("train.jsonl.gz", "dev.jsonl.gz", "test.jsonl.gz", "corpus.json", RECORDINGS):
        assert (tmp_path / "two" / name).read_bytes() == (one / name).read_bytes()
    (folder / "5.wav").write_bytes(b"no audio")
    with pytest.raises(CorpusError) as caught:
        prepare_corpus(CorpusRecipe(path=folder / "corpus.csv"), tmp_path / "three", threads=3)
    (problem,) = caught.value.problems
    assert problem.startswith(f"row 7: {folder}/5.wav: damaged")


def test_an_output_that_cannot_be_is_refused_before_anything_is_decoded(prepared, monkeypatch):
    folder, manifests = prepared()
    table = folder / "corpus.csv"
    table.write_text(table.read_text().replace("0.wav", str(manifests / "train.jsonl.gz")))
    monkeypatch.setattr(prepare, "examine", lambda *args, **options: pytest.fail("recordings were looked at"))
    with pytest.raises(OutputError, match=r"train\.jsonl\.gz is inside the output"):
        prepare_corpus(CorpusRecipe(path=table), manifests)
