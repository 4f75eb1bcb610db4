import pytest

from speechft.errors import CorpusError
from speechft.tasks.ks import SUPERB_CLASSES, speech_commands_split

TRAINING, TEST = "speech_commands_v0.01", "speech_commands_test_set_v0.01"


def find_speakers():
    """A speaker for each side of the division, found by the hash that the corpus is divided with."""
    found = {}
    for number in range(1000):
        found.setdefault(speech_commands_split(f"{number:08x}_nohash_0.wav"), f"{number:08x}")
    return found


speakers = pytest.fixture(find_speakers, scope="module")


def build_commands(skeleton, speakers):
    for word in (*SUPERB_CLASSES[:10], "bed"):
        for speaker in speakers.values():
            skeleton.audio(f"{TRAINING}/{word}/{speaker}_nohash_0.wav")
    skeleton.audio(f"{TRAINING}/_background_noise_/white_noise.wav", seconds=2)
    for label in SUPERB_CLASSES:
        skeleton.audio(f"{TEST}/{label}/0a5636ca_nohash_0.wav")
    return skeleton


commands = pytest.fixture(build_commands)


def test_words_are_divided_by_the_hash_and_noise_is_on_both_sides(commands, speakers):
    _, splits = commands.prepare("speech_commands")
    assert {split: len(cuts) for split, cuts in splits.items()} == {"train": 12, "dev": 12, "test": 12}
    assert {cut.supervisions[0].speaker for cut in splits["train"]} == {speakers["train"], None}
    _, found = commands.targets("ks", splits, classes="superb")
    assert [sorted(map(int, targets)) for targets in found.values()] == [list(range(12))] * 3
    unknown = next(cut for cut in splits["dev"] if cut.supervisions[0].custom["label"] == "_unknown_")
    assert (unknown.id, unknown.supervisions[0].text) == (f"bed_{speakers['dev']}_nohash_0", "bed")
    assert {cut.id for cut in splits["train"]}.isdisjoint(cut.id for cut in splits["dev"])


def test_a_class_that_is_missing_is_a_problem(commands):
    (commands.path / TEST / "go/0a5636ca_nohash_0.wav").unlink()
    (commands.path / TEST / "go").rmdir()
    commands.audio(f"{TEST}/maybe/1.wav")
    with pytest.raises(CorpusError) as caught:
        commands.prepare("speech_commands")
    assert "/go: no such folder" in caught.value.problems[0]
    assert "maybe/1.wav: its folder is none of the 12 classes" in caught.value.problems[1]


def test_the_test_set_is_needed(skeleton):
    skeleton.audio(f"{TRAINING}/bed/a_nohash_0.wav")
    with pytest.raises(CorpusError, match=rf"{TEST}: no such folder.*{TEST}.tar.gz"):
        skeleton.prepare("speech_commands")
