import json

import numpy as np
import pytest
import torch
from evaluate.tone_corpus import make_cut, write_splits

from speechft.encoders import load_encoder
from speechft.errors import ConfigError, TaskError
from speechft.evaluate import evaluate, plan_evaluation
from speechft.evaluate.data import features
from speechft.evaluate.data.features import FrozenEncoder
from speechft.evaluate.protocols import qbe
from speechft.evaluate.protocols.qbe import NO_OCCURRENCE, SHORT_QUERY
from speechft.recipes.cell import read_cell
from speechft.recipes.evaluation import evaluation_recipe
from speechft.tasks import get_task
from speechft.tasks.base import LabelSet

TERMS = {"up": (300.0, 1200.0), "down": (1200.0, 300.0), "flat": (700.0, 700.0)}
ORDER = {"up": ("d0", "d3"), "down": ("d1", "d3"), "flat": ("d2",)}


def term(name, generator):
    """A tone that glides from one pitch to another within 0.3 s."""
    first, last = TERMS[name]
    pitch = np.linspace(first, last, 4800)
    return 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / 16000) + 0.01 * generator.standard_normal(4800)


def noise(seconds, generator):
    return 0.02 * generator.standard_normal(round(16000 * seconds))


def document(names, generator):
    parts = [noise(0.2, generator)]
    for name in names:
        parts += [term(name, generator), noise(generator.uniform(0.1, 0.4), generator)]
    return np.concatenate(parts)


def make_entry(folder, name, waveform, label, relevant=None):
    cut = make_cut(folder / "wav", name, waveform, label=label)
    if relevant is not None:
        cut.supervisions[0].custom["relevant"] = relevant
    return cut


def make_splits(folder):
    """One collection of documents, in test; dev and test have queries."""
    generator = np.random.default_rng(0)
    held = {f"d{index}": [name for name, documents in ORDER.items() if f"d{index}" in documents] for index in range(5)}
    documents = [make_entry(folder, name, document(names, generator), "document") for name, names in held.items()]
    queries = {
        split: [make_entry(folder, f"{split}-{name}", term(name, generator), "query", " ".join(ORDER[name])) for name in TERMS]
        for split in ("dev", "test")
    }
    return {"dev": queries["dev"], "test": [*queries["test"], *documents]}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    return write_splits(folder, make_splits(folder))


def test_a_cell_of_query_by_example(model_dir, corpus, tmp_path):
    out = tmp_path / "qbe.json"
    cell = evaluate(model_dir, "qbe", corpus, out)
    assert json.loads(out.read_text()) == cell
    read_cell(out)
    assert cell["protocol"] == "superb"
    states = load_encoder(model_dir).num_states
    assert [trial["layer"] for trial in cell["trials"]] == list(range(states))
    values = [trial["dev"]["QbE"] for trial in cell["trials"]]
    (chosen,) = cell["selected"]
    assert chosen["layer"] == values.index(max(values))
    assert [trial["selected"] for trial in cell["trials"]] == [layer == chosen["layer"] for layer in range(states)]
    assert chosen["learning_rate"] is None
    assert chosen["seed"] is None
    assert cell["metrics"]["QbE"] == chosen["test"]["QbE"] >= chosen["alternatives"]["z score above 2"]["QbE"]
    # A value, not percent; tones that glide are found by any features.
    assert 0.3 < cell["metrics"]["QbE"] <= 1.0
    assert cell["counts"]["trainable_parameters"] == 0
    # Each recording goes through the encoder once for all hidden states and both sets of queries.
    assert cell["counts"]["encoder_passes"] == 3 + 3 + 5
    assert [cell["counts"][name]["utterances"] for name in ("train", "dev", "test")] == [0, 3, 8]
    assert set(cell["hashes"]["manifests"]) == {"dev", "test"}


def test_memory_changes_the_cost_only(model_dir, corpus, tmp_path):
    kept = evaluate(model_dir, "qbe", corpus, tmp_path / "a.json")
    recomputed = evaluate(model_dir, "qbe", corpus, tmp_path / "b.json", {"cache_gb": 0.0})
    assert recomputed["values"]["QbE"] == pytest.approx(kept["values"]["QbE"], abs=1e-6)
    assert [trial["dev"]["QbE"] for trial in recomputed["trials"]] == pytest.approx([t["dev"]["QbE"] for t in kept["trials"]], abs=1e-6)
    # Statistics, then dev, then test; documents three times, the queries of a split twice.
    assert recomputed["counts"]["encoder_passes"] == 3 * 5 + 2 * 3 + 2 * 3
    for cell in (kept, recomputed):
        plan = plan_evaluation(model_dir, "qbe", corpus, {"cache_gb": cell["recipe"]["cache_gb"]})
        assert (plan.encoder_passes, plan.head_steps) == (pytest.approx(cell["counts"]["encoder_passes"], rel=0.25), 0)


def test_scores_are_those_of_each_state_by_itself(model_dir, corpus, tmp_path):
    encoder = FrozenEncoder(load_encoder(model_dir), torch.device("cpu"), get_task("qbe").gain)
    task = get_task("qbe")
    (fold,) = qbe.load(task, corpus, encoder.encoder, evaluation_recipe("qbe"))
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
        assert {**cell, "seconds": None} == {**expected, "seconds": None}


def test_kept_features_are_not_the_scores_of_another_distance(model_dir, corpus, tmp_path):
    first = evaluate(model_dir, "qbe", corpus, tmp_path / "a.json", work_dir=tmp_path / "work", keep_features=True)
    assert not list((tmp_path / "work").glob("*/scores-*"))
    assert first["counts"]["encoder_passes"] == 11
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
    cell = evaluate(model_dir, "qbe", corpus, tmp_path / "qbe.json")
    assert asked == [("dev", list(range(states))), ("test", [1])]
    assert cell["selected"] == [
        {**cell["selected"][0], "layer": 1, "test": {"QbE": 0.4}, "alternatives": {"z score above 2": {"QbE": -1.0}}}
    ]


def test_gain_is_minus_three_decibels():
    assert get_task("qbe").gain == pytest.approx(10 ** (-3 / 20), abs=1e-5)


def test_documents_in_both_splits_are_encoded_once(model_dir, tmp_path):
    splits = make_splits(tmp_path)
    splits["dev"] += [cut for cut in splits["test"] if cut.id.startswith("d") and "-" not in cut.id]
    cell = evaluate(model_dir, "qbe", write_splits(tmp_path, splits), tmp_path / "qbe.json")
    assert cell["counts"]["encoder_passes"] == 11
    assert cell["counts"]["dev"]["utterances"] == 8


def test_queries_without_occurrence_and_short_queries_are_counted(model_dir, tmp_path):
    splits = make_splits(tmp_path)
    generator = np.random.default_rng(1)
    splits["test"].append(make_entry(tmp_path, "absent", term("up", generator), "query"))
    splits["test"].append(make_entry(tmp_path, "short", term("up", generator)[:1200], "query", "d0"))
    cell = evaluate(model_dir, "qbe", write_splits(tmp_path, splits), tmp_path / "qbe.json")
    assert cell["counts"]["test"]["dropped"] == {SHORT_QUERY: 1, NO_OCCURRENCE: 1}
    assert cell["counts"]["dev"]["dropped"] == {}


def test_distances_can_be_chosen(model_dir, corpus, tmp_path):
    cell = evaluate(model_dir, "qbe", corpus, tmp_path / "a.json", {"task_options": {"distance": "cosine"}})
    assert cell["recipe"]["task_options"] == {"distance": "cosine"}
    with pytest.raises(TaskError, match="distance='euclidean' is unknown"):
        get_task("qbe", distance="euclidean")
    with pytest.raises(ConfigError, match="trains nothing"):
        evaluate(model_dir, "qbe", corpus, tmp_path / "b.json", {"protocol": "quick", "steps": 3})
    with pytest.raises(ConfigError, match="trains a head"):
        evaluate(model_dir, "ks", corpus, tmp_path / "b.json", {"protocol": "quick", "learning_rates": []})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cuts: cuts["dev"][0].supervisions[0].custom.update(label="other"), r"dev: dev-up: has label 'other', must be 'query'"),
        (lambda cuts: cuts["dev"][0].supervisions[0].custom.update(relevant="d0 d9"), r"(?s)relevant documents that are not.*dev-up: d9"),
        (lambda cuts: [cut.supervisions[0].custom.pop("relevant") for cut in cuts["dev"]], "dev split: no query has a relevant"),
        (lambda cuts: cuts.update(test=cuts["test"][:3]), r"dev split: has no document"),
        (lambda cuts: cuts.update(test=cuts["test"][3:]), r"test split: has no query"),
        (
            lambda cuts: setattr(cuts["test"][4], "duration", 0.01),
            r"(?s)1 recording\(s\) are shorter than one frame.*test: d1: 160 samples",
        ),
    ],
)
def test_corpora_that_can_not_be_searched(change, message, model_dir, tmp_path):
    splits = make_splits(tmp_path)
    change(splits)
    with pytest.raises(TaskError, match=message):
        evaluate(model_dir, "qbe", write_splits(tmp_path, splits), tmp_path / "qbe.json")
    assert not (tmp_path / "qbe.json").exists()


def test_there_is_no_head():
    task = get_task("qbe")
    assert len(task.label_set([])) == 0
    for call in (
        lambda: task.build_head(8, LabelSet(())),
        lambda: task.target(None, LabelSet(())),
        lambda: task.loss(torch.zeros(1), torch.ones(1), []),
        lambda: task.statistics(torch.zeros(1), torch.ones(1), [], LabelSet(())),
        lambda: task.scores({}),
    ):
        with pytest.raises(TaskError, match="has no head"):
            call()
