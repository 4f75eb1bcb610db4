import json
from types import SimpleNamespace

import pytest
import torch

from speechft.errors import TaskError
from speechft.tasks import get_task
from speechft.tasks.metrics import edit_distance, token_errors
from speechft.tasks.sf import slot_symbols, slot_type_f1, slot_value_errors, slot_values


def cut(text, slots, cut_id="u"):
    custom = None if slots is None else {"label": slots}
    return SimpleNamespace(id=cut_id, supervisions=[SimpleNamespace(text=text, speaker="s", custom=custom)])


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


def test_vocabulary(recorded, task_and_labels):
    assert list(task_and_labels[1].symbols) == recorded["vocabulary"]


def test_targets(recorded, task_and_labels):
    task, labels = task_and_labels
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
            assert task.target(cut(" ".join(words), " ".join(slots)), labels).tolist() == item["ids"]


def test_decoding(recorded, task_and_labels):
    task, labels = task_and_labels
    for item in recorded["greedy"]:
        assert task.decode(item["frame_argmax_ids"], labels) == item["hypothesis"]
        assert task.text(item["label_ids"], labels) == item["groundtruth"]
        counts = task.utterance_statistics(item["frame_argmax_ids"], item["label_ids"], labels)
        f1, edits, characters = counts_of(item["hypothesis"], item["groundtruth"])
        assert counts == {"f1": f1, "utterances": 1.0, "value_edits": edits, "value_characters": characters}


def test_metrics_of_pairs(recorded):
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


def test_metrics_of_a_corpus(recorded):
    task, corpus = get_task("sf"), recorded["corpus"]
    totals = {"f1": 0.0, "utterances": 0, "value_edits": 0, "value_characters": 0}
    for index in corpus["indices"]:
        pair = recorded["pairs"][index]
        f1, edits, characters = counts_of(pair["hypothesis"], pair["reference"])
        for key, value in zip(totals, (f1, 1, edits, characters), strict=True):
            totals[key] += value
    scores = task.scores(totals)
    assert totals["utterances"] == corpus["n"]
    assert scores["SF_F1"] == pytest.approx(corpus["slot_type_f1"], abs=1e-9)
    assert scores["SF_CER"] == pytest.approx(corpus["slot_value_cer"], abs=1e-9)


def test_a_split_without_slot_values_has_no_score():
    task = get_task("sf")
    with pytest.raises(TaskError, match="no slot value"):
        task.scores({"f1": 1.0, "utterances": 1, "value_edits": 0, "value_characters": 0})
    labels = task.label_set([cut("A B", "x O")])
    assert len(task.targets([cut("A B", "O O"), cut("B", "x", "v")], labels, "dev")) == 2
    with pytest.raises(TaskError, match="dev: not one of its 1 utterances has a slot"):
        task.targets([cut("A B", "O O")], labels, "dev")


def test_text_is_read_in_upper_case():
    """The reference reads files in upper case; lower-case letters would be unknown."""
    task = get_task("sf")
    labels = task.label_set([cut("a b", "x O")])
    assert torch.equal(task.target(cut("a b", "x O"), labels), task.target(cut("A B", "x O"), labels))


def test_slot_types_come_from_train_by_frequency():
    cuts = [cut("A B C D", "city O artist artist"), cut("A B", "album city"), cut("C", "zoo")]
    labels = get_task("sf").label_set(cuts)
    # Two words each: alphabetical.
    assert labels.extra == {"slot_types": ["artist", "city", "album", "zoo"]}
    assert labels.symbols[31:33] == ("B-artist ", " E-artist")
    assert json.loads(json.dumps(labels.to_json())) == labels.to_json()
    thirty_nine = [cut(" ".join("A" * 39), " ".join(f"t{i}" for i in range(39)))]
    assert len(get_task("sf").label_set(thirty_nine)) == 109


def test_labels_that_do_not_fit():
    task = get_task("sf")
    with pytest.raises(TaskError, match=r"(?s)2 utterance\(s\).*a: has 2 word\(s\), but 1 slot.*b: has an empty transcript"):
        task.label_set([cut("A B", "x", "a"), cut("", "x", "b"), cut("A", "x", "c")])
    with pytest.raises(TaskError, match="has 1 word.s., but 0 slot"):
        task.label_set([cut("A", None)])
    with pytest.raises(TaskError, match="every word of the train split is labelled 'O'"):
        task.label_set([cut("A B", "O O")])
    with pytest.raises(TaskError, match="slot types 'a:b'"):
        task.label_set([cut("A B", "a:b O")])
    labels = task.label_set([cut("A", "x")])
    with pytest.raises(TaskError, match=r"dev.*\n  v: slot type\(s\) y, z are not among the 1"):
        task.targets([cut("A", "x"), cut("A B", "z y", "v")], labels, "dev")


@pytest.mark.parametrize(
    ("content", "shown"), [("artist\ncity\n", "artist"), ("O\nx\nx\n", "x"), ("O\n", "O"), ("O\na b\n", "a b"), ("", "")]
)
def test_damaged_lists_of_slot_types(content, shown, tmp_path):
    (tmp_path / "slots.txt").write_text(content, encoding="utf-8")
    with pytest.raises(TaskError, match=f"is not a list of slot types.*{shown}"):
        get_task("sf", slots=tmp_path / "slots.txt").label_set([])


def test_missing_list_of_slot_types(tmp_path):
    with pytest.raises(TaskError, match="no such file"):
        get_task("sf", slots=tmp_path / "none.txt").label_set([])
    (tmp_path / "latin1.txt").write_bytes(b"O\nb\xe9\n")
    with pytest.raises(TaskError, match="cannot be read"):
        get_task("sf", slots=tmp_path / "latin1.txt").label_set([])
