import pytest

from speechft.errors import CorpusError

LINES = (
    "{} BOS Add Nine Inch Nails to party EOS\tO O B-artist I-artist I-artist O B-playlist AddToPlaylist",
    "{} BOS play it EOS\tO O O PlayMusic",
)


def build_snips(skeleton):
    lines = []
    for folder, voices in (("train", ("Ivy", "Salli")), ("valid", ("Aditi",)), ("test", ("Russell",))):
        for number, line in enumerate(LINES):
            for voice in voices:
                skeleton.audio(f"{folder}/{voice}-snips-{folder}-{number}.wav")
                lines.append(line.format(f"{voice}-snips-{folder}-{number}"))
    skeleton.text("all.iob.snips.txt", *lines)
    return skeleton


snips = pytest.fixture(build_snips)


def test_words_and_slot_types_of_every_voice(snips):
    snips.audio("train/Brian-snips-train-0.wav")  # a voice of the test split
    _, splits = snips.prepare("audio_snips")
    assert {split: len(cuts) for split, cuts in splits.items()} == {"train": 4, "dev": 2, "test": 2}
    found = splits["train"][0].supervisions[0]
    assert (found.text, found.speaker) == ("ADD NINE INCH NAILS TO PARTY", "Ivy")
    assert found.custom["label"] == "O artist artist artist O playlist"
    labels, targets = snips.targets("sf", splits)
    assert labels.extra["slot_types"] == ["artist", "playlist"]
    text = "".join(labels.symbols[index] for index in targets["test"][0])
    assert text == "ADD B-artist NINE INCH NAILS E-artist TO B-playlist PARTY E-playlist<eos>"


def test_a_table_without_the_voice_in_its_names_serves_all_voices(snips):
    lines = [line.format(f"snips-{folder}-{number}") for folder in ("train", "valid", "test") for number, line in enumerate(LINES)]
    snips.text("all.iob.snips.txt", *lines)
    _, splits = snips.prepare("audio_snips")
    assert splits["dev"][1].supervisions[0].text == "PLAY IT"


def test_lines_and_recordings_that_do_not_fit_are_listed(snips):
    lines = (snips.path / "all.iob.snips.txt").read_text().splitlines()
    snips.text("all.iob.snips.txt", lines[0].replace(" B-playlist", ""), *lines[2:])
    with pytest.raises(CorpusError) as caught:
        snips.prepare("audio_snips")
    assert any("line 1: 'Ivy-snips-train-0 BOS" in problem for problem in caught.value.problems)
    assert any("train/Salli-snips-train-0.wav" in problem and "has no line" in problem for problem in caught.value.problems)
    (snips.path / "all.iob.snips.txt").unlink()
    with pytest.raises(CorpusError, match=r"all.iob.snips.txt: no such file.*s3prl"):
        snips.prepare("audio_snips")
