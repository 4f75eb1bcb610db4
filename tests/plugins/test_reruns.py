"""What an edit of a plug-in makes again, as Snakemake plans it."""

import os

import pytest
import yaml
from experiment.edits import demo_values
from plugins.conftest import FILES
from workflow.plans import make_folder, planned, snakemake

from speechft.experiment.schema import load_experiment
from speechft.experiment.workflow import Workflow
from speechft.planning.jobs import jobs_behind

TABLES = {"table": 1, "figure": 1, "page": 1}


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A folder as after a run of an experiment with plug-ins: real recipes, empty files in place of all other outputs."""
    values = demo_values()
    values |= {"plugins": ["farther.py", "words.py", "names.py", "tasks.py"], "curves": {}, "analyses": {}}
    values["corpora"]["words"] = {"kind": "plugin", "reader": "words", "path": "words"}
    values["encoders"]["energies"] = {"kind": "module", "module": "energies"}
    values["methods"] = {
        "stable_ft": {"kind": "finetune", "label": "Stable-FT"},
        "speech_ft": {"kind": "merge", "label": "Speech-FT"},
        "farther": {"kind": "merge", "label": "Farther", "recipe": {"method": "farther"}},
    }
    values["tasks"] = {"ks": values["tasks"]["ks"], "rate": {"corpus": "words"}}
    table = {"encoders": ["hubert_demo", "energies"], "finetunings": ["pr_sentences"], "tasks": ["ks", "rate"]}
    values["tables"] = {"t": {"title": "T", "methods": ["pretrained", "farther", "speech_ft"], **table}}
    make_folder(tmp_path, yaml.safe_load(yaml.safe_dump(values)))
    for name in ("farther.py", "words.py", "names.py", "energies.py", "tasks.py", "rate.py"):
        (tmp_path / name).write_text(FILES[name])
    monkeypatch.chdir(tmp_path)
    flow = Workflow(load_experiment("experiment.yaml"))
    outputs = [output for job in jobs_behind("experiment.yaml") for output in job.outputs]
    recipes = [output for output in outputs if output.startswith(f"{flow.results}/recipes/")]
    snakemake(tmp_path, "--", *recipes)
    start = max((tmp_path / recipe).stat().st_mtime for recipe in recipes) + 10
    for order, output in enumerate(output for output in outputs if output not in recipes):
        path = tmp_path / output
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.mkdir(parents=True, exist_ok=True)
            (path / ".snakemake_timestamp").touch()
            os.utime(path / ".snakemake_timestamp", (start + order, start + order))
        os.utime(path, (start + order, start + order))
    assert not planned(tmp_path)
    return tmp_path


def after_an_edit(folder, name):
    (folder / name).write_text(FILES[name] + "# edited\n")
    found = dict(planned(folder))
    (folder / name).write_text(FILES[name])
    return found


@pytest.mark.slow
def test_an_edit_reruns_exactly_what_depends_on_it(finished):
    cells = {"evaluate": 3, "evaluate_module": 1}
    assert after_an_edit(finished, "farther.py") == {"recipe": 1, "merge": 1, "evaluate": 2, **TABLES}
    assert after_an_edit(finished, "rate.py") == {"recipe": 1, **cells, **TABLES}
    assert after_an_edit(finished, "tasks.py") == {"recipe": 1, **cells, **TABLES}
    assert after_an_edit(finished, "words.py") == {"recipe": 1, "manifests": 1, **cells, **TABLES}
    assert after_an_edit(finished, "names.py") == {}, "it only says where the encoder's class is"
    assert not planned(finished), "the same content again is no change"
    os.utime(finished / "energies.py", (4e9, 4e9))
    assert planned(finished) == {"evaluate_module": 2, **TABLES}
