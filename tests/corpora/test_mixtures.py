import numpy as np
import pytest
import soundfile
from corpora.conftest import matches

from speechft.corpora import load_audio
from speechft.corpora.rttm import read_rttm
from speechft.errors import ConfigError
from speechft.files.hashes import sha256_file
from speechft.recipes.corpora import CorpusRecipe
from speechft.recipes.values import validate
from speechft.tasks.sd import SpeakerDiarization

HEADER = "mixture,path,speaker,split,offset,gain_db,start,end\n"


@pytest.fixture
def mix(folder):
    """Prepare the mixtures of these rows: the summary, and the cuts of each split."""
    folder.tone("a.wav", 1.0, frequency=200)
    folder.tone("b.wav", 0.5, frequency=300)

    def make(*rows, out="out"):
        folder.table(HEADER + "\n".join(rows) + "\n")
        return folder.prepare(out, kind="mixtures")

    return make


def test_mixtures_are_sums_at_their_offsets(mix, folder, tmp_path):
    summary, splits = mix(
        "x,a.wav,anna,train,0,-6.0206,0.1,0.9", "x,b.wav,ben,train,0.75,0,,", "y,b.wav,ben,test,0.2,-20,,0.4", "y,a.wav,anna,test,0,,,"
    )
    assert {split: found["speakers"] for split, found in summary["splits"].items()} == {"train": 2, "test": 2}
    (cut,), (other,) = splits["train"], splits["test"]
    first, second = (soundfile.read(folder.path / name)[0] for name in ("a.wav", "b.wav"))
    expected = np.zeros(20_000)
    expected[:16_000] += first / 2
    expected[12_000:] += second
    assert np.abs(load_audio(cut).numpy() - expected).max() < 2**-14
    assert [(turn.speaker, turn.start, turn.duration) for turn in cut.supervisions] == [("anna", 0.1, 0.8), ("ben", 0.75, 0.5)]
    assert [(turn.speaker, turn.start, turn.end) for turn in other.supervisions] == [("anna", 0.0, 1.0), ("ben", 0.2, 0.6)]
    assert other.duration == 1.0
    written = [(turn.recording, turn.speaker) for turn in read_rttm(tmp_path / "out/turns.rttm")]
    assert written == [("x", "anna"), ("x", "ben"), ("y", "anna"), ("y", "ben")]
    assert [turn.speaker for turn in SpeakerDiarization().turns(cut)] == ["anna", "ben"]


def test_equal_tables_give_equal_files_wherever_they_go(mix, tmp_path):
    ben = "x,b.wav,ben,train,0.75,-3,{},".format
    first, second, third = (mix("x,a.wav,anna,train,0,,,", ben(start), out=out)[0] for out, start in (("1", ""), ("2", ""), ("3", 0.1)))
    assert first["content_sha256"] == second["content_sha256"] != third["content_sha256"]
    assert sha256_file(tmp_path / "1/audio/x.flac") == sha256_file(tmp_path / "2/audio/x.flac")


def test_sources_of_other_rates_are_resampled(mix, folder):
    folder.tone("c.wav", 0.5, rate=44_100, frequency=1000)
    _, splits = mix("x,a.wav,anna,train,0,-100,,", "x,c.wav,ben,train,0.25,0,,")
    (cut,) = splits["train"]
    assert cut.supervisions[1].end == 0.75
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(8_000) / 16_000)
    assert np.abs(load_audio(cut).numpy()[4_000:12_000] - expected)[100:-100].max() < 1e-3


def test_every_problem_is_in_one_report(mix, folder):
    folder.tone("stereo.wav", channels=2)
    folder.table(
        HEADER + "x,a.wav,anna,train,-1,,,\nx,b.wav,ben,train,soon,loud,,\n"
        "y,a.wav,anna,train,0,,0.5,0.4\ny,b.wav,ben,test,0.5,,,0.6\n"
        "../z,missing.wav,a b,valid,0,,,\nv,missing.wav,anna,dev,nan,inf,,\nu,missing.wav,anna,dev,0,,,\nu,stereo.wav,ben,dev,0,,,\n"
        ",,,,,,,\nt,a.wav\n,a.wav,anna,dev,0,,,\n"
    )
    expected = [
        ("row 2", "offset is -1"),
        ("row 3", "gain_db 'loud' is not a number of decibels"),
        ("row 3", "offset 'soon' is not a number of seconds"),
        ("row 4: a.wav", "from 0.5 s to 0.4 s"),
        ("row 4", "in several splits: test, train"),
        ("row 5: b.wav", "`end` is 0.6 s, but the recording ends at 0.5 s"),
        ("row 6", "names a file"),
        ("row 6", "contains a space"),
        ("row 6", "split 'valid'"),
        ("row 7", "gain_db is inf"),
        ("row 7", "offset is nan"),
        ("row 8: missing.wav", "no such file"),
        ("row 9: stereo.wav", "2 channels"),
        ("row 11", "2 cells"),
        ("row 12", "'mixture' is empty"),
    ]
    assert matches(folder.problems(kind="mixtures"), expected)


def test_sums_beyond_full_scale_are_refused(mix, folder):
    folder.table(HEADER + "x,a.wav,anna,train,0,6,,\nx,a.wav,ben,train,0,6,,\n")
    assert folder.problems(kind="mixtures") == ["row 2: mixture 'x' is 6 dB beyond full scale; lower the gain_db of its sources"]


def test_keys_of_other_kinds_are_refused():
    with pytest.raises(ConfigError, match="not dev_fraction, rttm"):
        validate(CorpusRecipe, {"kind": "mixtures", "path": "m.csv", "rttm": "m.rttm", "dev_fraction": 0.1, "channel": None}, "recipe")
