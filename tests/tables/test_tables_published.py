"""The file of published numbers: what is in it, and how mistakes in it are reported."""

import pytest
from conftest import ROOT

from speechft.errors import TableError
from speechft.experiment.schema import load_experiment
from speechft.tables.metrics import task_metrics
from speechft.tables.published import load_published
from speechft.tables.scores import SUPERB_FULL_TASKS, SUPERB_S_TASKS

HEADER = "table,encoder,finetuning,method,metric,value,source"


@pytest.fixture(scope="module")
def published():
    return load_published(ROOT / "config/published.csv")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("full_superb hubert_base asr_tedlium3 speech_ft SUPERB_FULL", 874.51),
        ("full_superb hubert_base asr_tedlium3 stable_ft QbE", 0.0970),
        ("encoders wav2vec2_base asr_tedlium3 stable_ft SF_CER", 26.45),
        ("supervised hubert_base sid_voxceleb1 stable_ft PR", 29.08),
        ("supervised hubert_base er_iemocap speech_ft SUPERB_S", 1010.29),
        ("baselines hubert_base sid_voxceleb1 dora SUPERB_S", 790.12),
        ("multitask hubert_base pr_then_sid speech_ft SUPERB_S", 887.50),
        ("unsupervised hubert_base hubert_aishell3 stable_ft ASR_ZH_CER", 23.47),
        ("supervised hubert_base sid_voxceleb1 stable_ft SID", None),
        ("encoders wavlm_base_plus none pretrained PR", None),
    ],
)
def test_the_projects_file_has_the_quoted_numbers(published, place, value):
    assert published.value(*place.split()) == value


def test_there_is_a_place_for_every_number_of_the_papers_tables_and_no_other(published):
    experiment = load_experiment(ROOT / "config/paper.yaml")
    expected = set()
    for name, layout in experiment.tables.items():
        metrics = {metric.key for metric in task_metrics(layout.tasks)}
        scores = {"SUPERB_S": SUPERB_S_TASKS, "SUPERB_FULL": SUPERB_FULL_TASKS}
        metrics |= {key for key, tasks in scores.items() if metrics.issuperset(metric for of_task in tasks.values() for metric in of_task)}
        assert layout.published == name
        expected |= {(name, *model, metric) for model in experiment.table_models(name) for metric in metrics}
    assert {*published.values, *published.empty} == expected
    assert len(published.row("full_superb", "hubert_base", "none", "pretrained")) == 13


def test_a_model_has_the_same_numbers_in_every_table(published):
    numbers = {}
    for key in (*published.values, *published.empty):
        assert numbers.setdefault(key[1:], published.values.get(key)) == published.values.get(key), key


def test_every_number_of_the_project_has_its_source(published):
    assert set(published.sources) == set(published.values)
    second = {key for key, source in published.sources.items() if source == "second_hand"}
    four = {key for key in published.values if key[0] in ("encoders", "full_superb")}
    assert not four & second
    # Whatever else is known of these models stands in the authors' tables too; all other models are quoted.
    seen = {key[1:] for key in four}
    assert {key for key in published.values if key[1:] not in seen} == second
    assert {key[4] for key in second} == {"PR", "SUPERB_S", "ASR_ZH_CER"}


def test_a_file_may_name_sources(write_published):
    lines = ("t,e,f,m,PR,1,first_hand", "t,e,f,m,KS,2,second_hand", "t,e,f,m,SID,,")
    found = load_published(write_published(*lines, header=HEADER))
    sources = [found.source("t", "e", "f", "m", metric) for metric in ("PR", "KS", "SID", "ER")]
    assert sources == ["first_hand", "second_hand", None, None]
    assert found.source(None, "e", "f", "m", "PR") is found.value(None, "e", "f", "m", "PR") is None
    assert load_published(write_published("t,e,f,m,PR,1")).sources == {}


def test_comments_empty_lines_and_empty_values_are_allowed(write_published):
    found = load_published(write_published("# a comment", "", "t,e,f,m,PR,", "u, e ,f,m,KS,96.5"))
    assert found.values == {("u", "e", "f", "m", "KS"): 96.5}
    assert found.empty == (("t", "e", "f", "m", "PR"),)
    assert found.tables == ("u", "t")


@pytest.mark.parametrize(
    ("header", "lines", "problems"),
    [
        (
            HEADER.removesuffix(",source"),
            ["t,e,f,m,PR,", "t,e,f,m,PR,2", "t,e,f,m,PER,1", "t,e,f,m,SID,high", "t,e,f,m,ER,nan", "t,,f,m,KS,1", "t,e,f,m,KS"],
            [
                "line 3: t/e/f/m/PR is repeated",
                "line 4: 'PER' is not a metric",
                "line 5: 'high' is not a finite number",
                "line 6: 'nan' is not a finite number",
                "line 7: only the value and its source may be empty",
                "line 8: 5 fields instead of 6",
            ],
        ),
        (
            HEADER,
            ["t,e,f,m,PR,1,", "t,e,f,m,KS,2,third_hand", "t,e,f,m,SID,,first_hand", "t,e,f,m,ER,1"],
            [
                "line 2: source of 1 is ''; write first_hand (read in the paper) or second_hand (quoted elsewhere)",
                "line 3: source of 2 is 'third_hand'; write first_hand",
                "line 4: column source: 'first_hand' has no value; leave it empty, or give the value",
                "line 5: 6 fields instead of 7",
            ],
        ),
    ],
)
def test_all_problems_are_listed_with_their_lines(write_published, header, lines, problems):
    path = write_published(*lines, header=header)
    with pytest.raises(TableError) as caught:
        load_published(path)
    for said in (f"{path}: {len(problems)} problems", *problems):
        assert said in str(caught.value)


@pytest.mark.parametrize("header", ["table,encoder,finetuning,method,metric", "", "model,metric,value"])
def test_a_wrong_header(write_published, header):
    with pytest.raises(TableError, match="first line must be table,encoder,finetuning,method,metric,value"):
        load_published(write_published(header=header))


def test_a_missing_or_unreadable_file(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    for name, said in (("absent.csv", "no such file"), ("binary.csv", "cannot be read"), ("", "cannot be read")):
        with pytest.raises(TableError, match=said):
            load_published(tmp_path / name)
