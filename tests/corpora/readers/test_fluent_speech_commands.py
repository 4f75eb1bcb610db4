import pytest

from speechft.errors import CorpusError

HEADER = ",path,speakerId,transcription,action,object,location"
NAME = "wavs/speakers/2BqVo8kVB2Skwgyb/{}.wav"


def build_fluent(skeleton):
    for number, table in enumerate(("train", "valid", "test")):
        rows = []
        for row, values in enumerate(("Change language,change language,none,none", '"Turn up, please",increase,volume,none')):
            name = NAME.format(f"0a3129c0-4474-11e9-a9a5-{number}{row}")
            skeleton.audio(name)
            rows.append(f"{row},{name},speaker{number},{values}")
        skeleton.text(f"data/{table}_data.csv", HEADER, *rows)
    return skeleton


fluent = pytest.fixture(build_fluent)


def test_tables_become_splits_with_three_slots(fluent):
    _, splits = fluent.prepare("fluent_speech_commands")
    found = splits["dev"][1].supervisions[0]
    assert (found.text, found.speaker, found.custom["label"]) == ("Turn up, please", "speaker1", "increase|volume|none")
    assert splits["test"][0].id == "0a3129c0-4474-11e9-a9a5-20"
    labels, targets = fluent.targets("ic", splits)
    assert labels.extra["values_per_slot"] == [2, 2, 1]
    assert targets["test"][1].tolist() == [1, 1, 0]


def test_what_is_missing_is_named(fluent):
    (fluent.path / NAME.format("0a3129c0-4474-11e9-a9a5-00")).unlink()
    with pytest.raises(CorpusError, match=r"a9a5-00.wav: no such file"):
        fluent.prepare("fluent_speech_commands")
    fluent.text("data/test_data.csv", HEADER, "0,wavs/a.wav,s,,none,none,none")
    with pytest.raises(CorpusError, match="test_data.csv, line 2: a cell is empty"):
        fluent.prepare("fluent_speech_commands")
    fluent.text("data/test_data.csv", "path,speaker")
    with pytest.raises(CorpusError, match=r"has no column speakerId, transcription.*fluent.ai"):
        fluent.prepare("fluent_speech_commands")
    (fluent.path / "data/test_data.csv").unlink()
    with pytest.raises(CorpusError, match=r"test_data.csv: no such file.*fluent.ai"):
        fluent.prepare("fluent_speech_commands")
