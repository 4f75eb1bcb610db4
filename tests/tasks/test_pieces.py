"""Text units learned from transcripts."""

import json

import pytest
import torch
from lhotse import MonoCut, SupervisionSegment

from speechft.errors import TaskError
from speechft.tasks import get_task
from speechft.tasks.base import LabelSet
from speechft.tasks.pieces import Pieces, train_pieces


def cut(text, name="u"):
    return MonoCut(name, 0, 1.0, 0, [SupervisionSegment(name, name, 0, 1.0, text=text)])


TEXTS = ["the cat sat", "a cat ate the rat", "that hat", "", "tea at three", "the hat that the cat had"]


def path(target):
    """Frames that are decoded as the target."""
    return [index for symbol in target for index in (symbol, 0)]


@pytest.fixture(params=["characters", "unigram"])
def task(request):
    return get_task("asr", spelling=request.param, pieces=20)


def test_transcripts_are_written_and_read_back(task):
    labels = task.label_set(cut(text) for text in TEXTS)
    assert labels.symbols[:2] == ("<pad>", "<unk>")
    assert json.loads(json.dumps(labels.to_json())) == labels.to_json()
    again = LabelSet.from_json(labels.to_json())
    for text in TEXTS:
        if text:
            target = task.target(cut(text), again).tolist()
            assert 0 not in target
            assert Pieces(again.extra["model"]).text(labels.symbols[index] for index in target) == text.upper()
            counts = task.utterance_statistics(path(target), target, again)
            assert counts == {"word_edits": 0, "words": len(text.split()), "unit_edits": 0, "units": len(text)}


def test_characters_are_all_that_occur_and_pieces_are_as_many_as_asked_for():
    characters = Pieces(train_pieces(TEXTS, "characters", 1)).vocabulary
    assert set(characters) == {"<pad>", "<unk>", "▁", *"THECASRDI"} - {"I"}
    pieces = Pieces(train_pieces(TEXTS, "unigram", 18)).vocabulary
    assert len(pieces) <= 18
    assert any(len(piece) > 2 and piece[0] != "<" for piece in pieces)


def test_any_language():
    task = get_task("asr", spelling="characters", selection="cer")
    labels = task.label_set([cut("你好 世界"), cut("世界 你")])
    assert set(labels.symbols) == {"<pad>", "<unk>", "▁", *"你好世界"}
    target = task.target(cut("世界"), labels).tolist()
    assert task.utterance_statistics(path(target[:-1]), target, labels) == {"word_edits": 1, "words": 1, "unit_edits": 1, "units": 2}


def test_what_was_never_heard_of_is_an_error_even_if_the_head_says_unknown(task):
    labels = task.label_set(cut(text) for text in TEXTS)
    target = task.target(cut("the zoo"), labels).tolist()
    assert 1 in target
    counts = task.utterance_statistics(path(target), target, labels)
    assert (counts["word_edits"], counts["words"]) == (1, 2)
    assert counts["unit_edits"] > 0


def test_equal_transcripts_give_equal_models(task):
    first, second = (task.label_set(cut(text) for text in TEXTS) for _ in range(2))
    assert first == second


def test_the_head_has_an_output_for_each(task):
    labels = task.label_set(cut(text) for text in TEXTS)
    head = get_task("asr", projected=8, hidden=8, layers=1).build_head(4, labels)
    logits, _ = head(torch.zeros(1, 5, 4), torch.tensor([5]))
    assert logits.shape == (1, 5, len(labels))


def test_without_transcripts(task):
    with pytest.raises(TaskError, match="no training utterance has a transcript"):
        task.label_set([cut(""), cut(None)])
    with pytest.raises(TaskError, match="has an empty transcript"):
        task.target(cut(" "), task.label_set([cut("a b")]) if task.spelling_name == "characters" else task.label_set(map(cut, TEXTS)))


def test_mandarin_counts_characters_and_no_spaces():
    task = get_task("asr_zh")
    labels = task.label_set([cut("你好世界"), cut("世界 你A")])
    assert set(labels.symbols) == {"<pad>", "<unk>", "▁", *"你好世界A"}
    target = task.target(cut("世界你"), labels).tolist()
    missing = [symbol for symbol in target if labels.symbols[symbol] != "界"]
    spaced = [labels.symbols.index("▁"), *missing[:1], labels.symbols.index("▁"), *missing[1:]]
    assert task.utterance_statistics(path(spaced), target, labels) == {"character_edits": 1, "characters": 3}
    assert task.scores({"character_edits": 1, "characters": 4}) == {"ASR_ZH_CER": 0.25}
    # What train does not have is an error whatever the output is.
    unknown = task.target(cut("界龙"), labels).tolist()
    assert task.utterance_statistics(path(unknown), unknown, labels)["character_edits"] == 1
    assert task.selection_metric.key == "ASR_ZH_CER"
