"""Cells keep the outcome of every test item, from which their metrics follow."""

import json

import numpy as np
import pytest

from speechft.corpora import load_split
from speechft.errors import TableError
from speechft.evaluate.probes.bank import summed
from speechft.evaluate.probes.outcome import shares_of
from speechft.recipes.cell import read_cell
from speechft.tasks import get_task
from speechft.tasks.detection import equal_error_rate

UNITS = {"sd": "recording", "qbe": "query", "asv": "trial"}


@pytest.mark.parametrize("task", ["ks", "sid", "ic", "pr", "pc", "asr", "sf", "sd", "qbe", "asv"])
def test_metrics_follow_from_the_items(task, cell_of, corpus_of, tmp_path):
    path = tmp_path / "cell.json"
    path.write_text(json.dumps(cell_of(task)))
    cell = read_cell(path)
    items = cell.items
    assert items.unit == UNITS.get(task, "utterance")
    assert set(items.metrics) == set(cell.metrics)
    for metric in cell.described:
        for seed, value in enumerate(cell.values[metric.key]):
            if task == "asv":
                same, scores = np.array(items.same, dtype=int), np.array(items.scores[metric.key][seed])
                assert 100 * equal_error_rate(same, scores) == pytest.approx(value)
            else:
                rows = list(items.rows(metric.key, seed))
                fraction = sum(part for *_, part, _ in rows) / sum(total for *_, total in rows)
                assert metric.of_fraction(fraction) == pytest.approx(value, abs=1e-4)
    if task not in UNITS:
        test = list(load_split(corpus_of(task), "test"))
        assert list(items.ids) == [cut.id for cut in test]
        assert list(items.speakers) == [cut.supervisions[0].speaker for cut in test]


def test_right_and_wrong_are_1_and_0_and_errors_stand_over_words(cell_of):
    assert set(cell_of("ks")["items"]["parts"]["KS"][0].split()) <= {"0", "1"}
    assert set(cell_of("ks")["items"]["totals"]["KS"].split()) == {"1"}
    words = [float(number) for number in cell_of("asr")["items"]["totals"]["ASR"].split()]
    assert min(words) >= 1
    assert max(words) > 1


def test_items_of_folds(cell_of):
    items = cell_of("er", "folds")["items"]
    assert len(items["ids"]) == len(set(items["ids"])) == len(items["folds"]) == 31
    assert list(dict.fromkeys(items["folds"])) == ["Ses1", "Ses2", "Ses3"]


def test_metrics_that_are_no_quotient_have_pseudovalues_of_the_jackknife():
    task = get_task("regression", name="age", label="age", metric="pearson")
    generator = np.random.default_rng(0)
    x = generator.normal(size=40)
    y = x + generator.normal(size=40)
    counts = [
        {"utterances": 1.0, "x": a, "y": b, "xx": a * a, "yy": b * b, "xy": a * b, "errors": (a - b) ** 2}
        for a, b in zip(x, y, strict=True)
    ]
    found = np.array(shares_of(task, counts, summed(counts))["age_pearson"])
    assert found[:, 1].tolist() == [1.0] * 40
    assert found[:, 0].mean() == pytest.approx(np.corrcoef(x, y)[0, 1])
    without = [np.corrcoef(np.delete(x, place), np.delete(y, place))[0, 1] for place in range(40)]
    jackknife = 39 / 40 * np.sum((without - np.mean(without)) ** 2)
    assert found[:, 0].var(ddof=1) / 40 == pytest.approx(jackknife)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda items: items["parts"].update(KS=["1 1 1 1 1 0.3"]), "does not add up to"),
        (lambda items: items["parts"].update(KS=["1 1"]), "different lengths"),
        (lambda items: items["parts"].update(KS=items["parts"]["KS"] * 2), "does not have 1 seed"),
        (lambda items: items["totals"].update(KS="0 0 0 0 0 0"), "does not add up to"),
        (lambda items: items["totals"].update(KS="1 1 1 1 1 -1"), "below 0"),
        (lambda items: items.update(ids=[], speakers=None, totals={"KS": ""}, parts={"KS": [""]}), "is empty"),
        (lambda items: items["parts"].update(KS=["1 1 one 1 1 1"]), "items"),
        (lambda items: items.update(unit="trial"), "items"),
    ],
)
def test_items_that_do_not_fit_are_refused(change, said, cell_of, tmp_path):
    cell = cell_of("ks")
    change(cell["items"])
    (tmp_path / "cell.json").write_text(json.dumps(cell))
    with pytest.raises(TableError, match=said):
        read_cell(tmp_path / "cell.json")


def test_a_task_whose_score_one_item_alone_makes_possible_has_none():
    class Lonely(type(get_task("ks"))):
        def scores(self, statistics):
            return {"KS": 1 / (statistics["utterances"] - 5)}

    counts = [{"correct": 1.0, "utterances": 1.0}] * 6
    assert shares_of(Lonely(), counts, {"correct": 6.0, "utterances": 6.0}) == {}


def test_equal_items_of_many_classes_are_scored_once(monkeypatch):
    """Each pass over the classes is for all items that have the same counts; zeros of other classes are not kept for each."""
    task, asked = get_task("classification", name="x", label="x", metric="uar"), []
    classes, number = 500, 2000
    counts = [{f"{place % classes}.{kind}": 1.0 for kind in range(3)} for place in range(number)]
    total = {f"{place}.{kind}": number / classes for place in range(classes) for kind in range(3)}
    scores = type(task).scores
    monkeypatch.setattr(type(task), "scores", lambda self, statistics: asked.append(1) or scores(self, statistics))
    found = shares_of(task, counts, total)
    assert len(asked) == classes + 1
    assert found["x_uar"] == [(1.0, 1.0)] * number
