import json
from types import SimpleNamespace

import pytest
import torch

from speechft.errors import TaskError
from speechft.tasks import get_task
from speechft.tasks.lexicon import load_lexicon
from speechft.tasks.metrics import token_errors
from speechft.tasks.vocabularies import PHONEME_VOCABULARY


def cut(cut_id, text):
    return SimpleNamespace(id=cut_id, supervisions=[SimpleNamespace(text=text, speaker="s", custom=None)])


@pytest.fixture
def recorded(golden):
    return json.loads((golden / "metrics" / "pr.json").read_text())


@pytest.fixture
def lexicon_file(tmp_path):
    path = tmp_path / "lexicon.txt"
    path.write_text("ONE  W AH1 N\nTWO T UW1\nONE\tSIL\n", encoding="utf-8")
    return path


def one_hot_paths(paths):
    lengths = torch.tensor([len(path) for path in paths])
    logits = torch.zeros(len(paths), int(lengths.max()), len(PHONEME_VOCABULARY))
    for row, path in enumerate(paths):
        # Padded frames vote for a phone that must not be counted.
        logits[row, :, 9] = 1.0
        for frame, index in enumerate(path):
            logits[row, frame, index] = 2.0
    return logits, lengths


def test_vocabulary(recorded):
    assert list(PHONEME_VOCABULARY) == recorded["vocabulary"]


def test_targets(recorded, tmp_path):
    files = []
    for number in (1, 2):
        files.append(tmp_path / f"lexicon{number}.txt")
        files[-1].write_text("\n".join(recorded[f"lexicon_file_{number}"]) + "\n", encoding="utf-8")
    task = get_task("pr", lexicon=[str(path) for path in files])
    labels = task.label_set([])
    for item in recorded["encode"]:
        assert task.target(cut(item["utt"], item["text"]), labels).tolist() == item["ids"]


def test_decoding_and_error_rate(recorded):
    task = get_task("pr")
    labels = task.label_set([])
    totals = {"edits": 0.0, "tokens": 0.0}
    for item in recorded["greedy"]:
        assert " ".join(task.decode(item["frame_argmax_ids"], labels)) == item["hypothesis"]
        counts = task.statistics(*one_hot_paths([item["frame_argmax_ids"]]), [torch.tensor(item["label_ids"])], labels)
        assert [counts["edits"], counts["tokens"]] == item["distance_and_ref_len"]
        totals = {key: totals[key] + counts[key] for key in totals}
    assert task.scores(totals)["PR"] == pytest.approx(recorded["corpus_per"], abs=1e-9)


def test_counts_of_a_batch_are_the_sums_of_its_utterances(recorded):
    task = get_task("pr")
    labels = task.label_set([])
    items = recorded["greedy"]
    targets = [torch.tensor(item["label_ids"]) for item in items]
    counts = task.statistics(*one_hot_paths([item["frame_argmax_ids"] for item in items]), targets, labels)
    assert counts["edits"] / counts["tokens"] == pytest.approx(recorded["corpus_per"], abs=1e-9)


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


def test_unknown_words_of_all_splits_are_listed_once_with_their_utterances(lexicon_file):
    task = get_task("pr", lexicon=[str(lexicon_file)])
    train = [cut("u1", "one foo"), cut("u2", "foo bar foo"), cut("u3", "two")]
    dev = [cut(f"v{number}", "foo") for number in range(3)]
    task.check({"train": train[2:], "dev": []})
    with pytest.raises(TaskError) as error:
        task.check({"train": train, "dev": dev, "test": [cut("w", "one baz")]})
    heading, *lines = str(error.value).splitlines()
    assert heading.startswith(f"pr: 3 word(s) are in none of the lexicons {lexicon_file} (train 2, dev 1, test 1). Name a file with ")
    assert "`speechft fetch superb_lexicon_200k`" in heading
    assert lines == ["  BAR: u2", "  BAZ: w", "  FOO: u1, u2, v0 and 2 more"]


def test_many_unknown_words_are_counted(lexicon_file):
    task = get_task("pr", lexicon=[str(lexicon_file)])
    with pytest.raises(TaskError) as error:
        task.check({"train": [cut("u", " ".join(f"w{number:03d}" for number in range(500)))]})
    heading, *lines = str(error.value).splitlines()
    assert "500 word(s)" in heading
    assert (len(lines), lines[-1]) == (21, "  and 480 more words")


def test_all_utterances_without_a_target_are_listed(lexicon_file):
    task = get_task("pr", lexicon=[str(lexicon_file)])
    cuts = [cut("u1", "one foo"), cut("u3", "two"), cut("u4", "  ")]
    with pytest.raises(TaskError) as error:
        task.targets(cuts, task.label_set(cuts), "The dev split")
    message = str(error.value)
    assert "The dev split: 2 utterance(s) have no target" in message
    assert f"u1: not in the lexicons {lexicon_file}: FOO." in message
    assert "u4: has an empty transcript" in message
    assert "u3" not in message


def test_first_pronunciation_of_the_first_file_wins(lexicon_file, tmp_path):
    second = tmp_path / "second.txt"
    second.write_text("TWO SPN\nTHREE TH R IY1\n", encoding="utf-8")
    lexicon = load_lexicon([str(lexicon_file), str(second)])
    assert lexicon == {"ONE": ("W", "AH1", "N"), "TWO": ("T", "UW1"), "THREE": ("TH", "R", "IY1")}


def test_the_lexicon_of_librispeech_is_read_as_it_is_published(tmp_path):
    """Tabs, two spaces or one between word and phones; several lines for a word; an apostrophe at either end; blank lines."""
    path = tmp_path / "librispeech-lexicon.txt"
    path.write_bytes(b"A\tAH0\nA  EY1\nA''S EY1 Z\r\n'TIS\tT IH1 Z \n\nLOVERS'\tL AH1 V ER0 Z\n")
    others = tmp_path / "others.txt"
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
    target = task.target(cut("u", "hello"), task.label_set([]))
    assert [PHONEME_VOCABULARY[index] for index in target.tolist()] == ["HH", "AH0", "L", "OW1", "<eos>"]
    assert {phone for phones in task.lexicon.values() for phone in phones} <= set(PHONEME_VOCABULARY)


def test_lexicon_files_are_checked(tmp_path):
    damaged = tmp_path / "damaged.txt"
    damaged.write_text("GOOD G UH1 D\nBAD B AE D\nEMPTY\n", encoding="utf-8")
    with pytest.raises(TaskError, match=r"(?s)damaged.txt: 2 lines.*line 2: BAD has unknown phones AE.*line 3: EMPTY has no phones"):
        load_lexicon([str(damaged)])
    with pytest.raises(TaskError, match=r"no such file, needed as a lexicon of PR\. Give files"):
        get_task("pr", lexicon=[str(tmp_path / "missing.txt")]).label_set([])
    public = tmp_path / "librispeech-lexicon.txt"
    with pytest.raises(TaskError, match=rf"no such file.*`speechft fetch librispeech_lexicon --out {public}` downloads it\."):
        load_lexicon([str(public)])


def test_labels_name_the_lexicon_by_content(lexicon_file):
    task = get_task("pr", lexicon=[str(lexicon_file)])
    before = task.label_set([])
    lexicon_file.write_text("ONE W\n", encoding="utf-8")
    assert task.label_set([]) != before
    assert json.loads(json.dumps(before.to_json())) == before.to_json()


def test_targets_longer_than_their_frames_are_named():
    task = get_task("pr")
    assert task.without_gradient(torch.tensor([5, 6, 1]), 3) is None
    assert task.without_gradient(torch.tensor([5, 5, 1]), 4) is None
    # A blank has to part the two equal symbols.
    assert "longer" in task.without_gradient(torch.tensor([5, 5, 1]), 3)
    logits = torch.zeros(1, 3, 74, requires_grad=True)
    loss = task.loss(logits, torch.tensor([3]), [torch.tensor([5, 5, 1])])
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()
