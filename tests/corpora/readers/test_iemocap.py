import json

import pytest
from corpora.readers.skeletons import IEMOCAP_HEADER, IEMOCAP_TURNS

from speechft.corpora.checking import check_corpus
from speechft.corpora.readers.iemocap import read_iemocap
from speechft.errors import CorpusError
from speechft.tasks import get_task

KEPT = {"neu": "neu", "exc": "hap", "ang": "ang", "sad": "sad", "hap": "hap"}


@pytest.fixture
def iemocap(corpus):
    return corpus("iemocap")


def names(listing):
    return [utterance.id for utterance in listing.utterances]


def write_lists(skeleton, folder, without=()):
    """s3prl's lists in `folder`, of each session the turns in reverse; returns their names in order."""
    written = []
    for number in range(1, 6):
        turns = [
            (f"Ses0{number}F_{dialogue}_{turn}", KEPT[emotion])
            for dialogue in ("script01_1", "impro01")
            for turn, emotion in reversed(IEMOCAP_TURNS)
            if emotion in KEPT and f"Ses0{number}F_{dialogue}_{turn}" not in without
        ]
        members = [{"path": f"Session{number}/sentences/wav/{name[:-5]}/{name}.wav", "label": emotion} for name, emotion in turns]
        skeleton.text(f"{folder}/Session{number}/test_meta_data.json", json.dumps({"labels": {}, "meta_data": members}))
        written += [name for name, _ in turns]
    return written


def test_four_classes_a_fold_a_session_women_before_men(iemocap):
    summary, splits = iemocap.prepare()
    assert list(splits) == ["train"]
    cuts = splits["train"]
    assert [cut.id for cut in cuts[:5]] == [f"Ses01F_impro01_{turn}" for turn in ("F000", "F001", "F002", "M000", "M002")]
    assert [cut.supervisions[0].custom["label"] for cut in cuts[:5]] == ["neutral", "happy", "happy", "angry", "sad"]
    assert [cut.supervisions[0].speaker for cut in cuts[2:4]] == ["Ses01F", "Ses01M"]
    assert summary["splits"]["train"]["folds"] == {str(number): 10 for number in range(1, 6)}
    labels, _ = iemocap.targets("er", splits)
    assert labels.symbols == ("angry", "happy", "neutral", "sad")
    folds = get_task("er").folds(cuts)
    # Fold N leaves session N out.
    assert {name: {cut.id[:5] for cut in fold["test"]} for name, fold in folds.items()} == {str(n): {f"Ses0{n}"} for n in range(1, 6)}
    assert [(len(fold["train"]), len(fold["dev"]), len(fold["test"])) for fold in folds.values()] == [(32, 8, 10)] * 5
    # Without s3prl's lists names are in order, and it is said.
    assert summary["order"] == "names"
    (note,) = summary["notes"]
    assert note.startswith("recordings are in order of their names, not of s3prl's lists")
    assert note.endswith(f"Copy s3prl/downstream/emotion/meta_data to {iemocap.path}/meta_data, or name it as `order`.")
    assert check_corpus("iemocap", iemocap.recipe()).notes == (note,)


def test_lists_beside_the_corpus_are_taken_unless_names_are_asked_for(iemocap):
    expected = write_lists(iemocap, "meta_data")
    summary, splits = iemocap.prepare()
    assert [cut.id for cut in splits["train"]] == expected
    assert summary["order"] == f"s3prl's lists in {iemocap.path}/meta_data"
    assert "notes" not in summary
    listing = read_iemocap(iemocap.recipe(order="names"))
    assert (listing.order, names(listing)) == ("names", sorted(expected))


def test_lists_of_an_installed_s3prl_are_taken_for_the_complete_corpus(iemocap, tmp_path, monkeypatch):
    package = tmp_path / "site/s3prl"
    iemocap.text(package / "__init__.py", "raise RuntimeError('is not to be imported')")
    expected = write_lists(iemocap, package / "downstream/emotion/meta_data")
    monkeypatch.syspath_prepend(str(package.parent))
    listing = read_iemocap(iemocap.recipe(complete=True))
    assert names(listing) == expected
    assert (listing.order, listing.notes) == (f"s3prl's lists in {package}/downstream/emotion/meta_data", ())
    assert read_iemocap(iemocap.recipe()).order == "names", "the lists name more than a part of the corpus has"


def test_the_lists_and_the_corpus_hold_the_same(iemocap):
    order = iemocap.path.parent / "lists"
    expected = write_lists(iemocap, order)
    unlisted = expected[40]
    write_lists(iemocap, order, without=(unlisted,))
    iemocap.text("Session1/dialog/EmoEvaluation/Ses01F_impro01.txt", IEMOCAP_HEADER)
    lost = [name for name in expected if name.startswith("Ses01F_impro01")]
    for complete, missing in ((True, lost), (False, [])):
        with pytest.raises(CorpusError) as caught:
            read_iemocap(iemocap.recipe(order=order, complete=complete))
        assert caught.value.problems == (*(f"{name}: is not in the corpus" for name in missing), f"{unlisted}: is not in the lists")
    write_lists(iemocap, order)
    assert names(read_iemocap(iemocap.recipe(order=order))) == [name for name in expected if name not in lost]
    (order / "Session3/test_meta_data.json").unlink()
    with pytest.raises(CorpusError, match=r"Session3/test_meta_data.json: no such file.*s3prl"):
        read_iemocap(iemocap.recipe(order=order))
