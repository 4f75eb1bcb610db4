"""Intervals over test items: what a table, a difference and a score make of cells that know their items."""

import json

import numpy as np
import pandas as pd
import pytest
from tables.conftest import cell_json

from speechft.recipes.cell import read_cell
from speechft.tables import compare, items
from speechft.tables.arrange import arrange
from speechft.tables.bootstrap import DRAWS, resample
from speechft.tables.cells import read_cells
from speechft.tables.differences import arrange_differences
from speechft.tables.estimate import Estimate
from speechft.tables.metrics import METRICS
from speechft.tasks.detection import equal_error_rate


def right_of(rate, number=200, seed=0):
    """1 and 0 for right and wrong."""
    return (np.random.default_rng(seed).random(number) < rate).astype(float)


@pytest.fixture
def write(tmp_path):
    """Write a cell of SID with outcomes of each seed; return its path."""

    def make(model, outcomes, *, task="sid", metric="SID", speakers=None, folds=None, totals=None, described=True):
        parts = [np.asarray(seed, dtype=float) for seed in outcomes]
        total = np.ones(len(parts[0])) if totals is None else np.asarray(totals, dtype=float)
        places = np.array(folds or ["-"] * len(total))
        values = [np.mean([100 * seed[places == fold].sum() / total[places == fold].sum() for fold in np.unique(places)]) for seed in parts]
        content = cell_json(model, task, {metric: [float(value) for value in values]})
        found = METRICS[metric]
        content["described"] = [{field: getattr(found, field) for field in found.__dataclass_fields__}] if described else []
        content["items"] = {
            "unit": "utterance", "ids": [f"u{place}" for place in range(len(total))], "speakers": speakers, "folds": folds,
            "totals": {metric: " ".join(map(str, total))}, "parts": {metric: [" ".join(map(str, seed)) for seed in parts]},
        }  # fmt: skip
        path = tmp_path / f"{model.replace('/', '-')}-{task}.json"
        path.write_text(json.dumps(content))
        read_cell(path)
        return path

    return make


def test_one_seed_has_the_interval_of_its_items(write, make_recipe):
    outcomes = right_of(0.8)
    table = arrange(make_recipe("sid"), read_cells([write("e/none/pretrained", [outcomes])]), None, "t")
    entry = table.columns[0].entries[0]
    binomial = 100 * np.sqrt(outcomes.mean() * (1 - outcomes.mean()) / len(outcomes))
    assert entry.half_width == pytest.approx(1.97 * binomial, rel=0.1)
    assert entry.drawn == "utterances"
    assert "±: half of the 95 % confidence interval of the mean, over the test's utterances (SID) (bootstrap)." in table.legend


def test_equal_seeds_are_no_proof(write, make_recipe):
    """10 of 12 right at three seeds is not 83.33 ± 0.00."""
    outcomes = [1.0] * 10 + [0.0] * 2
    table = arrange(make_recipe("sid"), read_cells([write("e/none/pretrained", [outcomes] * 3)]), None, "t")
    assert table.columns[0].entries[0].half_width > 15


def test_two_seeds_that_differ_a_little_do_not_hide_the_items(write, make_recipe):
    first, second = right_of(0.75), right_of(0.75)
    second[0] = 1 - second[0]
    table = arrange(make_recipe("sid"), read_cells([write("e/none/pretrained", [first, second])]), None, "t")
    assert table.columns[0].entries[0].half_width < 8


def test_items_are_paired(write, make_recipe):
    """The better model is right wherever the other one is, so the difference is sure though both intervals overlap."""
    worse = right_of(0.7)
    better = worse.copy()
    better[np.flatnonzero(worse == 0)[:10]] = 1
    cells = [write("e/none/pretrained", [worse]), write("e/f/stable_ft", [better])]
    table = arrange_differences(make_recipe("sid", differences=((1, 0),)), cells, "t")
    (entry,) = table.columns[0].entries
    paired = 100 * np.std(better - worse, ddof=1) / np.sqrt(len(worse))
    assert entry.half_width == pytest.approx(1.97 * paired, rel=0.1)
    assert table.columns[0].bold == {0}
    whole = arrange(make_recipe("sid"), read_cells(cells), None, "t")
    assert whole.columns[0].bold == {1}
    first, second, _ = whole.columns[0].entries
    assert first.half_width + second.half_width > 100 * (better - worse).mean()


def test_bold_is_only_what_beats_every_other_row(write, make_recipe):
    worse, better = right_of(0.5), right_of(0.95, seed=1)
    almost = better.copy()
    almost[np.flatnonzero(better)[0]] = 0
    cells = [write("e/none/pretrained", [worse]), write("e/f/stable_ft", [better])]
    assert arrange(make_recipe("sid"), read_cells(cells), None, "t").columns[0].bold == {1}
    cells.append(write("e/f/speech_ft", [almost]))
    assert arrange(make_recipe("sid"), read_cells(cells), None, "t").columns[0].bold == frozenset()


def test_other_test_sets_are_independent(write, make_recipe):
    first = write("e/none/pretrained", [right_of(0.7)])
    second = write("e/f/stable_ft", [right_of(0.7, 150, seed=1)])
    (entry,) = arrange_differences(make_recipe("sid", differences=((1, 0),)), [first, second], "t").columns[0].entries
    one, other, _ = arrange(make_recipe("sid"), read_cells([first, second]), None, "t").columns[0].entries
    assert entry.half_width == pytest.approx(np.hypot(one.half_width, other.half_width), rel=0.02)


def test_a_side_without_items_leaves_seeds_alone(write, cells_of, make_recipe):
    with_items = write("e/f/stable_ft", [right_of(0.7), right_of(0.7, seed=1)])
    several = cells_of("none/pretrained", SID=[60.0, 61.0])
    (entry,) = arrange_differences(make_recipe("sid", differences=((1, 0),)), [with_items, *several], "t").columns[0].entries
    seeds = Estimate((tuple(read_cell(with_items).values["SID"]), (-60.0, -61.0)))
    assert entry.half_width == pytest.approx(seeds.half_width)
    single = cells_of("none/pretrained", SID=[60.0])
    (entry,) = arrange_differences(make_recipe("sid", differences=((1, 0),)), [with_items, *single], "t").columns[0].entries
    assert entry.half_width is None


def test_speakers_are_drawn_whole(write):
    """Of 20 speakers half are always right and half always wrong: a speaker is what counts, not the utterance."""
    speakers = [f"s{place // 10}" for place in range(200)]
    outcomes = [float(int(speaker[1:]) % 2) for speaker in speakers]
    metric = METRICS["SID"]
    (alone,) = resample(read_cell(write("e/none/pretrained", [outcomes])), metric).values()
    (whole,) = resample(read_cell(write("e/none/pretrained", [outcomes], speakers=speakers)), metric).values()
    assert (whole.drawn, whole.units, alone.units) == ("speakers", 20, 200)
    assert whole.variance == pytest.approx(10 * alone.variance, rel=0.2)
    few = [f"s{place % 3}" for place in range(200)]
    (found,) = resample(read_cell(write("e/none/pretrained", [outcomes], speakers=few)), metric).values()
    assert found.drawn == "utterances"


def test_folds_count_alike(write):
    folds = ["a"] * 150 + ["b"] * 50
    outcomes = np.concatenate([np.ones(150), right_of(0.5, 50)])
    (found,) = resample(read_cell(write("e/none/pretrained", [outcomes], folds=folds)), METRICS["SID"]).values()
    assert found.values.mean() == pytest.approx(50 + 50 * outcomes[150:].mean(), abs=1)
    assert np.sqrt(found.variance) == pytest.approx(50 * np.sqrt(0.25 / 50), rel=0.15)


def test_error_rates_are_quotients_of_sums(write):
    generator = np.random.default_rng(4)
    words = generator.integers(1, 20, 300)
    errors = generator.binomial(words, 0.3)
    cell = read_cell(write("e/none/pretrained", [errors], task="asr", metric="ASR", totals=words))
    (found,) = resample(cell, METRICS["ASR"]).values()
    rate = errors.sum() / words.sum()
    delta = 100 * np.sqrt(np.sum((errors - rate * words) ** 2)) / words.sum()
    assert len(found.values) == DRAWS
    assert np.sqrt(found.variance) == pytest.approx(delta, rel=0.1)


def test_draws_of_items_without_anything_to_count(write):
    """Of 12 utterances one has slot values: a third of the draws have none, and the interval is a number all the same."""
    cell = read_cell(write("e/none/pretrained", [[3] + [0] * 11], task="sf", metric="SF_CER", totals=[9] + [0] * 11))
    (found,) = resample(cell, METRICS["SF_CER"]).values()
    assert found.values == pytest.approx(100 / 3)
    assert found.variance == pytest.approx(0)


def test_trials_of_verification(tmp_path):
    generator = np.random.default_rng(5)
    speaker = np.arange(60) // 4
    pairs = np.array([(a, b) for a in range(60) for b in range(a) if generator.random() < 0.2])
    same = (speaker[pairs[:, 0]] == speaker[pairs[:, 1]]).astype(int)
    scores = (same + generator.normal(size=len(same))).round(5)
    content = cell_json("e/none/pretrained", "asv", {"ASV": [100 * equal_error_rate(same, scores)]})
    content["described"] = [{field: getattr(METRICS["ASV"], field) for field in METRICS["ASV"].__dataclass_fields__}]
    content["items"] = {
        "unit": "trial", "recordings": [f"r{place}" for place in range(60)], "speakers": [f"s{name}" for name in speaker],
        "enrolments": " ".join(map(str, pairs[:, 0])), "tests": " ".join(map(str, pairs[:, 1])), "same": " ".join(map(str, same)),
        "scores": {"ASV": [" ".join(map(str, scores))]},
    }  # fmt: skip
    (tmp_path / "asv.json").write_text(json.dumps(content))
    (found,) = resample(read_cell(tmp_path / "asv.json"), METRICS["ASV"]).values()
    assert (found.drawn, found.units) == ("speakers", 15)
    assert found.values.mean() == pytest.approx(content["metrics"]["ASV"], abs=2)
    assert 0.5 < np.sqrt(found.variance) < 8
    content["items"]["tests"] = " ".join(map(str, [*pairs[:-1, 1], 60]))
    (tmp_path / "asv.json").write_text(json.dumps(content))
    with pytest.raises(Exception, match="not in `recordings`"):
        read_cell(tmp_path / "asv.json")


def test_a_score_over_tasks_covers_the_items_of_each(write, make_recipe):
    floor = {"encoder": "e", "finetuning": "none", "method": "pretrained", "label": "Pre-trained"}
    recipe = make_recipe("sid", "ks", score={"label": "score", "floor": floor, "tasks": ["sid", "ks"]})
    cells = []
    for place, model in enumerate(("e/none/pretrained", "e/f/stable_ft", "e/f/speech_ft")):
        for task, metric in (("sid", "SID"), ("ks", "KS")):
            cells.append(write(model, [right_of(0.5 + 0.2 * place, seed=place)] * 2, task=task, metric=metric))
    table = arrange(recipe, read_cells(cells), None, "t")
    sid, ks, score = table.columns
    best = score.entries[2]
    spans = [column.entries[2].mean - column.entries[0].mean for column in (sid, ks)]
    expected = np.hypot(*(500 * column.entries[2].half_width / span for column, span in zip((sid, ks), spans, strict=True)))
    # Both tasks have the same ids, which are one test set here: their draws add up.
    assert best.half_width >= expected
    assert best.mean == pytest.approx(1000)


def test_a_data_frame_of_items(write):
    path = write("e/none/pretrained", [right_of(0.8), right_of(0.7, seed=1)], speakers=[f"s{place % 4}" for place in range(200)])
    frame = items([path])
    assert len(frame) == 400
    assert frame.groupby("seed").part.mean().mul(100).tolist() == read_cell(path).values["SID"]
    assert set(frame.speaker) == {"s0", "s1", "s2", "s3"}
    assert isinstance(compare([path])["SID", "half_width"].iloc[0], float)
    assert pd.isna(frame.fold).all()
