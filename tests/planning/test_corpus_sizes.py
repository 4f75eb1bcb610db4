"""Sizes of corpora: published, by a table, by manifests."""

import gzip

import numpy as np
import pytest
import soundfile
from conftest import ROOT

from speechft.corpora import prepare_corpus
from speechft.corpora.prepare import published_sizes
from speechft.errors import CorpusError
from speechft.planning.corpus_sizes import TABLE, SplitSize, corpus_size, published_size
from speechft.recipes.corpora import KINDS, CorpusRecipe, UnionCorpus, corpus_recipe

KEYS = sorted({line.split("\t")[0] for line in (ROOT / TABLE).read_text().splitlines()[1:]})


@pytest.mark.parametrize("key", KEYS)
def test_utterances_are_those_that_prepare_expects(key):
    kind, _, use = key.partition("/")
    recipe = corpus_recipe({"kind": kind, "path": "x", **({"use": use} if kind == "voxceleb1" else {})}, "x")
    size = published_size(key)
    compared = 0
    for count in published_sizes(recipe):
        found = size[count.split] if count.split else size.whole
        # Of TED-LIUM the ten hours are not what prepare counts, documents of QUESST stand beside queries.
        if not found.utterances or key == "tedlium3" or count.what not in ("utterances", "hours"):
            continue
        assert getattr(found, count.what) == pytest.approx(count.number)
        compared += 1
    assert compared or key in ("tedlium3", "quesst14")
    assert {key.partition("/")[0] for key in KEYS} == set(KINDS)


@pytest.fixture
def corpora(tmp_path):
    """Two tables with recordings of 0.5, 1.0, 1.5, ... seconds."""
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * np.ones(4000 * (number + 1)), 8000)
    (tmp_path / "a.csv").write_text(
        "file,split,speaker\n" + "".join(f"{n}.wav,{s},x\n" for n, s in enumerate(["train"] * 3 + ["dev", "test", "test"]))
    )
    (tmp_path / "b.csv").write_text("path,fold,label\n" + "".join(f"{n}.wav,{n % 2},x\n" for n in range(4)))
    (tmp_path / "trials.csv").write_text("label,enrolment,test\n1,4,4\n")
    (tmp_path / "mixtures.csv").write_text(
        "mixture,path,speaker,split,offset\nm,0.wav,x,train,0\nm,1.wav,y,train,2\nn,3.wav,x,train,1\nn,0.wav,y,train,0\n"
    )
    return {
        "a": CorpusRecipe(path=tmp_path / "a.csv", columns={"path": "file"}, trials=tmp_path / "trials.csv"),
        "b": CorpusRecipe(path=tmp_path / "b.csv", default_split="train"),
        "mixed": CorpusRecipe(kind="mixtures", path=tmp_path / "mixtures.csv"),
        "timit": corpus_recipe({"kind": "timit", "path": "nowhere"}, "x"),
        "none": CorpusRecipe(path=tmp_path / "none.csv"),
    }


def seconds(size):
    return {split: (part.utterances, pytest.approx(3600 * part.hours)) for split, part in size.splits.items()}


def test_by_the_headers_of_recordings(corpora, tmp_path):
    a = corpus_size("a", corpora, tmp_path)
    # Of dev and test only what the trials name.
    assert (a.source, seconds(a)) == ("table", {"train": (3, 3.0), "test": (1, 2.5)})
    assert a["train"].durations == (0.5, 1.0, 1.5)
    b = corpus_size("b", corpora, tmp_path)
    assert (b.folds, seconds(b)) == (2, {"train": (4, 5.0)})
    assert seconds(corpus_size("mixed", corpora, tmp_path)) == {"train": (2, 3.0 + 3.0)}


def test_manifests_come_first(corpora, tmp_path):
    prepare_corpus(corpora["b"], tmp_path / "corpora" / "b")
    found = corpus_size("b", corpora, tmp_path / "corpora")
    assert (found.source, found.folds, seconds(found)) == ("manifests", 2, {"train": (4, 5.0)})
    with gzip.open(tmp_path / "corpora/b/train.jsonl.gz", "wt") as file:
        file.write("no json\n")
    with pytest.raises(CorpusError, match=r"corpora/b: its manifests cannot be read .* Prepare the corpus again"):
        corpus_size("b", corpora, tmp_path / "corpora")


def test_published_and_unknown(corpora, tmp_path):
    timit = corpus_size("timit", corpora, tmp_path)
    assert (timit.source, timit["train"].utterances) == ("published", 3696)
    assert published_size("quesst14")["test"].utterances == 138 + 2438
    assert published_size("tedlium3")["train"].hours == 10.0
    assert published_size("iemocap").folds == 5
    none = corpus_size("none", corpora, tmp_path)
    assert (none.source, none["train"].hours) == ("unknown", 0.0)
    assert "none.csv is missing" in none.note
    # A union is as uncertain as its members.
    unions = {"u": UnionCorpus(kind="union", of=("b", "timit")), "v": UnionCorpus(kind="union", of=("b", "none"))}
    union = corpus_size("u", corpora | unions, tmp_path)
    assert (union.source, union["train"].utterances) == ("published", 3696 + 4)
    assert corpus_size("v", corpora | unions, tmp_path).source == "unknown"


def test_parts_of_a_split():
    known = SplitSize.of([3600, 7200, 1800])
    assert (known.utterances, known.hours, known.mean_seconds) == (3, 3.5, 4200)
    assert known.within(1.6).durations == (1800, 3600)
    assert known.longer(2000).utterances == 2
    assert known.cropped(3600).hours == 2.5
    guessed = SplitSize(10, 20)
    # Without durations all count as long, and the mean is cropped.
    assert (guessed.within(5).utterances, guessed.longer(1).utterances, guessed.cropped(3600).hours) == (2.5, 10, 10)
    assert (known + guessed).durations == ()
    assert (known + SplitSize()).durations == known.durations


def test_a_table_without_paths_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("file\nx.wav\n")
    with pytest.raises(CorpusError, match=r"a\.csv: its columns are invalid\. `speechft prepare --check`"):
        corpus_size("a", {"a": CorpusRecipe(path=tmp_path / "a.csv")}, tmp_path)
