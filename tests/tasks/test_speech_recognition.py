"""ASR over letters, characters and pieces of words, and Mandarin ASR."""

import json
from collections import Counter

import pytest
import torch
from tasks.samples import cut, one_hot_paths

from speechft.tasks import get_task
from speechft.tasks.pieces import Pieces, train_pieces
from speechft.tasks.spelling import SUPERB_SPELLING, TEDLIUM_SPELLING, normalize_tedlium

TEXTS = ["the cat sat", "a cat ate the rat", "that hat", "", "tea at three", "the hat that the cat had"]


def cuts(*texts):
    return [cut(text=text) for text in texts]


def path(target):
    """Frames that are decoded as the target."""
    return [index for symbol in target for index in (symbol, 0)]


@pytest.fixture
def recorded(golden):
    return json.loads((golden / "metrics" / "asr.json").read_text())


@pytest.fixture
def tedlium(golden):
    return json.loads((golden / "speechft" / "ted_text.json").read_text())


@pytest.fixture(params=["characters", "unigram"])
def learned(request):
    task = get_task("asr", spelling=request.param, pieces=20)
    return task, task.label_set(cuts(*TEXTS))


def test_dictionary_and_targets_equal_the_reference(recorded):
    task = get_task("asr")
    labels = task.label_set([])
    assert list(labels.symbols) == recorded["dictionary"]
    special = [SUPERB_SPELLING.vocabulary.index(symbol) for symbol in ("<s>", "<pad>", "</s>", "<unk>")]
    assert special == [recorded["blank"], recorded["pad"], recorded["eos"], recorded["unk"]]
    for item in recorded["encode"]:
        name, _, text = item["transcript_line"].partition(" ")
        assert name == item["utt"]
        assert task.target(cut(text=text), labels).tolist() == item["ids"]


def test_decoding_and_error_rates_equal_the_reference(recorded):
    task, totals = get_task("asr"), Counter()
    labels = task.label_set([])

    def check(counts, words, units):
        scores = task.scores(counts)
        assert [100 * scores["ASR"], 100 * scores["ASR_CER"]] == pytest.approx([words, units], abs=1e-9)

    for item in recorded["greedy"]:
        symbols = task.spelling.symbols(item["frame_argmax_ids"])
        assert (" ".join(symbols), task.spelling.words(symbols)) == (item["pred_tokens"], item["pred_words"])
        counts = task.utterance_statistics(item["frame_argmax_ids"], item["label_ids"], labels)
        check(counts, item["wer_percent"], item["uer_percent"])
        totals.update(counts)
    check(totals, recorded["corpus_wer_percent"], recorded["corpus_uer_percent"])
    batch = one_hot_paths([item["frame_argmax_ids"] for item in recorded["greedy"]], len(labels))
    assert task.statistics(*batch, [torch.tensor(item["label_ids"]) for item in recorded["greedy"]], labels) == totals


def test_normalization_of_tedlium_equals_the_reference(tedlium):
    labels = get_task("asr", spelling="tedlium").label_set([])
    assert {symbol: index for index, symbol in enumerate(labels.symbols)} == tedlium["vocabulary"]
    for item in tedlium["normalisation"]:
        assert normalize_tedlium(item["text"]) == item["normalized"]
        assert TEDLIUM_SPELLING.encode(item["text"]) == item["ids"]


def test_released_error_rates_of_tedlium_are_named_the_wrong_way_round(tedlium):
    """What the released code calls `wer` counts characters, its `uer` counts words."""
    task, totals = get_task("asr", spelling="tedlium"), Counter()
    targets = {item["normalized"]: item["ids"] for item in tedlium["normalisation"]}

    def check(counts, characters, words):
        scores = task.scores(counts)
        assert [100 * scores["ASR_CER"], 100 * scores["ASR"]] == pytest.approx([characters, words], abs=1e-9)

    for item in tedlium["greedy"]:
        assert task.spelling.text(task.spelling.symbols(item["frame_argmax_ids"])) == item["hypothesis"]
        target = targets.get(item["reference"]) or task.spelling.encode(item["reference"])
        counts = task.utterance_statistics(item["frame_argmax_ids"], target, task.label_set([]))
        check(counts, item["wer"], item["uer"])
        totals.update(counts)
    check(totals, tedlium["corpus_wer"], tedlium["corpus_uer"])


def test_letters_that_the_vocabulary_lacks_become_unknown():
    """The reference would grow its dictionary past the outputs of its head."""
    task = get_task("asr")
    symbols = [task.spelling.vocabulary[index] for index in task.target(cut(text="Ça 1"), task.label_set([])).tolist()]
    assert symbols == ["<unk>", "A", "|", "<unk>", "|", "</s>"]
    # The separator of words is no letter: it separates.
    assert torch.equal(task.target(cut(text="a|b"), task.label_set([])), task.target(cut(text="a b"), task.label_set([])))


@pytest.mark.parametrize(
    ("task", "options", "key"), [("asr", {}, "ASR"), ("asr", {"selection": "cer"}, "ASR_CER"), ("asr_zh", {}, "ASR_ZH_CER")]
)
def test_what_selects_on_dev(task, options, key):
    assert get_task(task, **options).selection_metric.key == key


def test_learned_units_write_transcripts_and_read_them_back(learned):
    task, labels = learned
    assert labels.symbols[:2] == ("<pad>", "<unk>")
    assert task.label_set(cuts(*TEXTS)) == labels, "equal transcripts give equal models"
    assert json.loads(json.dumps(labels.to_json())) == labels.to_json()
    for text in filter(None, TEXTS):
        target = task.target(cut(text=text), labels).tolist()
        assert 0 not in target
        assert Pieces(labels.extra["model"]).text(labels.symbols[index] for index in target) == text.upper()
        counts = task.utterance_statistics(path(target), target, labels)
        assert counts == {"word_edits": 0, "words": len(text.split()), "unit_edits": 0, "units": len(text)}


def test_learned_units_are_outputs_of_the_head(learned):
    _, labels = learned
    logits, _ = get_task("asr", projected=8, hidden=8, layers=1).build_head(4, labels)(torch.zeros(1, 5, 4), torch.tensor([5]))
    assert logits.shape == (1, 5, len(labels))


def test_what_was_never_heard_of_is_an_error_even_if_the_head_says_unknown(learned):
    task, labels = learned
    target = task.target(cut(text="the zoo"), labels).tolist()
    assert 1 in target
    counts = task.utterance_statistics(path(target), target, labels)
    assert (counts["word_edits"], counts["words"]) == (1, 2)
    assert counts["unit_edits"] > 0


def test_characters_are_all_that_occur_and_pieces_are_as_many_as_asked_for():
    characters = Pieces(train_pieces(TEXTS, "characters", 1)).vocabulary
    assert set(characters) == {"<pad>", "<unk>", "▁", *"THECASRD"}
    pieces = Pieces(train_pieces(TEXTS, "unigram", 18)).vocabulary
    assert len(pieces) <= 18
    assert any(len(piece) > 2 and piece[0] != "<" for piece in pieces)


def test_any_language():
    task = get_task("asr", spelling="characters", selection="cer")
    labels = task.label_set(cuts("你好 世界", "世界 你"))
    assert set(labels.symbols) == {"<pad>", "<unk>", "▁", *"你好世界"}
    target = task.target(cut(text="世界"), labels).tolist()
    assert task.utterance_statistics(path(target[:-1]), target, labels) == {"word_edits": 1, "words": 1, "unit_edits": 1, "units": 2}


def test_mandarin_counts_characters_and_no_spaces():
    task = get_task("asr_zh")
    labels = task.label_set(cuts("你好世界", "世界 你A"))
    assert set(labels.symbols) == {"<pad>", "<unk>", "▁", *"你好世界A"}
    target = task.target(cut(text="世界你"), labels).tolist()
    missing = [symbol for symbol in target if labels.symbols[symbol] != "界"]
    spaced = [labels.symbols.index("▁"), *missing[:1], labels.symbols.index("▁"), *missing[1:]]
    assert task.utterance_statistics(path(spaced), target, labels) == {"character_edits": 1, "characters": 3}
    assert task.scores({"character_edits": 1, "characters": 4}) == {"ASR_ZH_CER": 0.25}
    # What train does not have is an error whatever the output is.
    unknown = task.target(cut(text="界龙"), labels).tolist()
    assert task.utterance_statistics(path(unknown), unknown, labels)["character_edits"] == 1
