import csv
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

MINI = Path(__file__).parents[2] / "mini"


def noise(path, rate, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((rate, channels)), rate, subtype="PCM_16")


def commit(folder):
    for command in (["init", "--quiet"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "-m", "x"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


@pytest.fixture
def words(monkeypatch, tmp_path):
    """The script, with two small repositories in the layouts of the published ones."""
    monkeypatch.syspath_prepend(str(MINI))
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


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


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
