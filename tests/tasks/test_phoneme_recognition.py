import json
import math

import pytest
import torch
from tasks.samples import cut, one_hot_paths

from speechft.errors import TaskError
from speechft.tasks import get_task
from speechft.tasks.ctc import token_errors
from speechft.tasks.lexicon import load_lexicon
from speechft.tasks.vocabularies import PHONEME_VOCABULARY


@pytest.fixture
def recorded(golden):
    return json.loads((golden / "metrics" / "pr.json").read_text())


@pytest.fixture
def lexicon_file(tmp_path):
    path = tmp_path / "lexicon.txt"
    path.write_text("ONE  W AH1 N\nTWO T UW1\nONE\tSIL\n", encoding="utf-8")
    return path


@pytest.fixture
def task(lexicon_file):
    return get_task("pr", lexicon=[str(lexicon_file)])


def test_vocabulary_and_targets_equal_the_reference(recorded, tmp_path):
    assert list(PHONEME_VOCABULARY) == recorded["vocabulary"]
    files = [tmp_path / f"lexicon{number}.txt" for number in (1, 2)]
    for number, file in enumerate(files, start=1):
        file.write_text("\n".join(recorded[f"lexicon_file_{number}"]) + "\n", encoding="utf-8")
    task = get_task("pr", lexicon=list(map(str, files)))
    labels = task.label_set([])
    for item in recorded["encode"]:
        assert task.target(cut(item["utt"], item["text"]), labels).tolist() == item["ids"]


def test_decoding_and_error_rate_equal_the_reference(recorded):
    task, items = get_task("pr"), recorded["greedy"]
    labels = task.label_set([])

    def counts(chosen):
        paths = one_hot_paths([item["frame_argmax_ids"] for item in chosen], len(labels))
        return task.statistics(*paths, [torch.tensor(item["label_ids"]) for item in chosen], labels)

    for item in items:
        assert " ".join(task.decode(item["frame_argmax_ids"], labels)) == item["hypothesis"]
        assert list(counts([item]).values()) == item["distance_and_ref_len"]
    assert task.scores(counts(items))["PR"] == pytest.approx(recorded["corpus_per"], abs=1e-9)


@pytest.mark.parametrize(
    ("hypothesis", "reference", "expected"),
    [
        ("A B C", "A B C", (0, 3)),
        ("A C", "A B C", (1, 3)),
        ("", "A B", (2, 2)),
        ("A", "", (1, 1)),
        ("", "", (0, 1)),
        ("AA1", "AA2", (1, 1)),
    ],
)
def test_token_errors(hypothesis, reference, expected):
    assert token_errors(hypothesis.split(), reference.split()) == expected


def test_unknown_words_of_all_splits_are_listed_once_with_their_utterances(task, lexicon_file):
    train = [cut("u1", "one foo"), cut("u2", "foo bar foo"), cut("u3", "two")]
    dev = [cut(f"v{number}", "foo") for number in range(3)]
    task.check({"train": train[2:], "dev": []})
    with pytest.raises(TaskError) as error:
        task.check({"train": train, "dev": dev, "test": [cut("w", "one baz")]})
    heading, *lines = str(error.value).splitlines()
    assert heading.startswith(f"pr: 3 word(s) are in none of the lexicons {lexicon_file} (train 2, dev 1, test 1). Name a file with ")
    assert "`speechft fetch superb_lexicon_200k`" in heading
    assert lines == ["  BAR: u2", "  BAZ: w", "  FOO: u1, u2, v0 and 2 more"]
    with pytest.raises(TaskError) as error:
        task.check({"train": [cut("u", " ".join(f"w{number:03d}" for number in range(500)))]})
    heading, *lines = str(error.value).splitlines()
    assert "500 word(s)" in heading
    assert (len(lines), lines[-1]) == (21, "  and 480 more words")


def test_all_utterances_without_a_target_are_listed(task, lexicon_file):
    with pytest.raises(TaskError) as error:
        task.targets([cut("u1", "one foo"), cut("u3", "two"), cut("u4", "  ")], task.label_set([]), "The dev split")
    heading, *lines = str(error.value).splitlines()
    assert "The dev split: 2 utterance(s) have no target" in heading
    assert lines[0] == f"  u1: not in the lexicons {lexicon_file}: FOO."
    assert lines[1].startswith("  u4: has an empty transcript")
    assert len(lines) == 2


def test_the_lexicon_of_librispeech_is_read_as_it_is_published(tmp_path):
    """Tabs, two spaces or one between word and phones; several lines for a word; an apostrophe at either end; blank lines."""
    path, others = tmp_path / "librispeech-lexicon.txt", tmp_path / "others.txt"
    path.write_bytes(b"A\tAH0\nA  EY1\nA''S EY1 Z\r\n'TIS\tT IH1 Z \n\nLOVERS'\tL AH1 V ER0 Z\n")
    others.write_text("A\tSPN\nLEND'ST\tL EH1 N S T\n", encoding="utf-8")
    assert load_lexicon([str(path), str(others)]) == {
        "A": ("AH0",),
        "A''S": ("EY1", "Z"),
        "'TIS": ("T", "IH1", "Z"),
        "LOVERS'": ("L", "AH1", "V", "ER0", "Z"),
        "LEND'ST": ("L", "EH1", "N", "S", "T"),
    }


def test_default_lexicon_is_cmudict():
    task = get_task("pr")
    target = task.target(cut(text="hello"), task.label_set([]))
    assert [PHONEME_VOCABULARY[index] for index in target.tolist()] == ["HH", "AH0", "L", "OW1", "<eos>"]
    assert {phone for phones in task.lexicon.values() for phone in phones} <= set(PHONEME_VOCABULARY)


def test_lexicon_files_are_checked(tmp_path):
    damaged, public = tmp_path / "damaged.txt", tmp_path / "librispeech-lexicon.txt"
    damaged.write_text("GOOD G UH1 D\nBAD B AE D\nEMPTY\n", encoding="utf-8")
    with pytest.raises(TaskError, match=r"(?s)damaged.txt: 2 lines.*line 2: BAD has unknown phones AE.*line 3: EMPTY has no phones"):
        load_lexicon([str(damaged)])
    with pytest.raises(TaskError, match=r"no such file, needed as a lexicon of PR\. Give files"):
        get_task("pr", lexicon=[str(tmp_path / "missing.txt")]).label_set([])
    with pytest.raises(TaskError, match=rf"no such file.*`speechft fetch librispeech_lexicon --out {public}` downloads it\."):
        load_lexicon([str(public)])


def test_labels_name_the_lexicon_by_content(task, lexicon_file):
    before = task.label_set([])
    lexicon_file.write_text("ONE W\n", encoding="utf-8")
    assert task.label_set([]) != before
    assert json.loads(json.dumps(before.to_json())) == before.to_json()


@pytest.mark.parametrize("name", ["pr", "sf"])
def test_ctc_counts_targets_that_frames_cannot_hold_as_zero(name):
    task = get_task(name)
    fits, repeated, empty = torch.tensor([5, 6, 1]), torch.tensor([5, 5, 1]), torch.zeros(0, dtype=torch.int64)
    # A blank has to part two equal symbols.
    held = [task.without_gradient(target, frames) is None for target, frames in ((fits, 3), (repeated, 4), (repeated, 3), (empty, 3))]
    assert held == [True, True, False, True]
    logits = torch.zeros(2, 3, 41, requires_grad=True)
    loss = task.loss(logits[:1], torch.tensor([3]), [repeated])
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()
    # Only the empty target counts: three blanks, over a length of at least 1, over the utterances.
    assert task.loss(logits, torch.tensor([3, 3]), [repeated, empty]).item() == pytest.approx(3 * math.log(41) / 2, abs=1e-5)
    assert task.loss(logits[:1], torch.tensor([3]), [empty]).item() == pytest.approx(3 * math.log(41), abs=1e-5)
