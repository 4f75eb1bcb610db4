"""Published corpora are found by what lies in them, whatever their folder is called."""

import shutil

import pytest
from conftest import ROOT

from speechft.corpora.finding import find_corpora
from speechft.experiment.schema import load_experiment
from speechft.rehearsal.stand_ins import build_stand_in
from speechft.tasks.catalog import TASKS


@pytest.fixture(scope="module")
def wanted():
    """The corpora of SUPERB's tasks, as the paper's experiment names them."""
    paper = load_experiment(ROOT / "config/paper.yaml")
    return {task.corpus: paper.corpora[task.corpus] for name, task in paper.tasks.items() if TASKS[name].superb}


@pytest.fixture(scope="module")
def renamed(wanted, tmp_path_factory):
    """A stand-in of each, in folders that are called otherwise, beside one that cannot be read as any."""
    folder = tmp_path_factory.mktemp("renamed")
    for number, kind in enumerate({recipe.kind: None for recipe in wanted.values()}):
        build_stand_in(kind, folder / f"disk/{number}", ROOT / "mini/speech")
    (folder / "disk/notes").mkdir()
    return folder


def test_all_of_superb_are_found_under_other_names(renamed, wanted):
    found = find_corpora(renamed, wanted, partial=True)
    assert found.absent == {}
    assert {name: recipe.kind for name, recipe in found.there.items()} == {name: recipe.kind for name, recipe in wanted.items()}
    assert found.there["voxceleb1"].path == found.there["voxceleb1_asv"].path == found.there["voxceleb1"].split_list.parent
    assert len({recipe.path for recipe in found.there.values()}) == len(wanted) - 1


def test_the_folder_may_be_the_corpus_itself_and_its_own_name_comes_first(renamed, wanted, tmp_path):
    snips = {"audio_snips": wanted["audio_snips"]}
    place = find_corpora(renamed, snips, partial=True).there["audio_snips"].path
    assert find_corpora(place, snips, partial=True).there["audio_snips"].path == place
    for name in ("a", "snips"):
        shutil.copytree(place, tmp_path / name)
    assert find_corpora(tmp_path, snips, partial=True).there["audio_snips"].path == tmp_path / "snips"


def test_what_is_incomplete_is_named(renamed, wanted, tmp_path):
    snips = {"audio_snips": wanted["audio_snips"]}
    place = find_corpora(renamed, snips, partial=True).there["audio_snips"].path
    assert "train: 24 utterances, published are 104672" in find_corpora(renamed, snips).absent["audio_snips"]
    shutil.copytree(place, tmp_path / "SNIPS")
    shutil.rmtree(tmp_path / "SNIPS/valid")
    assert f"{tmp_path}/SNIPS/valid: no such folder" in find_corpora(tmp_path, snips, partial=True).absent["audio_snips"]
