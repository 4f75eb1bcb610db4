"""The first utterances of a corpus: few, and an example of everything that the whole corpus has."""

from pathlib import Path

import pytest

from speechft.corpora.first import SPEAKERS, first_utterances
from speechft.corpora.prepare import prepare_corpus, read_corpus
from speechft.corpora.trials import Trial
from speechft.corpora.utterances import Listing, Utterance
from speechft.errors import ConfigError, CorpusError
from speechft.recipes.corpora import CorpusRecipe, LibriSpeech
from speechft.recipes.values import validate

MINI = Path(__file__).parents[2] / "mini/speech"


def utterance(name, split="train", **values):
    return Utterance(0, name, Path(f"{name}.wav"), split, **values)


def of_split(listing, split):
    return [found for found in listing.utterances if found.split == split]


def mini(name, **values):
    return read_corpus(CorpusRecipe(path=MINI / name, first=12, **values))


def test_the_first_ones_stay_in_their_order():
    listing = Listing([utterance(f"{split}{number}", split) for split in ("train", "dev") for number in range(30)], [])
    kept = first_utterances(listing, 5, "x")
    assert [found.id for found in kept.utterances] == [f"{split}{number}" for split in ("train", "dev") for number in range(5)]


def test_every_class_of_every_split_stays():
    whole = read_corpus(CorpusRecipe(path=MINI / "keywords.csv"))
    few = mini("keywords.csv")
    for split in ("train", "dev", "test"):
        assert {found.label for found in of_split(few, split)} == {found.label for found in of_split(whole, split)}
        assert 12 <= len(of_split(few, split)) < 30


def test_every_slot_type_and_phone_stays():
    for name, facts in (
        ("slots.csv", lambda found: found.label.split()),
        ("phones.csv", lambda found: [phone for phone, _, _ in found.phones]),
    ):
        whole, few = read_corpus(CorpusRecipe(path=MINI / name)), mini(name)
        for split in ("train", "dev", "test"):
            held = {fact for found in of_split(few, split) for fact in facts(found)}
            assert held == {fact for found in of_split(whole, split) for fact in facts(found)}


def test_every_class_of_every_fold_stays_and_all_its_speakers():
    whole = read_corpus(CorpusRecipe(path=MINI / "styles.csv", default_split="train"))
    few = mini("styles.csv", default_split="train")
    for key in (lambda found: (found.fold, found.label), lambda found: (found.fold, found.speaker)):
        assert {key(found) for found in few.utterances} == {key(found) for found in whole.utterances}
    assert len(few.utterances) < len(whole.utterances) / 3


def test_speakers_who_are_classes_are_the_same_in_all_splits():
    few = mini("speakers.csv")
    speakers = [{found.speaker for found in of_split(few, split)} for split in ("train", "dev", "test")]
    assert speakers[0] == speakers[1] == speakers[2]
    assert len(speakers[0]) == 12


def test_other_splits_have_several_speakers():
    few = mini("sentences.csv")
    for split in ("train", "dev", "test"):
        assert len({found.speaker for found in of_split(few, split)}) >= SPEAKERS


def test_trials_of_both_answers_stay_with_their_recordings():
    few = mini("verification.csv", trials=MINI / "trials.csv")
    split_of = {found.id: found.split for found in few.utterances}
    for split in ("dev", "test"):
        answers = [trial.same for trial in few.trials if split_of[trial.enrolment] == split]
        assert answers.count(True) == answers.count(False) == 12
        assert {found.id for found in of_split(few, split)} == {
            name for trial in few.trials if split_of[trial.enrolment] == split for name in (trial.enrolment, trial.test)
        }


def test_queries_keep_a_document_and_name_no_other():
    few = mini("queries.csv")
    known = {found.id for found in few.utterances}
    queries = [found for found in few.utterances if found.label == "query"]
    assert {found.split for found in queries} == {"dev", "test"}
    assert any(found.relevant for found in queries)
    assert all(name in known for found in queries for name in (found.relevant or "").split())
    documents = [found for found in few.utterances if found.label == "document"]
    assert any(all(found.id not in (query.relevant or "").split() for query in queries) for found in documents)


def test_too_few_are_refused():
    listing = Listing([utterance("a"), utterance("b"), utterance("c", "test")], [])
    with pytest.raises(CorpusError, match=r"x: 2 training utterance\(s\), a rehearsal takes 4"):
        first_utterances(listing, 5, "x")


def test_trials_of_unknown_recordings_are_left_to_the_check_of_trials():
    listing = Listing([utterance("a", "test"), utterance("b", "test")], [], trials=(Trial(True, "a", "b"), Trial(False, "a", "nobody")))
    assert first_utterances(listing, 5, "x").trials == listing.trials


def test_prepared_corpora_hold_the_first_ones(tmp_path):
    recipe = CorpusRecipe(path=MINI / "verification.csv", trials=MINI / "trials.csv", first=3)
    summary = prepare_corpus(recipe, tmp_path / "verification")
    assert summary["trials"]["dev"] == summary["trials"]["test"] == 6
    mixed = prepare_corpus(CorpusRecipe(kind="mixtures", path=MINI / "mixtures.csv", first=2), tmp_path / "mixtures")
    assert {split: found["utterances"] for split, found in mixed["splits"].items()} == {"train": 2, "dev": 2, "test": 2}


def test_a_part_of_a_published_corpus_is_not_complete():
    with pytest.raises(ConfigError, match="write `complete: false` too"):
        validate(LibriSpeech, {"kind": "librispeech", "path": "x", "first": 5}, "x")
