import json
from types import SimpleNamespace

import pytest
import torch

from speechft.errors import TaskError
from speechft.tasks import get_task
from speechft.tasks.spelling import SUPERB_SPELLING, TEDLIUM_SPELLING, normalize_tedlium


def cut(text, cut_id="u"):
    return SimpleNamespace(id=cut_id, supervisions=[SimpleNamespace(text=text, speaker="s", custom=None)])


def one_hot_paths(paths, symbols=32):
    lengths = torch.tensor([len(path) for path in paths])
    logits = torch.zeros(len(paths), int(lengths.max()), symbols)
    for row, path in enumerate(paths):
        # Padded frames vote for a letter that must not be counted.
        logits[row, :, 9] = 1.0
        for frame, index in enumerate(path):
            logits[row, frame, index] = 2.0
    return logits, lengths


@pytest.fixture
def recorded(golden):
    return json.loads((golden / "metrics" / "asr.json").read_text())


@pytest.fixture
def tedlium(golden):
    return json.loads((golden / "speechft" / "ted_text.json").read_text())


def test_dictionary(recorded):
    assert list(get_task("asr").label_set([]).symbols) == recorded["dictionary"]
    special = [SUPERB_SPELLING.vocabulary.index(symbol) for symbol in ("<s>", "<pad>", "</s>", "<unk>")]
    assert special == [recorded["blank"], recorded["pad"], recorded["eos"], recorded["unk"]]


def test_targets(recorded):
    task = get_task("asr")
    labels = task.label_set([])
    for item in recorded["encode"]:
        name, _, text = item["transcript_line"].partition(" ")
        assert name == item["utt"]
        assert task.target(cut(text), labels).tolist() == item["ids"]


def test_decoding_and_error_rates(recorded):
    task = get_task("asr")
    labels = task.label_set([])
    totals = {}
    for item in recorded["greedy"]:
        symbols = task.spelling.symbols(item["frame_argmax_ids"])
        assert " ".join(symbols) == item["pred_tokens"]
        assert task.spelling.words(symbols) == item["pred_words"]
        counts = task.utterance_statistics(item["frame_argmax_ids"], item["label_ids"], labels)
        scores = task.scores(counts)
        assert 100 * scores["ASR"] == pytest.approx(item["wer_percent"], abs=1e-9)
        assert 100 * scores["ASR_CER"] == pytest.approx(item["uer_percent"], abs=1e-9)
        totals = {key: totals.get(key, 0) + value for key, value in counts.items()}
    scores = task.scores(totals)
    assert 100 * scores["ASR"] == pytest.approx(recorded["corpus_wer_percent"], abs=1e-9)
    assert 100 * scores["ASR_CER"] == pytest.approx(recorded["corpus_uer_percent"], abs=1e-9)
    batch = one_hot_paths([item["frame_argmax_ids"] for item in recorded["greedy"]])
    assert task.statistics(*batch, [torch.tensor(item["label_ids"]) for item in recorded["greedy"]], labels) == totals


def test_repeated_letters_of_a_target_are_not_merged():
    task = get_task("asr")
    labels = task.label_set([])
    target = task.target(cut("see"), labels)
    path = [index for pair in zip(target.tolist(), [0] * len(target), strict=True) for index in pair]
    assert task.utterance_statistics(path, target.tolist(), labels) == {"word_edits": 0, "words": 1, "unit_edits": 0, "units": 4}


def test_letters_that_the_vocabulary_lacks_become_unknown():
    """The reference would grow its dictionary past the outputs of its head."""
    task = get_task("asr")
    spelled = [task.spelling.vocabulary[index] for index in task.target(cut("Ça 1"), task.label_set([])).tolist()]
    assert spelled == ["<unk>", "A", "|", "<unk>", "|", "</s>"]
    # The separator of words is no letter: it separates.
    assert torch.equal(task.target(cut("a|b"), task.label_set([])), task.target(cut("a b"), task.label_set([])))


@pytest.mark.parametrize("spelling", ["superb", "tedlium"])
@pytest.mark.parametrize("text", [None, "", "  "])
def test_empty_transcripts(spelling, text):
    task = get_task("asr", spelling=spelling)
    with pytest.raises(TaskError, match="u: has an empty transcript"):
        task.target(cut(text), task.label_set([]))


def test_transcripts_of_which_nothing_is_left():
    task = get_task("asr", spelling="tedlium")
    with pytest.raises(TaskError, match=r"(?s)train: 1 utterance.*v: nothing of its transcript '!!! 12' can be spelled"):
        task.targets([cut("a"), cut("!!! 12", "v")], task.label_set([]), "train")


def test_options():
    with pytest.raises(TaskError, match="spelling='letters'"):
        get_task("asr", spelling="letters")
    with pytest.raises(TaskError, match="selection='per'"):
        get_task("asr", selection="per")
    assert get_task("asr").selection_metric.key == "ASR"
    assert get_task("asr", selection="cer").selection_metric.key == "ASR_CER"
    head = get_task("asr", projected=256, hidden=256, layers=3).build_head(8, get_task("asr").label_set([]))
    assert [rnn.hidden_size for rnn in head.rnns] == [256] * 3


def test_normalization_of_tedlium(tedlium):
    task = get_task("asr", spelling="tedlium")
    labels = task.label_set([])
    assert {symbol: index for index, symbol in enumerate(labels.symbols)} == tedlium["vocabulary"]
    for item in tedlium["normalisation"]:
        assert normalize_tedlium(item["text"]) == item["normalized"]
        assert TEDLIUM_SPELLING.encode(item["text"]) == item["ids"]


def test_released_error_rates_of_tedlium_are_named_the_wrong_way_round(tedlium):
    """What the released code calls `wer` counts characters, its `uer` counts words."""
    task = get_task("asr", spelling="tedlium")
    labels = task.label_set([])
    totals = {}
    targets = {item["normalized"]: item["ids"] for item in tedlium["normalisation"]}
    for item in tedlium["greedy"]:
        assert task.spelling.text(task.spelling.symbols(item["frame_argmax_ids"])) == item["hypothesis"]
        counts = task.utterance_statistics(
            item["frame_argmax_ids"], targets.get(item["reference"]) or task.spelling.encode(item["reference"]), labels
        )
        scores = task.scores(counts)
        assert 100 * scores["ASR_CER"] == pytest.approx(item["wer"], abs=1e-9)
        assert 100 * scores["ASR"] == pytest.approx(item["uer"], abs=1e-9)
        totals = {key: totals.get(key, 0) + value for key, value in counts.items()}
    scores = task.scores(totals)
    assert 100 * scores["ASR_CER"] == pytest.approx(tedlium["corpus_wer"], abs=1e-9)
    assert 100 * scores["ASR"] == pytest.approx(tedlium["corpus_uer"], abs=1e-9)
