import numpy as np
import pytest
import torch
from evaluate.corpora import make_entry, search_splits, term
from evaluate.test_cells import without_times
from evaluate.tone_corpus import write_splits

from speechft.encoders import load_encoder
from speechft.errors import TaskError
from speechft.evaluate import evaluate
from speechft.evaluate.data import features
from speechft.evaluate.data.features import FrozenEncoder
from speechft.evaluate.protocols import qbe
from speechft.evaluate.protocols.qbe import NO_OCCURRENCE, SHORT_QUERY
from speechft.tasks import get_task
from speechft.tasks.base import LabelSet


@pytest.fixture
def corpus(corpus_of):
    return corpus_of("qbe")


def test_a_cell_has_every_hidden_state(cell_of, model_dir):
    cell = cell_of("qbe")
    states = list(range(load_encoder(model_dir).num_states))
    assert cell["protocol"] == "superb"
    assert [trial["layer"] for trial in cell["trials"]] == states
    values = [trial["dev"]["QbE"] for trial in cell["trials"]]
    (chosen,) = cell["selected"]
    assert (chosen["layer"], chosen["learning_rate"], chosen["seed"]) == (values.index(max(values)), None, None)
    assert [trial["selected"] for trial in cell["trials"]] == [layer == chosen["layer"] for layer in states]
    assert cell["metrics"]["QbE"] == chosen["test"]["QbE"] >= chosen["alternatives"]["z score above 2"]["QbE"]
    # A value, not percent; tones that glide are found by any features.
    assert 0.3 < cell["metrics"]["QbE"] <= 1.0


def test_scores_are_those_of_each_state_by_itself(model_dir, corpus, tmp_path):
    encoder = FrozenEncoder(load_encoder(model_dir), torch.device("cpu"), get_task("qbe").gain)
    task = get_task("qbe")
    (fold,) = qbe.load(task, corpus, encoder.encoder)
    frame_features = qbe.FrameFeatures(encoder, fold.clips)
    statistics = qbe._frame_statistics(frame_features, fold.searches)
    search = fold.searches["dev"]
    layer = 1
    found = qbe.Searching(task, frame_features, statistics, tmp_path).z_scores(fold.searches, "dev", [0, layer])[1]
    frames = {}
    for row in (*search.queries, *search.documents):
        hidden, lengths = encoder([fold.clips[row]])
        frames[row] = hidden[layer, 0, : lengths[0]]
    together = torch.cat(list(frames.values()))
    frames = {row: (value - together.mean(0)) / together.std(0) for row, value in frames.items()}
    raw = qbe.raw_scores([frames[row] for row in search.queries], [frames[row] for row in search.documents])
    expected = (raw - raw.mean(1, keepdim=True)) / raw.std(1, keepdim=True, correction=0)
    assert found == pytest.approx(expected.double().numpy(), abs=2e-3)
    assert [fold.clips[row].cut.id for row in search.documents] == [f"d{index}" for index in range(5)]
    assert search.relevant.tolist()[0] == [True, False, False, True, False]


@pytest.mark.parametrize("cache_gb", [4.0, 0.0])
def test_a_killed_search_goes_on(cache_gb, model_dir, corpus, tmp_path, monkeypatch):
    # Batches of one or two recordings, so that there are several blocks in each split.
    monkeypatch.setitem(features.BATCH_SECONDS, "cpu", 3)
    recipe = {"cache_gb": cache_gb}
    original, blocks = qbe.Searching._raw_scores, []

    def scored(searching, spoken, rows, name, layers):
        blocks.append((name, tuple(rows)))
        if len(blocks) == killed_at:
            raise KeyboardInterrupt
        return original(searching, spoken, rows, name, layers)

    monkeypatch.setattr(qbe.Searching, "_raw_scores", scored)
    killed_at = None
    expected = evaluate(model_dir, "qbe", corpus, tmp_path / "whole.json", recipe)
    all_blocks = list(blocks)
    assert len({rows for _, rows in all_blocks}) > 1
    # In the middle of dev, at the start of test, in the middle of test.
    for killed_at in (2, len(all_blocks) // 2 + 1, len(all_blocks)):
        blocks.clear()
        with pytest.raises(KeyboardInterrupt):
            evaluate(model_dir, "qbe", corpus, tmp_path / "cell.json", recipe)
        done, killed_at = killed_at - 1, None
        blocks.clear()
        cell = evaluate(model_dir, "qbe", corpus, tmp_path / "cell.json", recipe)
        assert blocks == all_blocks[done:]
        assert without_times(cell) == without_times(expected)


def test_kept_features_are_not_the_scores_of_another_distance(model_dir, corpus, tmp_path):
    evaluate(model_dir, "qbe", corpus, tmp_path / "a.json", work_dir=tmp_path / "work", keep_features=True)
    assert not list((tmp_path / "work").glob("*/scores-*"))
    searches = [(distance, rows) for distance in ("cosine", "cosine_exp") for rows in ([3, 4], [4, 3])]
    files = {qbe.Searching(get_task("qbe", distance=name), None, {}, tmp_path)._block("dev", [0], [1, 2], rows) for name, rows in searches}
    assert len(files) == 4


def test_dev_chooses_the_state_that_searches_test(model_dir, corpus, tmp_path, monkeypatch):
    asked = []
    original = qbe.Searching.z_scores

    def listening(searching, searches, name, layers):
        asked.append((name, list(layers)))
        return original(searching, searches, name, layers)

    states = load_encoder(model_dir).num_states
    of_dev = iter([0.2, 0.7, *[0.1] * (states - 2), 0.4])
    monkeypatch.setattr(qbe.Searching, "z_scores", listening)
    monkeypatch.setattr(qbe, "_values", lambda scores, search: {"QbE": next(of_dev), "at fixed threshold": -1.0})
    monkeypatch.setattr(qbe, "_query_items", lambda fold, scores: None)  # the value is made up
    cell = evaluate(model_dir, "qbe", corpus, tmp_path / "qbe.json")
    assert asked == [("dev", list(range(states))), ("test", [1])]
    assert cell["selected"] == [
        {**cell["selected"][0], "layer": 1, "test": {"QbE": 0.4}, "alternatives": {"z score above 2": {"QbE": -1.0}}}
    ]


def test_documents_in_both_splits_are_encoded_once(model_dir, tmp_path):
    splits = search_splits(tmp_path)
    splits["dev"] += [cut for cut in splits["test"] if "-" not in cut.id]
    cell = evaluate(model_dir, "qbe", write_splits(tmp_path, splits), tmp_path / "qbe.json")
    assert cell["counts"]["encoder_passes"] == 11
    assert cell["counts"]["dev"]["utterances"] == 8


def test_queries_without_occurrence_and_short_queries_are_counted(model_dir, tmp_path):
    splits, generator = search_splits(tmp_path), np.random.default_rng(1)
    splits["test"].append(make_entry(tmp_path, "absent", term("up", generator), "query"))
    splits["test"].append(make_entry(tmp_path, "short", term("up", generator)[:1200], "query", "d0"))
    cell = evaluate(model_dir, "qbe", write_splits(tmp_path, splits), tmp_path / "qbe.json")
    assert cell["counts"]["test"]["dropped"] == {SHORT_QUERY: 1, NO_OCCURRENCE: 1}
    assert cell["counts"]["dev"]["dropped"] == {}


def test_distances_can_be_chosen(cell_of):
    assert cell_of("qbe", task_options={"distance": "cosine"})["recipe"]["task_options"] == {"distance": "cosine"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cuts: cuts["dev"][0].supervisions[0].custom.update(label="other"), r"dev: dev-up: label 'other' must be 'query'"),
        (lambda cuts: cuts["dev"][0].supervisions[0].custom.update(relevant="d0 d9"), r"(?s)relevant documents that are not.*dev-up: d9"),
        (lambda cuts: [cut.supervisions[0].custom.pop("relevant") for cut in cuts["dev"]], "dev split: no query has a relevant"),
        (lambda cuts: cuts.update(test=cuts["test"][:3]), r"dev split has no document"),
        (lambda cuts: cuts.update(test=cuts["test"][3:]), r"test split has no query"),
        (
            lambda cuts: setattr(cuts["test"][4], "duration", 0.01),
            r"(?s)1 recording\(s\) are shorter than one frame.*test: d1: 160 samples",
        ),
    ],
)
def test_corpora_that_can_not_be_searched(change, message, model_dir, tmp_path):
    splits = search_splits(tmp_path)
    change(splits)
    with pytest.raises(TaskError, match=message):
        evaluate(model_dir, "qbe", write_splits(tmp_path, splits), tmp_path / "qbe.json")
    assert not (tmp_path / "qbe.json").exists()


@pytest.mark.parametrize("method", ["build_head", "target", "loss", "statistics", "scores"])
def test_there_is_no_head(method):
    assert get_task("qbe").label_set([]) == LabelSet(())
    with pytest.raises(TaskError, match="has no head"):
        getattr(get_task("qbe"), method)()
