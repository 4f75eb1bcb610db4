"""What an experiment asks of its corpora in vain is named by `speechft prepare --check` and by `speechft doctor`, before any job runs."""

import pytest
import yaml
from corpora.readers.skeletons import VOXCELEB, Skeleton, published
from typer.testing import CliRunner

from speechft.cli import app
from speechft.corpora.prepare import read_corpus
from speechft.doctor import experiment
from speechft.doctor.findings import PROBLEM
from speechft.recipes.presets import stage1_recipes

LEXICON = ["TURN T ER1 N", "THE DH AH0", "LIGHT L AY1 T", "ON AA1 N"]


class Experiment:
    """An experiment in a folder of its own, asked by both commands."""

    def __init__(self, path):
        self.path = path
        self.values = {"name": "x", "results": str(path / "out"), "corpora": {}, "encoders": {}, "tasks": {}, "tables": {}}

    def published(self, kind, **options):
        corpus = published(self.path / kind, kind)
        self.values["corpora"][kind] = {"kind": kind, "path": str(corpus.path), "complete": False, **options}
        return corpus

    def table(self, name, header, *rows, **options):
        corpus = Skeleton(self.path / name, "csv")
        for row in rows:
            corpus.audio(row.split(",")[0])
        path = corpus.text("corpus.csv", header, *rows)
        self.values["corpora"][name] = {"kind": "csv", "path": str(path), **options}
        return corpus

    def ask(self, **entries):
        """Lines of `prepare --check` below its table, which are also findings of `doctor`."""
        self.values |= entries
        file = self.path / "x.yaml"
        file.write_text(yaml.safe_dump(self.values, sort_keys=False))
        done = CliRunner().invoke(app, ["prepare", "--check", "--experiment", str(file)])
        lines = [line for line in done.output.splitlines() if line.strip() and line[0] != " " and "remark: " not in line]
        _, _, found = experiment.check_experiment(file, named=True, corpora=True)
        findings = [finding for finding in found if finding.status == PROBLEM]
        assert bool(findings) == (done.exit_code == 1) == bool(lines), done.output
        for line in lines:
            key, _, said = line.partition(": ")
            if key.startswith(("tasks.", "finetunings.", "analyses.", "encoders.", "curves.", "methods.")):
                (finding,) = (finding for finding in findings if finding.name == key and finding.found == said)
                assert finding.remedy
        return lines


@pytest.fixture
def mine(tmp_path):
    return Experiment(tmp_path)


def test_folds_of_a_corpus(mine):
    corpus = mine.published("iemocap")
    given = {utterance.fold for utterance in read_corpus(corpus.recipe()).utterances}
    # IEMOCAP is the only corpus with folds.
    assert {name: recipe["fold"] for name, recipe in stage1_recipes().items() if "fold" in recipe} == {"er_iemocap": "1"}
    assert given == {"1", "2", "3", "4", "5"}
    finetuning = {"corpus": "iemocap", "recipe": {"like": "er_iemocap"}}
    assert mine.ask(finetunings={"er_iemocap": finetuning}, tasks={"er": {"corpus": "iemocap"}}) == []
    # A method may ask for another one.
    methods = {"stable_ft": {"kind": "finetune", "label": "S"}, "other": {"kind": "finetune", "label": "O", "changes": {"fold": "6"}}}
    (line,) = mine.ask(methods=methods)
    assert "has no fold '6'" in line
    finetuning["recipe"]["fold"] = "Session1"
    del mine.values["methods"]
    assert mine.ask(finetunings={"er_iemocap": finetuning}) == [
        "finetunings.er_iemocap: corpus iemocap: fold: the corpus has no fold 'Session1'. Folds: 1, 2, 3, 4, 5."
    ]


def test_the_split_of_a_connection(mine):
    mine.table("speakers", "path,split,speaker", "a.wav,train,x", "b.wav,train,y", "c.wav,dev,x")
    asked = {
        "encoders": {"h": {"kind": "pretrain", "corpora": ["speakers"]}},
        "finetunings": {"sid": {"corpus": "speakers", "recipe": {"task": "sid", "updates": 9}}},
    }
    line = {"kind": "connection", "encoder": "h", "finetuning": "sid"}
    assert not [found for found in mine.ask(**asked, curves={"line": line}) if found.startswith("curves.")]
    assert mine.ask(curves={"line": {**line, "split": "test"}}) == [
        "curves.line: corpus speakers: The corpus has no split test. Splits there: train, dev."
    ]


def test_alpha_cannot_be_chosen_by_asv_without_trials_of_dev(mine):
    files = [f"{name}.wav,{split},{name[0]}" for split in ("train", "dev", "test") for name in (f"x{split}", f"y{split}", f"xx{split}")]
    corpus = mine.table("speech", "path,split,speaker", *files, trials=str(mine.path / "speech/trials.csv"))
    trials = {split: (f"1,x{split},xx{split}", f"0,x{split},y{split}") for split in ("dev", "test")}
    corpus.text("trials.csv", "label,enrolment,test", *trials["test"])
    choose = {"tasks": ["asv"]}
    asked = {
        "encoders": {"h": {"kind": "pretrain", "corpora": ["speech"]}},
        "tasks": {"asv": {"corpus": "speech"}},
        "methods": {
            "stable_ft": {"kind": "finetune", "label": "S"},
            "m": {"kind": "merge", "label": "M", "recipe": {"alpha": "dev"}, "choose": choose},
        },
    }
    assert mine.ask(**asked) == [
        "methods.m.choose.tasks: corpus speech: asv has no dev trials, so its heads are selected on test. "
        "Choose alpha by other tasks, or add dev trials."
    ]
    corpus.text("trials.csv", "label,enrolment,test", *trials["dev"], *trials["test"])
    assert mine.ask() == []
    del mine.values["corpora"]["speech"]["trials"]
    (line,) = mine.ask()
    assert "has no list of trials" in line


def test_words_without_pronunciation_are_named_for_the_cell_and_for_stage_1(mine):
    mine.published("librispeech")
    lexicon = {"lexicon": [str(mine.path / "lexicon.txt")]}
    (mine.path / "lexicon.txt").write_text("\n".join(LEXICON))
    mine.table("speakers", "path,split,speaker", "a.wav,train,x", "b.wav,train,y", "c.wav,dev,x")
    joint = {"task": "sid", "updates": 9, "jointly": {"pr": {"task": "pr", "task_options": lexicon}}}
    asked = {
        "tasks": {"pr": {"corpus": "librispeech", "recipe": {"task_options": lexicon}}},
        "finetunings": {
            "alone": {"corpus": "librispeech", "recipe": {"like": "pr", "task_options": lexicon}},
            "joint": {"corpus": "speakers", "recipe": joint, "jointly": {"pr": "librispeech"}},
        },
    }
    lines = mine.ask(**asked)
    assert [line.split(": corpus librispeech: ")[0] for line in lines] == ["tasks.pr", "finetunings.alone", "finetunings.joint (pr)"]
    for line, splits in zip(lines, ("train 2, dev 2, test 2", "train 2, dev 2", "train 2, dev 2"), strict=True):
        assert f"2 word(s) are in none of the lexicons {mine.path / 'lexicon.txt'} ({splits})" in line
        assert "(IT'S: 103-1240-0001, 84-121123-0001" in line
    (mine.path / "lexicon.txt").write_text("\n".join([*LEXICON, "IT'S IH1 T S", "OFF AO1 F"]))
    assert mine.ask(**asked) == []


def test_a_corpus_without_trials_or_dev(mine):
    mine.table("speech", "path,split,speaker", "a.wav,train,x", "b.wav,train,y", "c.wav,test,x", "d.wav,test,y")
    tasks = {"asv": {"corpus": "speech"}, "sid": {"corpus": "speech"}}
    lines = mine.ask(tasks=tasks, finetunings={"sid": {"corpus": "speech", "recipe": {"like": "sid"}}})
    assert lines == [
        "tasks.asv: corpus speech: The corpus has no list of trials, which task 'asv' needs. Give one as `trials` of the corpus.",
        "tasks.sid: corpus speech: The corpus has no split dev. Splits there: train, test.",
        "finetunings.sid: corpus speech: The corpus has no split dev. Splits there: train, test.",
    ]
    trials = Skeleton(mine.path / "speech", "csv").text("trials.csv", "label,enrolment,test", "1,c,d")
    mine.values["corpora"]["speech"] |= {"trials": str(trials), "dev_fraction": 0.5}
    (line,) = mine.ask(tasks={"asv": {"corpus": "speech"}}, finetunings={})
    assert "1 of 1 trials of test have label 1" in line
    trials.write_text("label,enrolment,test\n1,c,d\n0,c,e\n")
    lines = mine.ask(tasks={})
    assert lines[-1] == "speech: e: no recording has this id (1 trial(s))"


def test_a_wrong_split_list(mine):
    corpus = mine.published("voxceleb1", use="sid", split_list=f"{mine.path}/voxceleb1/iden_split.txt")
    corpus.text("iden_split.txt", f"1 {VOXCELEB[0]}", f"2 {VOXCELEB[1]}", "3 id10009/nowhere/00001.wav")
    lines = mine.ask(tasks={"sid": {"corpus": "voxceleb1"}})
    assert lines[0].endswith("id10009/nowhere/00001.wav: no such file")
    assert "tasks.sid: corpus voxceleb1: Task 'sid' needs at least two different labels (class)" in lines[1]
    splits = zip((1, 1, 2, 3), (*VOXCELEB, "id10270/5r0dWxy17C8/00001.wav"), strict=True)
    corpus.text("iden_split.txt", *(f"{split} {name}" for split, name in splits))
    (line,) = mine.ask()
    assert "The test split: 1 utterance(s) have no target for task 'sid'. (id10270-5r0dWxy17C8-00001: class 'id10270' is not" in line


def test_columns_classes_and_slots(mine):
    rows = ["a.wav,train,yes", "b.wav,train,no", "c.wav,dev,maybe", "d.wav,test,yes"]
    mine.table("words", "path,split,label", *rows)
    mine.table("plain", "path,split,label", "a.wav,train,yes", "b.wav,train,no", "c.wav,dev,yes", "d.wav,test,")
    classes = {"protocol": "quick", "task_options": {"classes": ["yes", "no", "up"]}}
    asked = {task: {"corpus": "words"} for task in ("ks", "ic", "asr", "pc", "sd", "qbe")}
    lines = dict(line.split(": corpus words: ") for line in mine.ask(tasks=asked))
    assert list(lines) == [f"tasks.{task}" for task in asked]
    assert "class 'maybe' is not among the 2 classes of the training data" in lines["tasks.ks"]
    assert "label 'yes' does not have the form action|object|location" in lines["tasks.ic"]
    assert "The train split: 2 utterance(s) have no target for task 'asr'. (a: has an empty transcript" in lines["tasks.asr"]
    assert "has no phone segments" in lines["tasks.pc"]
    assert "a turn has no speaker" in lines["tasks.sd"]
    assert "dev: c: label 'maybe' must be 'query' or 'document'" in lines["tasks.qbe"]
    (line,) = mine.ask(tasks={"ks": {"corpus": "plain", "recipe": classes}})
    assert "The test split: 1 utterance(s) have no target for task 'ks'. (d: has no label" in line
    mine.table("plain", "path,split,label", "a.wav,train,yes", "b.wav,train,no", "c.wav,dev,yes", "d.wav,test,no")
    assert mine.ask() == ["tasks.ks: corpus plain: The train split: no utterance has class 'up', which is in the task's options."]


def test_corpora_that_give_what_is_asked(mine):
    for kind in ("timit", "libri2mix", "quesst14", "fluent_speech_commands"):
        mine.published(kind)
    mine.table("one", "path,split,text", "a.wav,train,hello there", "b.wav,dev,hello")
    mine.table("two", "path,id,split,text", "c.wav,c,train,there", "d.wav,d,test,there")
    mine.values["corpora"] = {"both": {"kind": "union", "of": ["one", "two"]}, **mine.values["corpora"]}
    tasks = {"pc": "timit", "sd": "libri2mix", "qbe": "quesst14", "asr": "both"}
    asked = {
        "tasks": {task: {"corpus": corpus} for task, corpus in tasks.items()},
        "finetunings": {"asr": {"corpus": "one", "recipe": {"like": "asr"}}, "more": {"corpus": "two", "pretraining": {"updates": 9}}},
    }
    assert mine.ask(**asked) == []
    mine.table("two", "path,id,split,text", "c.wav,a,train,there", "d.wav,d,test,there")
    assert mine.ask() == ["both: recording id 'a' is in one and in two; change one of them"]
    mine.table("two", "path,id,split,text", "c.wav,c,train,there")
    lines = mine.ask()
    assert lines == ["tasks.asr: corpus both: The corpus has no split test. Splits there: train, dev."]


def test_mixtures_of_three_speakers(mine):
    corpus = Skeleton(mine.path / "mixed", "mixtures")
    for name in "abc":
        corpus.audio(f"{name}.wav")
    rows = ["mixture,path,speaker,split,offset"]
    rows += [f"m-{split},{name}.wav,{name},{split},0" for split in ("train", "dev", "test") for name in "ab"]
    mine.values["corpora"]["mixed"] = {"kind": "mixtures", "path": str(corpus.text("mixtures.csv", *rows))}
    assert mine.ask(tasks={"sd": {"corpus": "mixed"}}) == []
    corpus.text("mixtures.csv", *rows, "m-dev,c.wav,c,dev,0.1")
    (line,) = mine.ask()
    assert "dev: m-dev: has 3 speaker(s) (a, b, c), expected 2" in line


def test_a_corpus_that_cannot_be_read_is_named_once(mine):
    mine.values["corpora"]["timit"] = {"kind": "timit", "path": str(mine.path / "nowhere")}
    (line,) = mine.ask(tasks={"pc": {"corpus": "timit"}})
    assert line.startswith(f"timit: {mine.path}/nowhere: no such folder, needed for TIMIT")
