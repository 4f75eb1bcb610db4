"""The scripts that fetch recordings of packages, and spoken words of repositories, into mini/."""

import csv
import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "mini"))


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def tone(seconds, level_db, rate=16_000):
    return (10 ** (level_db / 20) * np.sqrt(2) * np.sin(2 * np.pi * 300 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def test_only_speech_is_chosen_and_its_language_known():
    from recording_packages import PACKAGES

    packages = {package.name: package for package in PACKAGES}
    for package, languages in {
        "tuxpaint-stamps-default": {
            **{"/stamps/cow_desc_pt_BR.ogg": "pt_BR", "/stamps/cow_desc.ogg": "en", "/stamps/cow.ogg": None},
            **{"/stamps/7_lt.ogg": "lt", "/stamps/0_sun_desc_bg.ogg": "bg"},
        },
        "asterisk-core-sounds-fr-g722": {"/sounds/fr/vm-and.g722": "fr", "/sounds/fr/silence/3.g722": None, "/sounds/fr/beep.g722": None},
        "hedgewars-data": {
            **{"/Sounds/voices/Default_pl/Fire.ogg": "pl", "/Sounds/voices/Pirate/Fire.ogg": "en"},
            **{"/Sounds/voices/Pirate/Ow2.ogg": None, "/Sounds/voices/Robot/Fire.ogg": None},
        },
        "nexuiz-data": {"sound/weapons/shot.ogg": None},
    }.items():
        assert {path: packages[package].language_of(path) for path in languages} == languages


def test_pieces_have_one_level_and_no_silence_around_them():
    from recording_audio import active_level, pieces

    silence = np.zeros(16_000, dtype=np.float32)
    (piece,) = pieces(np.concatenate([silence, tone(1.0, -40.0), silence]), 16_000)
    assert piece.level_db == pytest.approx(-40.0, abs=0.1)
    assert active_level(piece.samples) == pytest.approx(-26.0, abs=0.1)
    assert len(piece.samples) / 16_000 == pytest.approx(1.2, abs=0.05)
    (resampled,) = pieces(tone(1.0, -10.0, 44_100), 44_100)
    assert len(resampled.samples) / 16_000 == pytest.approx(1.0, abs=0.05)


def test_short_and_silent_recordings_give_nothing():
    from recording_audio import pieces

    for samples in (tone(0.4, -20.0), tone(1.0, -70.0), np.zeros(0, dtype=np.float32)):
        assert list(pieces(samples, 16_000)) == []


def test_long_recordings_are_cut_in_a_pause():
    from recording_audio import pieces

    pause = np.zeros(8000, dtype=np.float32)
    found = list(pieces(np.concatenate([tone(9.0, -20.0), pause, tone(8.0, -20.0)]), 16_000))
    assert [len(piece.samples) / 16_000 for piece in found] == pytest.approx([9.1, 8.1], abs=0.05)


def test_a_package_becomes_a_folder_and_an_index(tmp_path, monkeypatch):
    import fetch_recordings
    from recording_packages import Package

    def unpack(command, **_options):
        sounds = Path(command[-1]) / "usr/sounds/fr"
        sounds.mkdir(parents=True)
        for name, content in [("a.ogg", tone(1, -20)), ("b.ogg", tone(1, -20)), ("c.ogg", tone(0.2, -20)), ("d.ogg", tone(2, -30))]:
            buffer = io.BytesIO()
            soundfile.write(buffer, content, 16_000, format="FLAC")
            (sounds / name).write_bytes(buffer.getvalue())

    monkeypatch.setattr(fetch_recordings.subprocess, "run", unpack)
    monkeypatch.setattr(fetch_recordings, "download", lambda _package, folder: folder / "songs_4%3a1.0-1_all.deb")
    fetch_recordings.make(Package("songs", "GPL-2", r"/sounds/(?P<language>\w+)/[^/]+\.ogg$"), tmp_path / "songs")
    fetch_recordings.unite(tmp_path, ["songs"])
    found = rows(tmp_path / "recordings.csv")
    # b is the same as a, c is too short.
    assert [(row["path"], row["version"], row["source"]) for row in found] == [
        ("songs/fr/00001.flac", "4:1.0-1", "/usr/sounds/fr/a.ogg"),
        ("songs/fr/00002.flac", "4:1.0-1", "/usr/sounds/fr/d.ogg"),
    ]
    assert all(soundfile.info(tmp_path / row["path"]).samplerate == 16_000 for row in found)
    assert (tmp_path / "counts.csv").read_text().splitlines()[1] == "songs,fr,2,0.1"


def test_without_apt_the_remedy_is_named(tmp_path, monkeypatch):
    import fetch_recordings
    from recording_packages import PACKAGES

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="Debian or Ubuntu"):
        fetch_recordings.download(PACKAGES[0], tmp_path)


def noise(path, rate, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((rate, channels)), rate, subtype="PCM_16")


def commit(folder):
    for command in (["init", "--quiet"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "-m", "x"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


@pytest.fixture
def words(monkeypatch, tmp_path):
    """The script, with two small repositories in the layouts of the published ones."""
    import fetch_words

    digits, keywords = tmp_path / "published/spoken-digits", tmp_path / "published/wake-words"
    for digit in range(10):
        for take in (0, 1, 2, 30):
            noise(digits / f"recordings/{digit}_theo_{take}.wav", 8000)
        noise(digits / f"recordings/{digit}_jason_0.wav", 8000)
    for name in ("10.flac", "9.flac", "2.flac", "1.flac"):
        noise(keywords / "audio/alexa" / name, 16_000)
    (keywords / "audio/alexa/1.flac").write_bytes((keywords / "audio/alexa/1.flac").read_bytes()[:3000])
    for name in ("b-3.wav", "a-7.wav", "c-1.wav"):
        noise(keywords / "audio/view glass" / name, 16_000)
    noise(keywords / "audio/view glass/a-1.wav", 16_000, channels=2)
    (keywords / "audio/view glass/README.md").write_text("not audio")
    commit(digits)
    commit(keywords)
    small = {"SPEAKERS": ("theo",), "TAKES": 3, "TEST_TAKES": 1, "KEYWORD_FOLDERS": ("alexa", "view glass"), "RECORDINGS_OF_A_KEYWORD": 2}
    for name, value in {"DIGITS": digits.as_uri(), "KEYWORDS": keywords.as_uri(), **small}.items():
        monkeypatch.setattr(fetch_words, name, value)
    return fetch_words


def test_tables_hold_the_recordings_of_the_published_layouts(words, tmp_path):
    words.main(tmp_path / "words")
    digits, keywords = rows(tmp_path / "words/digits.csv"), rows(tmp_path / "words/keywords.csv")
    assert len(digits) == 30
    keys = ("path", "text", "digit", "speaker", "split", "seconds")
    assert digits[22] == dict(zip(keys, ("spoken-digits/recordings/7_theo_1.wav", "SEVEN", "7", "theo", "train", "1.000"), strict=True))
    assert [row["split"] for row in digits[:3]] == ["test", "train", "train"]
    # Numbers in order, names after the alphabet; what is damaged or has two channels is left out.
    assert [tuple(row.values()) for row in keywords] == [
        ("wake-words/audio/alexa/2.flac", "ALEXA", "alexa", "1.000"),
        ("wake-words/audio/alexa/9.flac", "ALEXA", "alexa", "1.000"),
        ("wake-words/audio/view glass/a-7.wav", "VIEW GLASS", "view_glass", "1.000"),
        ("wake-words/audio/view glass/b-3.wav", "VIEW GLASS", "view_glass", "1.000"),
    ]
    assert all((tmp_path / "words" / row["path"]).is_file() for row in [*digits, *keywords])


def test_what_is_there_is_kept(words, tmp_path, monkeypatch, capsys):
    words.main(tmp_path / "words")
    for name in ("DIGITS", "KEYWORDS"):
        monkeypatch.setattr(words, name, getattr(words, name).replace("published", "gone"))
    before = (tmp_path / "words/digits.csv").read_bytes()
    (tmp_path / "words/digits.csv").unlink()
    (tmp_path / "words/keywords.csv").write_text("mine")
    words.main(tmp_path / "words")
    assert (tmp_path / "words/digits.csv").read_bytes() == before
    assert (tmp_path / "words/keywords.csv").read_text() == "mine"
    assert "keywords.csv is there and stays as it is" in capsys.readouterr().out


def test_without_network_or_git_the_remedy_is_named(words, tmp_path, monkeypatch):
    monkeypatch.setattr(words, "DIGITS", f"{tmp_path.as_uri()}/gone")
    with pytest.raises(SystemExit, match=r"gone: cannot be cloned .*Check the network.* copy the clone to .*/words/gone"):
        words.main(tmp_path / "words")
    assert list((tmp_path / "words").iterdir()) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="gone: git is needed"):
        words.main(tmp_path / "words")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TAKES", 4, r"0_theo_3\.wav: missing or damaged\. Delete .*spoken-digits and run this again"),
        ("RECORDINGS_OF_A_KEYWORD", 4, r"alexa: 3 usable of 4 recordings\. Delete .*wake-words and run this again"),
    ],
)
def test_too_few_recordings_are_an_error(words, tmp_path, monkeypatch, name, value, message):
    monkeypatch.setattr(words, name, value)
    with pytest.raises(SystemExit, match=message):
        words.main(tmp_path / "words")
    assert not (tmp_path / "words/keywords.csv").exists()
