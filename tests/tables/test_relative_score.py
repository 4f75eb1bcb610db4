"""A table's own score: the scale between its floor and its best rows, seeds, and what has no scale."""

import math

import pandas as pd
import pytest
from scipy import stats

from speechft.errors import TableError
from speechft.recipes.tables import ScoreRecipe, TableRecipe, TableRow
from speechft.tables.arrange import arrange
from speechft.tables.build import build_table
from speechft.tables.cells import existing_cells
from speechft.tables.metrics import METRICS
from speechft.tables.relative_score import relative_score

FBANK = TableRow(encoder="fbank", finetuning="none", method="pretrained", label="FBANK")
ROWS = (
    FBANK,
    TableRow(encoder="e", finetuning="none", method="pretrained", label="Pre-trained"),
    TableRow(encoder="e", finetuning="f", method="speech_ft", label="Speech-FT"),
)


def values(**metrics):
    """Columns of (metric, values of each row)."""
    return [(METRICS[key], rows) for key, rows in metrics.items()]


def means(score):
    return [row.mean for row in score.rows]


def test_the_floor_is_0_and_the_best_of_everything_1000():
    score = relative_score(values(PR=[[80.0], [30.0], [20.0]], SID=[[10.0], [50.0], [90.0]]), 0)
    assert means(score) == pytest.approx([0, 1000 * (50 / 60 + 40 / 80) / 2, 1000])
    assert [row.half_width for row in score.rows] == [None] * 3


def test_the_best_of_each_metric_may_be_another_row():
    score = relative_score(values(PR=[[80.0], [20.0], [30.0]], SID=[[10.0], [50.0], [90.0]]), 0)
    assert means(score) == pytest.approx([0, 750, 1000 * (50 / 60 + 1) / 2])


def test_rows_below_the_floor_are_negative():
    score = relative_score(values(KS=[[50.0], [100.0], [40.0]]), 0)
    assert means(score) == pytest.approx([0, 1000, -200])


def test_the_two_metrics_of_a_task_are_one_task():
    score = relative_score(values(SF_F1=[[0.0], [50.0], [100.0]], SF_CER=[[100.0], [100.0], [0.0]], KS=[[0.0], [100.0], [100.0]]), 0)
    assert means(score)[1] == pytest.approx(1000 * (0.25 + 1) / 2)


def test_seeds_of_a_task_vary_and_the_scale_does_not():
    score = relative_score(values(KS=[[10.0, 20.0, 30.0], [40.0, 60.0, 50.0], [60.0, 90.0, 60.0]], QbE=[[0.0], [0.2], [0.4]]), 0)
    assert score.rows[0].samples[0] == pytest.approx((-100, 0, 100))
    assert score.rows[1].samples[0] == pytest.approx((500 * 20 / 50, 500 * 40 / 50, 500 * 30 / 50))
    assert score.rows[1].samples[1] == pytest.approx((250.0,))
    assert means(score) == pytest.approx([0, 550, 1000])
    # Standard deviation 100 over 3 seeds; 4.302653 is the 0.975 quantile of Student's t with 2 degrees of freedom.
    assert score.rows[1].half_width == pytest.approx(4.302653 * 100 / math.sqrt(3))
    assert score.once == ("QbE MTWV ↑",)


def test_tasks_may_have_different_numbers_of_seeds():
    score = relative_score(values(KS=[[0.0], [40.0, 60.0], [100.0]], SID=[[0.0], [20.0, 30.0, 40.0], [100.0]]), 0)
    assert means(score) == pytest.approx([0, 400, 1000])
    # Variances of the means on the scale of the score: 500^2 * 0.02 / 2 and 500^2 * 0.01 / 3.
    first, second = 2500.0, 2500.0 / 3
    freedom = (first + second) ** 2 / (first**2 / 1 + second**2 / 2)
    assert score.rows[1].half_width == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(first + second))
    assert score.once == ()


def test_metrics_of_the_same_heads_vary_together():
    """A seed that is good in F1 and bad in CER leaves the score of SF where it was."""
    score = relative_score(values(SF_F1=[[0.0], [40.0, 60.0], [100.0]], SF_CER=[[100.0], [40.0, 60.0], [0.0]]), 0)
    assert score.rows[1].mean == pytest.approx(500)
    assert score.rows[1].half_width == pytest.approx(0, abs=1e-6)
    score = relative_score(values(SF_F1=[[0.0], [40.0, 60.0], [100.0]], SF_CER=[[100.0], [60.0, 40.0], [0.0]]), 0)
    assert score.rows[1].half_width == pytest.approx(12.706205 * 100, rel=1e-6)


def test_metrics_where_nothing_beats_the_floor_are_left_out_for_all():
    metrics = values(PR=[[20.0], [30.0], [40.0]], SID=[[10.0], [50.0], [90.0]], ER=[[50.001], [50.004], [10.0]])
    score = relative_score(metrics, 0)
    assert score.flat == ("PR PER % ↓", "ER acc % ↑")
    assert means(score) == pytest.approx([0, 500, 1000])
    assert relative_score(metrics[:1], 0) is None


def test_half_of_a_task_may_be_left_out():
    score = relative_score(values(SF_F1=[[90.0], [50.0], [60.0]], SF_CER=[[50.0], [25.0], [0.0]], KS=[[0.0], [100.0], [0.0]]), 0)
    assert means(score)[1] == pytest.approx(750)


def test_everything_is_pending_while_a_value_is_missing():
    assert relative_score(values(KS=[[0.0], [40.0], []], SID=[[0.0], [20.0], [100.0]]), 0).rows == (None, None, None)


def recipe(tasks=("pr", "sid"), rows=ROWS, scored=None, floor=FBANK):
    return TableRecipe(title="T", rows=rows, tasks=tasks, score=ScoreRecipe(label="mini score", floor=floor, tasks=scored or tasks))


@pytest.fixture
def cells(write_cell):
    numbers = {"pr": ("PR", [[80.0, 82.0], [30.0, 32.0], [20.0, 22.0]]), "sid": ("SID", [[10.0, 10.0], [50.0, 54.0], [90.0, 88.0]])}
    return [
        write_cell(row.encoder, row.finetuning, row.method, task, {key: rows[index]})
        for task, (key, rows) in numbers.items()
        for index, row in enumerate(ROWS)
    ]


def test_the_column_of_a_table(cells):
    table = arrange(recipe(), existing_cells(cells), None, "t")
    column = table.columns[-1]
    assert column.metric.title == "mini score ↑"
    means = [entry.mean for entry in column.entries]
    assert means == pytest.approx([0.0, 500 * (50 / 60 + 42 / 79), 1000.0])
    assert column.bold == {2}
    # PR varies by 1000 / 2 * 2 / 60 between its seeds and SID by 1000 / 2 * 4 / 79: two samples of two.
    first, second = (500 * 2 / 60 / 2) ** 2, (500 * 4 / 79 / 2) ** 2
    freedom = (first + second) ** 2 / (first**2 + second**2)
    assert column.entries[1].half_width == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(first + second))
    assert (column.entries[1].seeds, column.entries[1].std) == (2, None)
    notes = " ".join(table.notes)
    assert "mini score = 1000 times the mean over tasks (PR, SID) of" in notes
    assert "(s - s_floor) / (s_best - s_floor); s_floor is the mean of FBANK (fbank, none)" in notes
    assert "with s_floor and s_best held fixed." in notes
    assert "No SUPERB_S or SUPERB_FULL where the protocol is quick" in notes
    assert not any(column.metric.key.startswith("partial_score") for column in table.columns)


def test_all_formats_show_it(cells, tmp_path):
    build_table(recipe(), cells, None, tmp_path / "out", "t")
    assert "| **1000.0 ± " in (tmp_path / "out/t.md").read_text()
    assert r"\textbf{1000.0 $\pm$ " in (tmp_path / "out/t.tex").read_text()
    assert "<strong>1000.0 ± " in (tmp_path / "out/t.html").read_text()
    frame = pd.read_csv(tmp_path / "out/t.csv")
    scores = frame[frame["metric"] == "own_score"]
    assert scores["value"].tolist() == pytest.approx([0.0, 500 * (50 / 60 + 42 / 79), 1000.0])
    assert scores["seeds"].tolist() == [2, 2, 2]
    for suffix in ("md", "tex", "html"):
        assert "1000 times the mean over tasks" in (tmp_path / f"out/t.{suffix}").read_text()


def test_some_of_the_columns_count(cells):
    table = arrange(recipe(scored=("sid",)), existing_cells(cells), None, "t")
    assert [entry.mean for entry in table.columns[-1].entries] == pytest.approx([0.0, 1000 * 42 / 79, 1000.0])


def test_pending_and_undefined_scores(cells, write_cell):
    table = arrange(recipe(), existing_cells(cells[:-1]), None, "t")
    assert [(entry.mean, entry.defined) for entry in table.columns[-1].entries] == [(None, True)] * 3
    assert any("pending until every row has all its results" in note for note in table.notes)
    same = [write_cell(row.encoder, row.finetuning, row.method, "ks", {"KS": [50.0]}) for row in ROWS]
    table = arrange(recipe(("ks",)), existing_cells(same), None, "t")
    assert [entry.defined for entry in table.columns[-1].entries] == [False] * 3
    assert table.notes[-1] == "mini score: not defined, because in no metric of KS a row is better than FBANK (fbank, none), as printed."


def test_floors_and_tasks_that_the_table_lacks(cells):
    with pytest.raises(TableError, match="floor fbank/none/pretrained is no row of the table"):
        arrange(recipe(rows=ROWS[1:]), existing_cells(cells), None, "t")
    with pytest.raises(TableError, match="score needs the tasks er"):
        arrange(recipe(scored=("pr", "er")), existing_cells(cells), None, "t")
