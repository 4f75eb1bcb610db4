"""The first utterances of a corpus: few, and an example of everything that the whole corpus has."""

from pathlib import Path

import pytest
from conftest import ROOT

from speechft.conventions import SPLITS
from speechft.corpora.first import SPEAKERS, first_utterances
from speechft.corpora.prepare import prepare_corpus, read_corpus
from speechft.corpora.trials import Trial
from speechft.corpora.utterances import Listing, Utterance
from speechft.errors import ConfigError, CorpusError
from speechft.recipes.corpora import CorpusRecipe, LibriSpeech
from speechft.recipes.values import validate

MINI = ROOT / "mini/speech"


def listing(*ids, **facts):
    """Utterances `split-number`."""
    return Listing([Utterance(0, name, Path(f"{name}.wav"), name.partition("-")[0]) for name in ids], [], **facts)


def mini(name, first=12, **values):
    return read_corpus(CorpusRecipe(path=MINI / f"{name}.csv", first=first, **values))


def of_split(found, split):
    return [utterance for utterance in found.utterances if utterance.split == split]


def test_the_first_ones_stay_in_their_order():
    ids = [f"{split}-{number}" for split in ("train", "dev") for number in range(30)]
    assert first_utterances(listing(*ids), 5, "x").utterances == listing(*ids[:5], *ids[30:35]).utterances


@pytest.mark.parametrize(
    ("name", "share", "facts"),
    [
        ("keywords", 1 / 3, lambda found: [found.label]),
        ("slots", 1, lambda found: found.label.split()),
        ("phones", 1, lambda found: [phone for phone, _, _ in found.phones]),
        ("styles", 1 / 3, lambda found: [(found.fold, found.label), (found.fold, found.speaker)]),
    ],
)
def test_every_class_slot_type_phone_and_fold_stays(name, share, facts):
    options = {"default_split": "train"} if name == "styles" else {}
    few, whole = (mini(name, first, **options) for first in (12, None))
    for split in SPLITS:
        held, all_of_them = ({fact for found in of_split(corpus, split) for fact in facts(found)} for corpus in (few, whole))
        assert held == all_of_them
    assert 12 <= len(few.utterances) < share * len(whole.utterances)


def test_values_that_come_back_in_further_columns_stay():
    def utterance(number):
        labels = {"accent": "rare" if number == 37 else "often", "half": str(number // 20), "name": f"n{number}"}
        return Utterance(0, f"train-{number}", Path("x.wav"), "train", labels=labels)

    few = first_utterances(Listing([utterance(number) for number in range(40)], []), 5, "x").utterances
    assert [found.id for found in few] == [f"train-{number}" for number in (0, 1, 2, 20, 37)]


def test_speakers_who_are_classes_are_the_same_in_all_splits_and_other_splits_have_several():
    shared, others = mini("speakers"), mini("sentences")
    speakers = [{found.speaker for found in of_split(shared, split)} for split in SPLITS]
    assert speakers[0] == speakers[1] == speakers[2]
    assert len(speakers[0]) == 12
    assert all(len({found.speaker for found in of_split(others, split)}) >= SPEAKERS for split in SPLITS)


def test_trials_of_both_answers_stay_with_their_recordings():
    few = mini("verification", trials=MINI / "trials.csv")
    for split in ("dev", "test"):
        ids = {found.id for found in of_split(few, split)}
        trials = [trial for trial in few.trials if trial.enrolment in ids]
        assert [trial.same for trial in trials].count(True) == len(trials) / 2 == 12
        assert ids == {name for trial in trials for name in (trial.enrolment, trial.test)}
    unknown = listing("test-a", "test-b", trials=(Trial(True, "test-a", "test-b"), Trial(False, "test-a", "nobody")))
    assert first_utterances(unknown, 5, "x").trials == unknown.trials, "left to the check of trials"


def test_queries_keep_a_document_and_name_no_other():
    few = mini("queries")
    known = {found.id for found in few.utterances}
    queries = [found for found in few.utterances if found.label == "query"]
    assert {found.split for found in queries} == {"dev", "test"}
    relevant = {name for found in queries for name in (found.relevant or "").split()}
    assert relevant
    assert relevant <= known
    assert {found.id for found in few.utterances if found.label == "document"} - relevant


def test_too_few_are_refused():
    with pytest.raises(CorpusError, match=r"x: 2 training utterance\(s\); a rehearsal needs 4"):
        first_utterances(listing("train-a", "train-b", "test-c"), 5, "x")


def test_prepared_corpora_hold_the_first_ones(tmp_path):
    recipe = CorpusRecipe(path=MINI / "verification.csv", trials=MINI / "trials.csv", first=3)
    summary = prepare_corpus(recipe, tmp_path / "verification")
    assert summary["trials"]["dev"] == summary["trials"]["test"] == 6
    mixed = prepare_corpus(CorpusRecipe(kind="mixtures", path=MINI / "mixtures.csv", first=2), tmp_path / "mixtures")
    assert {split: found["utterances"] for split, found in mixed["splits"].items()} == {"train": 2, "dev": 2, "test": 2}


def test_a_part_of_a_published_corpus_is_not_complete():
    with pytest.raises(ConfigError, match="add `complete: false`"):
        validate(LibriSpeech, {"kind": "librispeech", "path": "x", "first": 5}, "x")
