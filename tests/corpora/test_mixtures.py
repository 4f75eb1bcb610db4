import numpy as np
import pytest
import soundfile

from speechft.corpora import load_audio, load_split, prepare_corpus
from speechft.corpora.rttm import read_rttm
from speechft.errors import ConfigError, CorpusError
from speechft.files.hashes import sha256_file
from speechft.recipes.corpora import CorpusRecipe
from speechft.recipes.values import validate
from speechft.tasks.sd import SpeakerDiarization

HEADER = "mixture,path,speaker,split,offset,gain_db,start,end\n"


def recipe_of(folder):
    return folder.recipe(kind="mixtures")


def problems_of(folder, tmp_path, rows):
    folder.table(HEADER + rows)
    with pytest.raises(CorpusError) as caught:
        prepare_corpus(recipe_of(folder), tmp_path / "out")
    assert list(tmp_path.iterdir()) == [folder.path]
    return [problem.replace(f"{folder.path}/", "") for problem in caught.value.problems]


@pytest.fixture
def tones(folder):
    folder.tone("a.wav", 1.0, frequency=200)
    folder.tone("b.wav", 0.5, frequency=300)
    return folder


def test_mixtures_are_sums_at_their_offsets(tones, tmp_path):
    tones.table(
        HEADER + "x,a.wav,anna,train,0,-6.0206,0.1,0.9\nx,b.wav,ben,train,0.75,0,,\ny,b.wav,ben,test,0.2,-20,,0.4\ny,a.wav,anna,test,0,,,\n"
    )
    summary = prepare_corpus(recipe_of(tones), tmp_path / "out")
    assert {split: found["speakers"] for split, found in summary["splits"].items()} == {"train": 2, "test": 2}
    (cut,) = load_split(tmp_path / "out", "train")
    first, _ = soundfile.read(tones.path / "a.wav")
    second, _ = soundfile.read(tones.path / "b.wav")
    expected = np.zeros(20_000)
    expected[:16_000] += first / 2
    expected[12_000:] += second
    assert np.abs(load_audio(cut).numpy() - expected).max() < 2**-14
    assert [(turn.speaker, turn.start, turn.duration) for turn in cut.supervisions] == [("anna", 0.1, 0.8), ("ben", 0.75, 0.5)]
    (other,) = load_split(tmp_path / "out", "test")
    assert [(turn.speaker, turn.start, turn.end) for turn in other.supervisions] == [("anna", 0.0, 1.0), ("ben", 0.2, 0.6)]
    assert other.duration == 1.0
    assert [(turn.recording, turn.speaker) for turn in read_rttm(tmp_path / "out/turns.rttm")] == [
        ("x", "anna"),
        ("x", "ben"),
        ("y", "anna"),
        ("y", "ben"),
    ]
    assert [turn.speaker for turn in SpeakerDiarization().turns(cut)] == ["anna", "ben"]


def test_equal_tables_give_equal_files_wherever_they_go(tones, tmp_path):
    tones.table(HEADER + "x,a.wav,anna,train,0,,,\nx,b.wav,ben,train,0.75,-3,,\n")
    first, second = (prepare_corpus(recipe_of(tones), tmp_path / name) for name in ("one", "two"))
    assert first["content_sha256"] == second["content_sha256"]
    assert sha256_file(tmp_path / "one/audio/x.flac") == sha256_file(tmp_path / "two/audio/x.flac")
    tones.table(HEADER + "x,a.wav,anna,train,0,,,\nx,b.wav,ben,train,0.75,-3,0.1,\n")
    assert prepare_corpus(recipe_of(tones), tmp_path / "three")["content_sha256"] != first["content_sha256"]


def test_sources_of_other_rates_are_resampled(folder, tmp_path):
    folder.tone("a.wav", 1.0)
    folder.tone("b.wav", 0.5, rate=44_100, frequency=1000)
    folder.table("mixture,path,speaker,split,offset,gain_db\nx,a.wav,anna,train,0,-100\nx,b.wav,ben,train,0.25,0\n")
    prepare_corpus(recipe_of(folder), tmp_path / "out")
    (cut,) = load_split(tmp_path / "out", "train")
    assert cut.supervisions[1].end == 0.75
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(8_000) / 16_000)
    assert np.abs(load_audio(cut).numpy()[4_000:12_000] - expected)[100:-100].max() < 1e-3


def test_every_problem_is_in_one_report(tones, tmp_path):
    tones.tone("stereo.wav", channels=2)
    found = problems_of(
        tones,
        tmp_path,
        "x,a.wav,anna,train,-1,,,\nx,b.wav,ben,train,soon,loud,,\ny,a.wav,anna,train,0,,0.5,0.4\ny,b.wav,ben,test,0.5,,,0.6\n"
        "../z,missing.wav,a b,valid,0,,,\nv,missing.wav,anna,dev,nan,inf,,\nu,missing.wav,anna,dev,0,,,\nu,stereo.wav,ben,dev,0,,,\n"
        ",,,,,,,\nt,a.wav\n,a.wav,anna,dev,0,,,\n",
    )
    expected = [
        ("row 2", "offset is -1"),
        ("row 3", "offset 'soon' is not a number of seconds"),
        ("row 3", "gain_db 'loud' is not a number of decibels"),
        ("row 4: a.wav", "from 0.5 s to 0.4 s"),
        ("row 4", "in several splits: test, train"),
        ("row 5: b.wav", "`end` is 0.6 s, the recording ends at 0.5 s"),
        ("row 6", "names a file"),
        ("row 6", "holds a space"),
        ("row 6", "split 'valid'"),
        ("row 7", "offset is nan"),
        ("row 7", "gain_db is inf"),
        ("row 8: missing.wav", "no such file"),
        ("row 9: stereo.wav", "2 channels"),
        ("row 11", "2 cells"),
        ("row 12", "'mixture' is empty"),
    ]
    assert len(found) == len(expected)
    for where, what in expected:
        assert any(problem.startswith(where) and what in problem for problem in found), (where, what)


def test_sums_beyond_full_scale_are_refused(tones, tmp_path):
    (problem,) = problems_of(tones, tmp_path, "x,a.wav,anna,train,0,6,,\nx,a.wav,ben,train,0,6,,\n")
    assert problem == "row 2: mixture 'x' is 6 dB beyond full scale; lower gain_db of its sources"


@pytest.mark.parametrize(
    ("table", "message"), [("mixture,path\nx,a.wav\n", "no column speaker, split, offset"), (HEADER, "no rows"), ("", "no column")]
)
def test_tables_that_can_not_be_used(folder, tmp_path, table, message):
    folder.table(table)
    with pytest.raises(CorpusError, match=message):
        prepare_corpus(recipe_of(folder), tmp_path / "out")


def test_keys_of_other_kinds_are_refused():
    with pytest.raises(ConfigError, match="not dev_fraction, rttm"):
        validate(CorpusRecipe, {"kind": "mixtures", "path": "m.csv", "rttm": "m.rttm", "dev_fraction": 0.1, "channel": None}, "recipe")
