import pytest

from speechft.errors import CorpusError

SPEAKERS = {"train": "S0002", "dev": "S0724", "test": "S0764"}


def build_aishell1(skeleton):
    for split, speaker in SPEAKERS.items():
        for number in (122, 123):
            skeleton.audio(f"wav/{split}/{speaker}/BAC009{speaker}W0{number}.wav")
    lines = [f"BAC009{speaker}W0122 而 对 楼市 ｋ t v" for speaker in SPEAKERS.values()]  # noqa: RUF001
    skeleton.text("transcript/aishell_transcript_v0.8.txt", *lines)
    return skeleton


aishell1 = pytest.fixture(build_aishell1)


def build_aishell3(skeleton):
    for part, speaker in (("train", "SSB0005"), ("test", "SSB0009")):
        for number in (1, 2):
            skeleton.audio(f"{part}/wav/{speaker}/{speaker}000{number}.wav", rate=44_100)
        skeleton.text(f"{part}/content.txt", *(f"{speaker}000{number}.wav\t广 guang3 州 zhou1" for number in (1, 2)))
    return skeleton


aishell3 = pytest.fixture(build_aishell3)


def test_transcribed_recordings_without_spaces(aishell1):
    _, splits = aishell1.prepare("aishell1")
    found = splits["dev"][0].supervisions[0]
    assert (len(splits["dev"]), splits["dev"][0].id, found.text, found.speaker) == (1, "BAC009S0724W0122", "而对楼市KTV", "S0724")


def test_a_transcript_without_recording_is_a_problem(aishell1):
    (aishell1.path / "wav/test/S0764/BAC009S0764W0122.wav").unlink()
    with pytest.raises(CorpusError, match="BAC009S0764W0122 has no recording"):
        aishell1.prepare("aishell1")
    (aishell1.path / "wav/test").rename(aishell1.path / "wav/packed")
    with pytest.raises(CorpusError, match=r"wav/test: no such folder.*archives of speakers"):
        aishell1.prepare("aishell1")
    (aishell1.path / "transcript/aishell_transcript_v0.8.txt").unlink()
    with pytest.raises(CorpusError, match=r"aishell_transcript_v0.8.txt: no such file.*openslr.org/33"):
        aishell1.prepare("aishell1")


def test_all_of_aishell3_is_unlabelled_train(aishell3):
    summary, splits = aishell3.prepare("aishell3")
    assert [cut.id for cut in splits["train"]] == ["SSB00050001", "SSB00050002", "SSB00090001", "SSB00090002"]
    assert (list(splits), splits["train"][0].supervisions[0].text, splits["train"][0].sampling_rate) == (["train"], None, 44_100)
    assert [size["found"] for size in summary["published"]][:2] == [4, 2]


def test_what_is_missing_of_aishell3_is_named(aishell3):
    aishell3.text("test/content.txt", "SSB00090003.wav\t广 guang3", "a\tb")
    with pytest.raises(CorpusError) as caught:
        aishell3.prepare("aishell3")
    assert any("content.txt, line 2: 'a' is not" in problem for problem in caught.value.problems)
    assert any("test/wav/SSB0009/SSB00090003.wav: no such file" in problem for problem in caught.value.problems)
    (aishell3.path / "test").rename(aishell3.path / "rest")
    with pytest.raises(CorpusError, match=r"test: no such folder.*openslr.org/93"):
        aishell3.prepare("aishell3")
