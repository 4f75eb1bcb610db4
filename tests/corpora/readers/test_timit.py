import pytest

from speechft.errors import CorpusError

PHONES = ("0 807 h#", "807 2407 sh", "2407 3311 iy", "3311 4001 ix", "4001 4803 q")
SPEAKERS = ("TRAIN/DR1/FCJF0", "TEST/DR1/FAKS0", "TEST/DR1/FELC0", "TEST/DR1/MRJO0")


def sentence(skeleton, name, lower=False):
    name = name.lower() if lower else name
    suffixes = ("wav", "phn", "txt") if lower else ("WAV", "PHN", "TXT")
    skeleton.audio(f"{name}.{suffixes[0]}", format="NIST", subtype="PCM_16")
    skeleton.text(f"{name}.{suffixes[1]}", *PHONES)
    skeleton.text(f"{name}.{suffixes[2]}", "0 4800 She is.")


def build_timit(skeleton, lower):
    for speaker in SPEAKERS:
        for name in ("SA1", "SI648", "SX37"):
            sentence(skeleton, f"{speaker}/{name}", lower)
    skeleton.lower = lower
    return skeleton


@pytest.fixture(params=[False, True], ids=["upper", "lower"])
def timit(skeleton, request):
    return build_timit(skeleton, request.param)


def test_core_and_development_speakers_without_sa(timit):
    summary, splits = timit.prepare("timit")
    assert {split: [cut.id for cut in cuts] for split, cuts in splits.items()} == {
        "train": ["FCJF0-SI648", "FCJF0-SX37"],
        "dev": ["FAKS0-SI648", "FAKS0-SX37"],
        "test": ["FELC0-SI648", "FELC0-SX37"],
    }
    assert splits["dev"][0].supervisions[0].text == "She is."
    assert [size["published"] for size in summary["published"]] == [3696, 462, 400, 50, 192, 24]


def test_frames_have_the_39_classes(timit):
    _, splits = timit.prepare("timit")
    labels, targets = timit.targets("pc", splits)
    assert len(labels) == 39
    names = [labels.symbols[index] if index >= 0 else None for index in targets["test"][0].tolist()]
    # Centers of frames: 10, 30, ... ms; phones end at 50.4, 150.4, 206.9, 250.1 and 300.2 ms.
    assert names == ["sil"] * 3 + ["sh"] * 5 + ["iy"] * 2 + ["ih"] * 3 + [None] * 2


def test_what_is_missing_or_wrong_is_named(timit):
    folder, file = SPEAKERS[0], (lambda name: name.lower() if timit.lower else name)
    (timit.path / file(f"{folder}/SI648.PHN")).unlink()
    timit.text(file(f"{folder}/SX37.PHN"), "0 807 h#", "700 2407 sh", "2407 3000 zz")
    with pytest.raises(CorpusError) as caught:
        timit.prepare("timit")
    text = "\n".join(caught.value.problems)
    assert "there is no SI648.PHN beside it" in text
    assert "line 2: '700 2407 sh' ends before it starts, or starts before the phone before it ends" in text
    assert "line 3: '2407 3000 zz' is not" in text
    (timit.path / file("TEST")).rename(timit.path / "rest")
    with pytest.raises(CorpusError, match=r"TEST: no such folder.*LDC93S1"):
        timit.prepare("timit")
