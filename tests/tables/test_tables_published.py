"""The file of published numbers: what is in it, and how mistakes in it are reported."""

from pathlib import Path

import pytest

from speechft.errors import TableError
from speechft.experiment.schema import load_experiment
from speechft.tables.metrics import task_metrics
from speechft.tables.published import load_published
from speechft.tables.scores import SUPERB_FULL_TASKS, SUPERB_S_TASKS

PUBLISHED = Path(__file__).parents[2] / "config/published.csv"
FULL = ("full_superb", "hubert_base")


def test_the_projects_file_has_the_quoted_numbers():
    published = load_published(PUBLISHED)
    assert set(published.tables) == {"full_superb", "encoders", "supervised", "baselines", "multitask", "unsupervised", "ablations"}
    assert len(published.row(*FULL, "none", "pretrained")) == 13
    for key, value in {
        (*FULL, "asr_tedlium3", "speech_ft", "SUPERB_FULL"): 874.51,
        (*FULL, "asr_tedlium3", "stable_ft", "QbE"): 0.0970,
        ("encoders", "wav2vec2_base", "asr_tedlium3", "stable_ft", "SF_CER"): 26.45,
        ("supervised", "hubert_base", "sid_voxceleb1", "stable_ft", "PR"): 29.08,
        ("supervised", "hubert_base", "er_iemocap", "speech_ft", "SUPERB_S"): 1010.29,
        ("baselines", "hubert_base", "sid_voxceleb1", "dora", "SUPERB_S"): 790.12,
        ("multitask", "hubert_base", "pr_then_sid", "speech_ft", "SUPERB_S"): 887.50,
        ("unsupervised", "hubert_base", "hubert_aishell3", "stable_ft", "ASR_ZH_CER"): 23.47,
    }.items():
        assert published.value(*key) == value


def test_there_is_a_place_for_every_number_of_the_papers_tables_and_no_other():
    experiment = load_experiment(PUBLISHED.parent / "paper.yaml")
    expected = set()
    for name, layout in experiment.tables.items():
        metrics = {metric.key for metric in task_metrics(layout.tasks)}
        scores = {"SUPERB_S": SUPERB_S_TASKS, "SUPERB_FULL": SUPERB_FULL_TASKS}
        metrics |= {key for key, tasks in scores.items() if metrics.issuperset(metric for of_task in tasks.values() for metric in of_task)}
        assert layout.published == name
        expected |= {(name, *model, metric) for model in experiment.table_models(name) for metric in metrics}
    published = load_published(PUBLISHED)
    assert {*published.values, *published.empty} == expected


def test_a_model_has_the_same_numbers_in_every_table():
    numbers = {}
    published = load_published(PUBLISHED)
    for key in (*published.values, *published.empty):
        assert numbers.setdefault(key[1:], published.values.get(key)) == published.values.get(key), key


def test_every_number_of_the_project_has_its_source():
    published = load_published(PUBLISHED)
    assert set(published.sources) == set(published.values)
    second = {key for key, source in published.sources.items() if source == "second_hand"}
    four = {key for key in published.values if key[0] in ("encoders", "full_superb")}
    assert not four & second
    # Whatever else is known of these models stands in the authors' tables too; all other models are quoted.
    seen = {key[1:] for key in four}
    assert {key for key in published.values if key[1:] not in seen} == second
    assert {key[4] for key in second} == {"PR", "SUPERB_S", "ASR_ZH_CER"}


def test_a_file_may_name_sources(write_published):
    header = "table,encoder,finetuning,method,metric,value,source"
    lines = ("t,e,f,m,PR,1,first_hand", "t,e,f,m,KS,2,second_hand", "t,e,f,m,SID,,")
    published = load_published(write_published(*lines, header=header))
    assert [published.source("t", "e", "f", "m", metric) for metric in ("PR", "KS", "SID", "ER")] == [
        "first_hand", "second_hand", None, None,
    ]  # fmt: skip
    assert published.source(None, "e", "f", "m", "PR") is None
    assert load_published(write_published("t,e,f,m,PR,1")).sources == {}
    path = write_published("t,e,f,m,PR,1,", "t,e,f,m,KS,2,third_hand", "t,e,f,m,SID,,first_hand", "t,e,f,m,ER,1", header=header)
    with pytest.raises(TableError, match="4 problems") as caught:
        load_published(path)
    for problem in (
        "line 2: the source of 1 is ''; write first_hand (read in the paper) or second_hand (quoted by somebody else)",
        "line 3: the source of 2 is 'third_hand'; write first_hand",
        "line 4: there is a source 'first_hand' of no value; leave it empty, or give the value",
        "line 5: 6 fields instead of 7",
    ):
        assert problem in str(caught.value)


def test_unknown_cells_are_absent():
    published = load_published(PUBLISHED)
    assert published.value("supervised", "hubert_base", "sid_voxceleb1", "stable_ft", "SID") is None
    assert published.value("encoders", "wavlm_base_plus", "none", "pretrained", "PR") is None
    assert published.value(None, "hubert_base", "none", "pretrained", "PR") is None


def test_comments_empty_lines_and_empty_values_are_allowed(write_published):
    path = write_published("# a comment", "", "t,e,f,m,PR,", "t, e ,f,m,KS,96.5")
    published = load_published(path)
    assert published.values == {("t", "e", "f", "m", "KS"): 96.5}
    assert published.empty == (("t", "e", "f", "m", "PR"),)


def test_a_table_without_any_number_yet_has_its_name(write_published):
    published = load_published(write_published("a,e,f,m,PR,", "b,e,f,m,PR,1"))
    assert published.tables == ("b", "a")
    with pytest.raises(TableError, match="line 3: a/e/f/m/PR is there twice"):
        load_published(write_published("a,e,f,m,PR,", "a,e,f,m,PR,1"))


def test_all_problems_are_listed_with_their_lines(write_published):
    path = write_published(
        "t,e,f,m,PR,1", "t,e,f,m,PR,2", "t,e,f,m,PER,1", "t,e,f,m,SID,high", "t,e,f,m,ER,nan", "t,,f,m,KS,1", "t,e,f,m,KS"
    )
    with pytest.raises(TableError) as caught:
        load_published(path)
    message = str(caught.value)
    assert f"{path}: 6 problems" in message
    for problem in (
        "line 3: t/e/f/m/PR is there twice",
        "line 4: 'PER' is not a metric",
        "line 5: 'high' is not a finite number",
        "line 6: 'nan' is not a finite number",
        "line 7: only the value may be empty",
        "line 8: 5 fields instead of 6",
    ):
        assert problem in message


@pytest.mark.parametrize("header", ["table,encoder,finetuning,method,metric", "", "model,metric,value"])
def test_a_wrong_header(write_published, header):
    with pytest.raises(TableError, match="first line must be table,encoder,finetuning,method,metric,value"):
        load_published(write_published(header=header))


def test_a_missing_or_unreadable_file(tmp_path):
    with pytest.raises(TableError, match="no such file"):
        load_published(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TableError, match="cannot be read"):
        load_published(tmp_path / "binary.csv")
    with pytest.raises(TableError, match="cannot be read"):
        load_published(tmp_path)
