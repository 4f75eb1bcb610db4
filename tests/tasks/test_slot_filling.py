import json
from collections import Counter

import pytest
import torch
from tasks.samples import cut

from speechft.errors import TaskError
from speechft.tasks import get_task
from speechft.tasks.ctc import edit_distance, token_errors
from speechft.tasks.sf import slot_symbols, slot_type_f1, slot_value_errors, slot_values


def tagged(text, slots):
    return cut(text=text, label=slots)


@pytest.fixture
def recorded(golden):
    return json.loads((golden / "metrics" / "sf.json").read_text())


@pytest.fixture
def task_and_labels(recorded, tmp_path):
    (tmp_path / "slots.txt").write_text("\n".join(recorded["slots_txt"]) + "\n", encoding="utf-8")
    task = get_task("sf", slots=str(tmp_path / "slots.txt"))
    return task, task.label_set([])


def counts_of(hypothesis, reference):
    values, expected = slot_values(hypothesis, clean=True), slot_values(reference)
    return slot_type_f1(values, expected), *slot_value_errors(values, expected)


def test_vocabulary_and_targets_equal_the_reference(recorded, task_and_labels):
    task, labels = task_and_labels
    assert list(labels.symbols) == recorded["vocabulary"]
    unknown = labels.symbols.index("<unk>")
    for item in recorded["encode"]:
        text, _, slots = item["line"].partition("\t")
        words, slots = text.split(" ")[1:-1], slots.split(" ")[1:-1]
        symbols = slot_symbols(words, slots)
        ids = [labels.symbols.index(symbol) if symbol in labels.symbols else unknown for symbol in symbols]
        assert ids == item["ids"]
        assert task.text(ids, labels) == item["decoded"]
        assert (symbols[-1:] == ["<eos>"]) == item["last_is_eos"]
        # A cell of a table cannot hold an empty word, and its words are read in upper case.
        if "" not in words and text == text.upper():
            assert task.target(tagged(" ".join(words), " ".join(slots)), labels).tolist() == item["ids"]


def test_decoding_equals_the_reference(recorded, task_and_labels):
    task, labels = task_and_labels
    for item in recorded["greedy"]:
        assert task.decode(item["frame_argmax_ids"], labels) == item["hypothesis"]
        assert task.text(item["label_ids"], labels) == item["groundtruth"]
        counts = task.utterance_statistics(item["frame_argmax_ids"], item["label_ids"], labels)
        f1, edits, characters = counts_of(item["hypothesis"], item["groundtruth"])
        assert counts == {"f1": f1, "utterances": 1.0, "value_edits": edits, "value_characters": characters}


def test_metrics_of_pairs_equal_the_reference(recorded):
    assert len(recorded["pairs"]) > 50
    for pair in recorded["pairs"]:
        hypothesis, reference = pair["hypothesis"], pair["reference"]
        edits, words = token_errors(hypothesis.split(" "), reference.split(" "))
        assert edits / words == pytest.approx(pair["wer"], abs=1e-9)
        if pair["cer"] != "ZeroDivisionError":
            assert edit_distance(hypothesis, reference) / len(reference) == pytest.approx(pair["cer"], abs=1e-9)
        if pair["slot_type_f1"] == "ValueError":
            with pytest.raises(TaskError, match="cannot score ':' and ';'"):
                counts_of(hypothesis, reference)
            continue
        f1, edits, characters = counts_of(hypothesis, reference)
        assert f1 == pytest.approx(pair["slot_type_f1"], abs=1e-9)
        if pair["slot_value_cer"] == "ZeroDivisionError":
            assert characters == 0
        else:
            assert edits / characters == pytest.approx(pair["slot_value_cer"], abs=1e-9)


def test_metrics_of_a_corpus_equal_the_reference(recorded):
    corpus, totals = recorded["corpus"], Counter()
    for pair in (recorded["pairs"][index] for index in corpus["indices"]):
        f1, edits, characters = counts_of(pair["hypothesis"], pair["reference"])
        totals.update(f1=f1, utterances=1, value_edits=edits, value_characters=characters)
    scores = get_task("sf").scores(totals)
    assert totals["utterances"] == corpus["n"]
    assert [scores["SF_F1"], scores["SF_CER"]] == pytest.approx([corpus["slot_type_f1"], corpus["slot_value_cer"]], abs=1e-9)


def test_a_split_without_slot_values_has_no_score():
    task = get_task("sf")
    with pytest.raises(TaskError, match="no slot value"):
        task.scores({"f1": 1.0, "utterances": 1, "value_edits": 0, "value_characters": 0})
    labels = task.label_set([tagged("A B", "x O")])
    assert len(task.targets([tagged("A B", "O O"), tagged("B", "x")], labels, "dev")) == 2
    with pytest.raises(TaskError, match="dev: none of its 1 utterances has a slot"):
        task.targets([tagged("A B", "O O")], labels, "dev")


def test_text_is_read_in_upper_case():
    """The reference reads files in upper case; lower-case letters would be unknown."""
    task = get_task("sf")
    labels = task.label_set([tagged("a b", "x O")])
    assert torch.equal(task.target(tagged("a b", "x O"), labels), task.target(tagged("A B", "x O"), labels))


def test_slot_types_come_from_train_by_frequency():
    labels = get_task("sf").label_set([tagged("A B C D", "city O artist artist"), tagged("A B", "album city"), tagged("C", "zoo")])
    # Two words each: alphabetical.
    assert labels.extra == {"slot_types": ["artist", "city", "album", "zoo"]}
    assert labels.symbols[31:33] == ("B-artist ", " E-artist")
    assert json.loads(json.dumps(labels.to_json())) == labels.to_json()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *(
            (content, f"not a list of slot types.*{shown}")
            for content, shown in ((b"artist\ncity\n", "artist"), (b"O\nx\nx\n", "x"), (b"O\n", "O"), (b"O\na b\n", "a b"), (b"", ""))
        ),
        (b"O\nb\xe9\n", "cannot be read"),
        (None, "no such file"),
    ],
)
def test_damaged_lists_of_slot_types(content, message, tmp_path):
    if content is not None:
        (tmp_path / "slots.txt").write_bytes(content)
    with pytest.raises(TaskError, match=message):
        get_task("sf", slots=tmp_path / "slots.txt").label_set([])
