"""A table's own score: the scale between its floor and its best rows, seeds, and what has no scale."""

import math

import pytest
from scipy import stats

from speechft.errors import TableError
from speechft.recipes.tables import ScoreRecipe, TableRecipe, TableRow
from speechft.tables.arrange import arrange
from speechft.tables.cells import existing_cells
from speechft.tables.estimate import Estimate
from speechft.tables.metrics import METRICS
from speechft.tables.relative_score import relative_score

MODELS = {"fbank/none/pretrained": "FBANK", "e/none/pretrained": "Pre-trained", "e/f/speech_ft": "Speech-FT"}
KEYS = ("encoder", "finetuning", "method")
ROWS = tuple(TableRow(**dict(zip(KEYS, model.split("/"), strict=True)), label=label) for model, label in MODELS.items())


def score_of(**metrics):
    """The score of columns with values of each row, one per seed; a number is one seed."""
    columns = []
    for key, rows in metrics.items():
        seeds = [tuple(row) if isinstance(row, list) else (row,) for row in rows]
        columns.append((METRICS[key], [Estimate((row,)) if row else None for row in seeds]))
    return relative_score(columns, 0)


@pytest.mark.parametrize(
    ("metrics", "means"),
    [
        # The floor is 0, the best of everything 1000, and what is worse than the floor is negative.
        ({"PR": [80, 30, 20], "SID": [10, 50, 90]}, [0, 1000 * (50 / 60 + 40 / 80) / 2, 1000]),
        ({"KS": [50, 100, 40]}, [0, 1000, -200]),
        # The best of each metric may be another row.
        ({"PR": [80, 20, 30], "SID": [10, 50, 90]}, [0, 750, 1000 * (50 / 60 + 1) / 2]),
        # Two metrics of a task are one task, also where one of them is left out.
        ({"SF_F1": [0, 50, 100], "SF_CER": [100, 100, 0], "KS": [0, 100, 100]}, [0, 1000 * (0.25 + 1) / 2, 1000]),
        ({"SF_F1": [90, 50, 60], "SF_CER": [50, 25, 0], "KS": [0, 100, 0]}, [0, 750, 500]),
    ],
)
def test_the_scale(metrics, means):
    score = score_of(**metrics)
    assert [row.mean for row in score.rows] == pytest.approx(means)
    assert [row.half_width for row in score.rows] == [None] * 3


def test_seeds_of_a_task_vary_and_the_scale_does_not():
    score = score_of(KS=[[10, 20, 30], [40, 60, 50], [60, 90, 60]], QbE=[0, 0.2, 0.4])
    assert score.rows[0].samples[0] == pytest.approx((-100, 0, 100))
    assert score.rows[1].samples == (pytest.approx((500 * 20 / 50, 500 * 40 / 50, 500 * 30 / 50)), pytest.approx((250,)))
    assert [row.mean for row in score.rows] == pytest.approx([0, 550, 1000])
    # Standard deviation 100 over 3 seeds; 4.302653 is the 0.975 quantile of Student's t with 2 degrees of freedom.
    assert score.rows[1].half_width == pytest.approx(4.302653 * 100 / math.sqrt(3))
    assert score.once == ("QbE MTWV ↑",)


def test_tasks_may_have_different_numbers_of_seeds():
    score = score_of(KS=[0, [40, 60], 100], SID=[0, [20, 30, 40], 100])
    assert [row.mean for row in score.rows] == pytest.approx([0, 400, 1000])
    # Variances of the means on the scale of the score: 500^2 * 0.02 / 2 and 500^2 * 0.01 / 3.
    first, second = 2500.0, 2500.0 / 3
    freedom = (first + second) ** 2 / (first**2 / 1 + second**2 / 2)
    assert score.rows[1].half_width == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(first + second))
    assert score.once == ()


def test_metrics_of_the_same_heads_vary_together():
    """A seed that is good in F1 and bad in CER leaves the score of SF where it was."""
    score = score_of(SF_F1=[0, [40, 60], 100], SF_CER=[100, [40, 60], 0])
    assert score.rows[1].mean == pytest.approx(500)
    assert score.rows[1].half_width == pytest.approx(0, abs=1e-6)
    score = score_of(SF_F1=[0, [40, 60], 100], SF_CER=[100, [60, 40], 0])
    assert score.rows[1].half_width == pytest.approx(12.706205 * 100, rel=1e-6)


def test_metrics_where_nothing_beats_the_floor_are_left_out_for_all():
    score = score_of(PR=[20, 30, 40], SID=[10, 50, 90], ER=[50.001, 50.004, 10])
    assert score.flat == ("PR PER % ↓", "ER acc % ↑")
    assert [row.mean for row in score.rows] == pytest.approx([0, 500, 1000])
    assert score_of(PR=[20, 30, 40]) is None


def test_everything_is_pending_while_a_value_is_missing():
    assert score_of(KS=[0, 40, []], SID=[0, 20, 100]).rows == (None, None, None)


def recipe(*tasks, rows=ROWS, scored=None):
    return TableRecipe(title="T", rows=rows, tasks=tasks, score=ScoreRecipe(label="mini score", floor=ROWS[0], tasks=scored or tasks))


@pytest.fixture
def cells(cells_of):
    numbers = ({"PR": [80, 82], "SID": [10, 10]}, {"PR": [30, 32], "SID": [50, 54]}, {"PR": [20, 22], "SID": [90, 88]})
    return [path for model, values in zip(MODELS, numbers, strict=True) for path in cells_of(model, **values)]


def test_the_column_of_a_table(cells):
    table = arrange(recipe("pr", "sid"), existing_cells(cells), None, "t")
    column = table.columns[-1]
    assert column.metric.title == "mini score ↑"
    assert [entry.mean for entry in column.entries] == pytest.approx([0.0, 500 * (50 / 60 + 42 / 79), 1000.0])
    assert column.bold == {2}
    assert (column.entries[1].seeds, column.entries[1].std) == (2, None)
    notes = " ".join(table.notes)
    for expected in (
        "mini score = 1000 times the mean over tasks (PR, SID) of",
        "(s - s_floor) / (s_best - s_floor); s_floor is the mean of FBANK (fbank, none)",
        "with s_floor and s_best held fixed.",
        "No SUPERB_S or SUPERB_FULL where the protocol is quick",
    ):
        assert expected in notes
    assert not any(column.metric.key.startswith("partial_score") for column in table.columns)
    some = arrange(recipe("pr", "sid", scored=("sid",)), existing_cells(cells), None, "t")
    assert [entry.mean for entry in some.columns[-1].entries] == pytest.approx([0.0, 1000 * 42 / 79, 1000.0])


def test_pending_and_undefined_scores(cells, cells_of):
    table = arrange(recipe("pr", "sid"), existing_cells(cells[:-1]), None, "t")
    assert [(entry.mean, entry.defined) for entry in table.columns[-1].entries] == [(None, True)] * 3
    assert any("pending until every row has all its results" in note for note in table.notes)
    same = [path for model in MODELS for path in cells_of(model, KS=50)]
    table = arrange(recipe("ks"), existing_cells(same), None, "t")
    assert [entry.defined for entry in table.columns[-1].entries] == [False] * 3
    assert table.notes[-1] == "mini score: not defined, because in no metric of KS a row is better than FBANK (fbank, none), as printed."


def test_floors_and_tasks_that_the_table_lacks(cells):
    with pytest.raises(TableError, match="floor fbank/none/pretrained is not a row of the table"):
        arrange(recipe("pr", rows=ROWS[1:]), existing_cells(cells), None, "t")
    with pytest.raises(TableError, match="tasks that the table does not show: er"):
        arrange(recipe("pr", "sid", scored=("pr", "er")), existing_cells(cells), None, "t")
