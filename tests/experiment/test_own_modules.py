"""Frozen models of the user's own in an experiment: plans, reruns, doctor, tables. None of this runs them."""

import copy
import os

import pytest
from experiment.edits import demo_values
from tables.conftest import cell_json
from workflow.plans import commands, make_folder, planned

from speechft.doctor.experiment import check_experiment
from speechft.errors import ConfigError
from speechft.experiment.schema import load_experiment, parse_experiment
from speechft.experiment.tables import table_recipe
from speechft.planning.jobs import jobs_behind
from speechft.planning.plan import plan_experiment
from speechft.planning.report import report
from speechft.planning.speeds import load_throughput
from speechft.recipes.cell import Cell
from speechft.tables.arrange import arrange
from speechft.tables.published import Published

MINE = {"kind": "module", "module": "my models/mine.py:Mine", "options": {"layers": 3, "name": "it's"}, "files": ["w.pt"], "label": "Ours"}


def values():
    found = copy.deepcopy(demo_values())
    found["encoders"]["mine"] = copy.deepcopy(MINE)
    found["encoders"]["fbank"] = {"kind": "fbank"}
    found["tables"] = {"t": {"title": "T", "encoders": ["fbank", "mine"], "finetunings": ["pr_sentences"], "tasks": ["ks", "pr"]}}
    found["curves"], found["analyses"] = {}, {}
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The experiment's folder; whatever runs the module fails."""
    make_folder(tmp_path, values())
    (tmp_path / "my models").mkdir()
    (tmp_path / "my models/mine.py").write_text("raise SystemExit('was run')\n")
    (tmp_path / "w.pt").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_edit_reruns_exactly_its_cells(folder):
    shown = commands(folder, "--", "results/demo/cells/mine/none/pretrained/ks.json")
    assert "speechft evaluate 'my models/mine.py:Mine' --encoder-option layers=3 --encoder-option 'name=" in shown
    jobs = jobs_behind("experiment.yaml")
    start = (folder / "w.pt").stat().st_mtime
    for order, output in enumerate(output for job in jobs for output in job.outputs):
        path = folder / output
        if path.suffix or path.name == ".snakemake_timestamp":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
        else:
            path.mkdir(parents=True, exist_ok=True)
        os.utime(path, (start + order + 1, start + order + 1))
        if path.is_dir():
            (path / ".snakemake_timestamp").touch()
            os.utime(path / ".snakemake_timestamp", (start + order + 1, start + order + 1))
    assert not planned(folder)
    for file in ("my models/mine.py", "w.pt"):
        os.utime(folder / file, (start + 1e6, start + 1e6))
        found = planned(folder)
        assert (found["evaluate_module"], found["evaluate"]) == (2, 0)
        assert set(found) <= {"evaluate_module", "evaluate", "table", "figure", "page"}
        os.utime(folder / file, (start, start))


def test_plan_and_doctor_run_nothing(folder):
    plan = plan_experiment("experiment.yaml", load_throughput())
    unknown = [("speed of mine" in cost.unknown, cost.job.names[0]) for cost in plan.of_rules("evaluate")]
    assert sorted(unknown) == [(False, "fbank")] * 2 + [(True, "mine")] * 2
    text = "\n".join(part for part in report(plan, "experiment.yaml") if isinstance(part, str))
    assert "mine: is a module of your own, so its speed is unknown" in text
    assert "Sums exclude jobs with encoders of unknown speed" in text

    def found():
        _, _, findings = check_experiment(folder / "experiment.yaml", named=True, corpora=False)
        return next(finding for finding in findings if finding.name == "encoder mine")

    assert "my models/mine.py: SHA-256" in found().found
    assert "speechft check-encoder 'my models/mine.py:Mine' --encoder-option layers=3" in found().found
    (folder / "w.pt").unlink()
    assert "w.pt: missing" in found().found
    (folder / "my models/mine.py").unlink()
    assert "mine.py: no such file" in found().found


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda v: v["finetunings"].update(pr_sentences={"checkpoint": "a.pt", "encoder": "mine"}), "'mine' is a module of your own"),
        (lambda v: v.update(curves={"c": {"encoder": "mine", "finetuning": "pr_sentences", "tasks": ["ks"]}}), "can only be evaluated"),
        (
            lambda v: v.update(analyses={"a": {"encoder": "mine", "corpus": "sentences", "rows": [{"model": "pr_sentences/stable_ft"}]}}),
            "can only be evaluated",
        ),
        (lambda v: v["encoders"].update(more={"kind": "pretrain", "corpora": ["unlabelled"], "start": "mine"}), "can only be evaluated"),
        (lambda v: v["encoders"]["mine"].update(module="mine"), "'mine' is not the name of a class; write my_package.my_module:MyEncoder"),
        (lambda v: v["encoders"]["mine"].update(module="~/mine.py:Mine"), "begins with '~'"),
        (lambda v: v["encoders"]["mine"].update(module="a{b}/mine.py:Mine"), "braces are wildcards"),
        (lambda v: v["encoders"]["mine"].update(option={}), "did you mean 'options'"),
    ],
)
def test_mistakes_are_named_before_any_job(edit, said):
    edited = values()
    edit(edited)
    with pytest.raises(ConfigError) as caught:
        parse_experiment(edited, "mine.yaml")
    assert said in str(caught.value)


def test_such_an_encoder_has_one_row_with_a_note(folder):
    experiment = load_experiment("experiment.yaml")
    assert experiment.table_models("t") == [("fbank", "none", "pretrained"), ("mine", "none", "pretrained")]
    recipe = table_recipe(experiment, "t", None)
    assert [row.label for row in recipe.rows] == ["FBANK", "Ours"]
    module = {"name": "mine.py:Mine", "class_name": "Mine", "sources": {}, "state_sha256": "0", "depends_on_batch": True}
    cell = Cell.model_validate(cell_json("mine/none/pretrained", "ks", {"KS": [90.0]}, protocol="superb") | {"module": module})
    (note,) = [note for note in arrange(recipe, [cell], Published({}), "t").notes if "mine.py" in note]
    assert (
        note
        == "Ours (mine): the encoder is a module from elsewhere, mine.py:Mine. Its features depend on the batch; each utterance was one."
    )
