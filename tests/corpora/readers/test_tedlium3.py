import numpy as np
import pytest
import soundfile

from speechft.corpora import load_audio
from speechft.errors import CorpusError

TALKS = {"train": ("AaronHuey_2010X", "911Mothers_2010W"), "dev": ("AlGore_2009",), "test": ("AimeeMullins_2009P",)}
LINES = (
    "{0} 1 {0} 0.00 1.50 <o,f0,male> i am here today",
    "{0} 1 {0} 1.50 2.00 <o,f0,male> too short",
    "{0} 1 inter_segment_gap 2.00 3.00 <o,f0,> ignore_time_segment_in_scoring",
    "{0} 1 {0} 3.00 4.50 <o,f0,male> it 's <unk> now",
    "{0} 1 {0} 4.00 5.60 <o,f0,male> and so on",
)


def build_tedlium(skeleton):
    for split, talks in TALKS.items():
        for talk in talks:
            skeleton.audio(f"legacy/{split}/sph/{talk}.sph", seconds=5.5, format="NIST", subtype="PCM_16")
            skeleton.text(f"legacy/{split}/stm/{talk}.stm", ";; a comment", *(line.format(talk) for line in LINES))
    return skeleton


tedlium = pytest.fixture(build_tedlium)


def test_segments_are_parts_of_talks(tedlium):
    summary, splits = tedlium.prepare("tedlium3", subset=None)
    assert [cut.id for cut in splits["dev"]] == [f"AlGore_2009-000{line}" for line in range(2, 7)]
    assert [cut.id for cut in splits["train"]][:6:5] == ["911Mothers_2010W-0002", "AaronHuey_2010X-0002"]
    cut = splits["dev"][4]
    assert (cut.start, round(cut.duration, 4), cut.supervisions[0].text) == (4.0, 1.5, "and so on")  # ends with the talk
    whole, _ = soundfile.read(tedlium.path / "legacy/dev/sph/AlGore_2009.sph", dtype="float32")
    assert np.array_equal(load_audio(cut).numpy(), whole[64_000:])
    assert summary["splits"]["dev"]["hours"] == round((1.5 + 0.5 + 1.0 + 1.5 + 1.5) / 3600, 6)
    assert [size["found"] for size in summary["published"]] == [2, 1, 1, 10]


def test_the_subset_of_the_released_fine_tuning(tedlium):
    _, splits = tedlium.prepare("tedlium3")
    assert [cut.supervisions[0].text for cut in splits["dev"]] == ["i am here today", "ignore_time_segment_in_scoring", "and so on"]
    _, targets = tedlium.targets("asr", splits)
    assert all(len(target) for target in targets["train"])


def test_ten_hours_of_train_are_taken_in_the_order_of_the_corpus(tedlium, monkeypatch):
    monkeypatch.setattr("speechft.corpora.splits.TRAIN_HOURS", 2.0 / 3600)
    _, splits = tedlium.prepare("tedlium3")
    assert [cut.id for cut in splits["train"]] == ["911Mothers_2010W-0002", "911Mothers_2010W-0004"]
    assert len(splits["test"]) == 3


def test_what_is_missing_or_wrong_is_named(tedlium):
    tedlium.text("legacy/dev/stm/AlGore_2009.stm", "AlGore_2009 1 AlGore_2009 five 6 <o> a", "AlGore_2009 1 AlGore_2009 7 8 <o> a")
    (tedlium.path / "legacy/test/sph/AimeeMullins_2009P.sph").unlink()
    (tedlium.path / "legacy/train/stm/AaronHuey_2010X.stm").unlink()
    with pytest.raises(CorpusError) as caught:
        tedlium.prepare("tedlium3")
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    assert "AlGore_2009.stm, line 1: 'AlGore_2009 1 AlGore_2009 five" in text
    assert "AlGore_2009-0002 is from 7 s to 8 s, the recording lasts 5.5 s" in text
    assert "AimeeMullins_2009P.sph: no such file" in text
    assert "AaronHuey_2010X.stm: no such file, needed as the transcript of AaronHuey_2010X.sph" in text
    (tedlium.path / "legacy/dev/sph").rename(tedlium.path / "legacy/dev/audio")
    with pytest.raises(CorpusError, match=r"legacy/dev/sph: no such folder.*https://www.openslr.org/51"):
        tedlium.prepare("tedlium3")
