import json

import pytest

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


def test_the_order_of_superb_lists_is_taken(iemocap):
    _, splits = iemocap.prepare("iemocap")
    names = [cut.id for cut in splits["train"]][::-1]
    labels = {"neutral": "neu", "happy": "hap", "angry": "ang", "sad": "sad"}
    emotions = {cut.id: labels[cut.supervisions[0].custom["label"]] for cut in splits["train"]}
    for number in range(1, 6):
        members = [
            {"path": f"Session{number}/sentences/wav/{name[:-5]}/{name}.wav", "label": emotions[name]}
            for name in names
            if name.startswith(f"Ses0{number}")
        ]
        iemocap.text(f"../meta_data/Session{number}/test_meta_data.json", json.dumps({"labels": {}, "meta_data": members}))
    order = iemocap.path.parent / "meta_data"
    for file in (iemocap.path.parent / "manifests").iterdir():
        file.unlink()
    (iemocap.path.parent / "manifests").rmdir()
    _, ordered = iemocap.prepare("iemocap", order=order)
    expected = [name for number in range(1, 6) for name in names if name.startswith(f"Ses0{number}")]
    assert [cut.id for cut in ordered["train"]] == expected
    iemocap.text("../meta_data/Session5/test_meta_data.json", json.dumps({"meta_data": [*members[1:], {"path": "a.wav", "label": "neu"}]}))
    with pytest.raises(CorpusError) as caught:
        iemocap.prepare("iemocap", order=order)
    assert caught.value.problems == ("a: is not in the corpus", f"{expected[40]}: is not in the lists")
    (order / "Session3/test_meta_data.json").unlink()
    with pytest.raises(CorpusError, match=r"Session3/test_meta_data.json: no such file.*s3prl"):
        iemocap.prepare("iemocap", order=order)


def test_a_session_that_is_missing_says_where_labels_and_recordings_are(iemocap):
    (iemocap.path / "Session4/dialog").rename(iemocap.path / "elsewhere")
    with pytest.raises(CorpusError, match=r"Session4/dialog/EmoEvaluation: no such folder.*sail.usc.edu"):
        iemocap.prepare("iemocap")


def test_a_label_that_can_not_be_read_is_a_problem(iemocap):
    iemocap.text("Session2/dialog/EmoEvaluation/Ses02F_impro01.txt", HEADER, "[1.0 - 2.0] Ses02F_impro01_F000 neu")
    with pytest.raises(CorpusError, match=r"Ses02F_impro01.txt, line 2: .* is not `\[start - end\] turn label"):
        iemocap.prepare("iemocap")
