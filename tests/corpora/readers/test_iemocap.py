import json

import pytest

from speechft.corpora.checking import check_corpus
from speechft.corpora.readers.iemocap import read_iemocap
from speechft.errors import CorpusError
from speechft.tasks import get_task

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
TURNS = [("F000", "neu"), ("F001", "exc"), ("M000", "ang"), ("M001", "fru"), ("M002", "sad"), ("M003", "xxx"), ("F002", "hap")]


def build_iemocap(skeleton):
    for number in range(1, 6):
        for dialogue in (f"Ses0{number}F_impro01", f"Ses0{number}F_script01_1"):
            lines = ["", HEADER, ""]
            for turn, emotion in TURNS:
                lines += [f"[6.2901 - 8.2357]\t{dialogue}_{turn}\t{emotion}\t[2.5000, 2.5000, 2.5000]", "C-E2:\tNeutral;\t()", ""]
                skeleton.audio(f"Session{number}/sentences/wav/{dialogue}/{dialogue}_{turn}.wav")
            skeleton.text(f"Session{number}/dialog/EmoEvaluation/{dialogue}.txt", *lines)
    return skeleton


iemocap = pytest.fixture(build_iemocap)


def test_four_classes_a_fold_a_session_women_before_men(iemocap):
    summary, splits = iemocap.prepare("iemocap")
    assert list(splits) == ["train"]
    cuts = splits["train"]
    assert [cut.id for cut in cuts[:5]] == [f"Ses01F_impro01_{turn}" for turn in ("F000", "F001", "F002", "M000", "M002")]
    assert [cut.supervisions[0].custom["label"] for cut in cuts[:5]] == ["neutral", "happy", "happy", "angry", "sad"]
    assert [cut.supervisions[0].speaker for cut in cuts[2:4]] == ["Ses01F", "Ses01M"]
    assert summary["splits"]["train"]["folds"] == {str(number): 10 for number in range(1, 6)}
    assert {cut.id[:5] for cut in cuts if cut.custom["fold"] == "2"} == {"Ses02"}
    labels, _ = iemocap.targets("er", splits)
    assert labels.symbols == ("angry", "happy", "neutral", "sad")
    folds = get_task("er").folds(cuts)
    # Fold N leaves session N out.
    assert {name: {cut.id[:5] for cut in fold["test"]} for name, fold in folds.items()} == {str(n): {f"Ses0{n}"} for n in range(1, 6)}
    assert [(len(fold["train"]), len(fold["dev"]), len(fold["test"])) for fold in folds.values()] == [(32, 8, 10)] * 5


KEPT = {"neu": "neu", "exc": "hap", "ang": "ang", "sad": "sad", "hap": "hap"}


def write_lists(skeleton, folder, without=()):
    """s3prl's lists in `folder`, of each session the turns in reverse; returns their names in order."""
    names = []
    for number in range(1, 6):
        dialogues = (f"Ses0{number}F_script01_1", f"Ses0{number}F_impro01")
        turns = [(f"{dialogue}_{turn}", KEPT[emotion]) for dialogue in dialogues for turn, emotion in reversed(TURNS) if emotion in KEPT]
        members = [
            {"path": f"Session{number}/sentences/wav/{name[:-5]}/{name}.wav", "label": emotion}
            for name, emotion in turns
            if name not in without
        ]
        skeleton.text(f"{folder}/Session{number}/test_meta_data.json", json.dumps({"labels": {}, "meta_data": members}))
        names += [name for name, _ in turns if name not in without]
    return names


def test_without_lists_names_are_in_order_and_it_is_said(iemocap):
    summary, _ = iemocap.prepare("iemocap")
    assert summary["order"] == "names"
    (note,) = summary["notes"]
    assert note.startswith("recordings are in order of their names, not of s3prl's lists")
    assert note.endswith(f"Copy s3prl/downstream/emotion/meta_data to {iemocap.path}/meta_data, or name it as `order`.")
    found = check_corpus("iemocap", iemocap.recipe("iemocap"))
    assert found.notes == (note,)


def test_lists_beside_the_corpus_are_taken_unless_names_are_asked_for(iemocap):
    expected = write_lists(iemocap, "meta_data")
    summary, splits = iemocap.prepare("iemocap")
    assert [cut.id for cut in splits["train"]] == expected
    assert summary["order"] == f"s3prl's lists in {iemocap.path}/meta_data"
    assert "notes" not in summary
    summary, splits = iemocap.prepare("iemocap", order="names")
    assert (summary["order"], [cut.id for cut in splits["train"]]) == ("names", sorted(expected))


def test_lists_of_an_installed_s3prl_are_taken_for_the_complete_corpus(iemocap, tmp_path, monkeypatch):
    package = tmp_path / "site/s3prl"
    iemocap.text(str(package / "__init__.py"), "raise RuntimeError('is not to be imported')")
    expected = write_lists(iemocap, package / "downstream/emotion/meta_data")
    monkeypatch.syspath_prepend(str(package.parent))
    listing = read_iemocap(iemocap.recipe("iemocap", complete=True))
    assert [utterance.id for utterance in listing.utterances] == expected
    assert (listing.order, listing.notes) == (f"s3prl's lists in {package}/downstream/emotion/meta_data", ())
    assert read_iemocap(iemocap.recipe("iemocap")).order == "names", "the lists name more than a part of the corpus has"


def test_the_lists_and_the_corpus_hold_the_same(iemocap):
    order = iemocap.path.parent / "lists"
    expected = write_lists(iemocap, order)
    assert [utterance.id for utterance in read_iemocap(iemocap.recipe("iemocap", order=order)).utterances] == expected
    unlisted = expected[40]
    write_lists(iemocap, order, without=(unlisted,))
    lost = iemocap.path / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    lost.write_text(HEADER + "\n")
    with pytest.raises(CorpusError) as caught:
        read_iemocap(iemocap.recipe("iemocap", order=order, complete=True))
    missing = [f"{name}: is not in the corpus" for name in expected if name.startswith("Ses01F_impro01")]
    assert caught.value.problems == (*missing, f"{unlisted}: is not in the lists")
    with pytest.raises(CorpusError) as caught:
        read_iemocap(iemocap.recipe("iemocap", order=order))
    assert caught.value.problems == (f"{unlisted}: is not in the lists",)
    write_lists(iemocap, order)
    part = read_iemocap(iemocap.recipe("iemocap", order=order)).utterances
    assert [utterance.id for utterance in part] == [name for name in expected if not name.startswith("Ses01F_impro01")]
    (order / "Session3/test_meta_data.json").unlink()
    with pytest.raises(CorpusError, match=r"Session3/test_meta_data.json: no such file.*s3prl"):
        read_iemocap(iemocap.recipe("iemocap", order=order))


def test_a_session_that_is_missing_says_where_labels_and_recordings_are(iemocap):
    (iemocap.path / "Session4/dialog").rename(iemocap.path / "elsewhere")
    with pytest.raises(CorpusError, match=r"Session4/dialog/EmoEvaluation: no such folder.*sail.usc.edu"):
        iemocap.prepare("iemocap")


def test_a_label_that_can_not_be_read_is_a_problem(iemocap):
    iemocap.text("Session2/dialog/EmoEvaluation/Ses02F_impro01.txt", HEADER, "[1.0 - 2.0] Ses02F_impro01_F000 neu")
    with pytest.raises(CorpusError, match=r"Ses02F_impro01.txt, line 2: .* is not `\[start - end\] turn label"):
        iemocap.prepare("iemocap")
