import gzip
import subprocess
import sys

import pytest

from speechft.corpora import load_split, prepare_corpus
from speechft.errors import CorpusError


@pytest.fixture
def manifests(folder, tmp_path):
    for name in ("a.wav", "b.wav", "c.wav"):
        folder.tone(name)
    folder.table("path,split\na.wav,train\nb.wav,train\nc.wav,dev\n")
    prepare_corpus(folder.recipe(), tmp_path / "out")
    return tmp_path / "out"


def test_directory_and_mapping_give_the_same_eager_set(manifests):
    cuts = load_split(manifests, "train")
    assert not cuts.is_lazy
    assert [cut.id for cut in cuts] == ["a", "b"]
    assert list(load_split({"train": manifests / "train.jsonl.gz"}, "train")) == list(cuts)


def test_lhotse_reads_the_same(manifests):
    from lhotse import CutSet

    assert list(CutSet.from_file(manifests / "train.jsonl.gz")) == list(load_split(manifests, "train"))


def test_missing_split_names_those_there_are(manifests):
    with pytest.raises(CorpusError, match=r"no split 'test'.*Splits there: dev, train\."):
        load_split(manifests, "test")
    with pytest.raises(CorpusError, match="no split 'test'.*Splits there: dev"):
        load_split({"dev": manifests / "dev.jsonl.gz"}, "test")
    with pytest.raises(CorpusError, match="gone.jsonl.gz: no such file"):
        load_split({"dev": manifests / "gone.jsonl.gz"}, "dev")
    with pytest.raises(CorpusError, match="no such folder"):
        load_split(manifests / "elsewhere", "dev")


def test_damaged_manifests(manifests):
    path = manifests / "train.jsonl.gz"
    intact = path.read_bytes()
    text = gzip.decompress(intact)
    flipped = bytearray(intact)
    flipped[len(intact) // 2] ^= 0xFF
    for content in (intact[:-20], bytes(flipped), b"\xff\xfe\x00", intact[:10]):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match=f"{path}: damaged manifest"):
            load_split(manifests, "train")
    path.write_bytes(gzip.compress(text + text[:100] + b"\n"))
    with pytest.raises(CorpusError, match=f"{path}, line 3: is not a lhotse cut"):
        load_split(manifests, "train")
    path.write_bytes(gzip.compress(b'{"id": "a"}\n'))
    with pytest.raises(CorpusError, match=f"{path}, line 1"):
        load_split(manifests, "train")
    path.write_bytes(b"")
    with pytest.raises(CorpusError, match=f"{path}.*no cuts"):
        load_split(manifests, "train")


def test_importing_the_package_is_cheap():
    code = "import sys, speechft.corpora; print(sorted({'torch', 'lhotse', 'numpy', 'soundfile'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
