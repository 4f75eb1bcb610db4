import csv
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

MINI = Path(__file__).parents[2] / "mini"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(MINI))


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
    with (tmp_path / "recordings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # b is the same as a, c is too short.
    assert [(row["path"], row["version"], row["source"]) for row in rows] == [
        ("songs/fr/00001.flac", "4:1.0-1", "/usr/sounds/fr/a.ogg"),
        ("songs/fr/00002.flac", "4:1.0-1", "/usr/sounds/fr/d.ogg"),
    ]
    assert all(soundfile.info(tmp_path / row["path"]).samplerate == 16_000 for row in rows)
    assert (tmp_path / "counts.csv").read_text().splitlines()[1] == "songs,fr,2,0.1"


def test_without_apt_the_remedy_is_named(tmp_path, monkeypatch):
    import fetch_recordings
    from recording_packages import PACKAGES

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="Debian or Ubuntu"):
        fetch_recordings.download(PACKAGES[0], tmp_path)
