"""Lexicons in an experiment: PR takes those of its corpus, and jobs have them as inputs."""

import json

import pytest
from conftest import ROOT
from experiment.edits import demo_values

from speechft.experiment.schema import load_experiment, parse_experiment
from speechft.experiment.workflow import Workflow


@pytest.fixture
def flow():
    """PR on LibriSpeech with a lexicon, alone, in a union, jointly with another task and as that other task."""
    demo = demo_values()
    demo["corpora"]["read"] = {"kind": "librispeech", "path": "LibriSpeech", "lexicon": ["a.txt", "cmudict"]}
    demo["corpora"]["both"] = {"kind": "union", "of": ["sentences", "read"]}
    demo["tasks"]["pr"]["corpus"] = "read"
    demo["tasks"]["asr"] = {"corpus": "read"}
    demo["finetunings"] |= {
        "united": {"corpus": "both", "recipe": {"like": "pr"}},
        "own": {"corpus": "read", "recipe": {"like": "pr", "task_options": {"lexicon": ["b.txt"]}}},
        "joint": {
            "corpus": "speakers",
            "recipe": {"like": "sid", "jointly": {"words": {"task": "asr"}, "phones": {"task": "pr"}}},
            "jointly": {"phones": "read", "words": "sentences"},
        },
    }
    return Workflow(parse_experiment(demo, "my.yaml"))


def test_pr_takes_the_lexicons_of_its_corpus_unless_it_names_others(flow):
    assert json.loads(flow.recipe("evaluate/pr"))["task_options"] == {"lexicon": ["a.txt", "cmudict"]}
    assert json.loads(flow.recipe("evaluate/asr"))["task_options"] == {}
    assert json.loads(flow.recipe("finetune/united/stable_ft"))["task_options"] == {"lexicon": ["a.txt", "cmudict"]}
    assert json.loads(flow.recipe("finetune/own/stable_ft"))["task_options"] == {"lexicon": ["b.txt"]}
    assert json.loads(flow.recipe("finetune/pr_sentences/stable_ft"))["task_options"] == {}
    joint = json.loads(flow.recipe("finetune/joint/stable_ft"))
    assert (joint["task_options"], joint["jointly"]["words"]["task_options"]) == ({}, {})
    assert joint["jointly"]["phones"]["task_options"] == {"lexicon": ["a.txt", "cmudict"]}


def test_lexicons_are_inputs_of_the_jobs_that_read_them(flow):
    assert (flow.corpus_tables("read"), flow.evaluation_lexicons("pr"), flow.evaluation_lexicons("asr")) == (["a.txt"], ["a.txt"], [])
    names = ("united", "own", "joint", "pr_sentences")
    assert [flow.finetuning_lexicons(name, "stable_ft") for name in names] == [["a.txt"], ["b.txt"], ["a.txt"], []]
    assert flow.lexicons() == ["a.txt", "b.txt"]


def test_the_paper_names_the_lexicons_of_superb_once():
    flow = Workflow(load_experiment(ROOT / "config/paper.yaml"))
    superb = ["lexicons/librispeech-lexicon-200k-g2p.txt", "lexicons/librispeech-lexicon-allothers-g2p.txt"]
    assert (ROOT / "config/paper.yaml").read_text().count(superb[0]) == 1
    assert flow.lexicons() == flow.corpus_tables("librispeech") == superb
    assert flow.evaluation_lexicons("pr") == superb
    for name in ("pr_librispeech", "pr_sid_joint"):
        assert flow.finetuning_lexicons(name, "stable_ft") == superb
    assert set(superb) <= set(flow.public_files)
