"""Names of installed packages: an imitated distribution on the path, made of the files of docs/extend.md."""

import json
import sys

import pytest
from plugins.conftest import FILES, forget_all

from speechft import plugins
from speechft.errors import ConfigError
from speechft.files.hashes import sha256_file
from speechft.merge.methods import METHODS
from speechft.recipes.corpora import READERS
from speechft.recipes.evaluation import evaluation_recipe
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.merging import MergeRecipe
from speechft.recipes.modules import is_class_name, split_name
from speechft.recipes.values import load_recipe, validate
from speechft.tasks import get_task

PACKAGE = "my_speech_parts"


def install(folder, name, groups):
    """A distribution without files: its name and its entry points."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [line for group, points in groups.items() for line in (f"[{group}]", *(f"{key} = {value}" for key, value in points.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    plugins.installed_points.cache_clear()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package of the page; the folder that it is installed in."""
    toml = pytest.importorskip("tomllib").loads(FILES["pyproject.toml"])
    folder = tmp_path / "site"
    (folder / PACKAGE).mkdir(parents=True)
    (folder / PACKAGE / "__init__.py").touch()
    for name in ("farther.py", "words.py", "energies.py", "rate.py", "tasks.py"):
        (folder / PACKAGE / name).write_text(FILES[name])
    install(folder, toml["project"]["name"], toml["project"]["entry-points"])
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def imported():
    return {name.partition(".")[2] for name in sys.modules if name.startswith(f"{PACKAGE}.")}


def test_a_package_runs_when_one_of_its_names_is_asked_for(installed, capsys):
    assert "nothing" not in METHODS
    assert not imported()
    recipe = MergeRecipe(method="farther")
    assert recipe.plugins == {f"{PACKAGE}.farther": sha256_file(installed / PACKAGE / "farther.py")}
    assert imported() == {"farther"}
    assert capsys.readouterr().err.startswith(f"plug-in {PACKAGE}.farther (SHA-256 ")
    assert "words" in READERS
    assert (is_class_name("energies"), split_name("energies")) == (True, (f"{PACKAGE}.energies", "Energies"))
    assert imported() == {"farther", "words"}, "an encoder is a name until it is evaluated"
    assert evaluation_recipe("rate").plugins.keys() == {f"{PACKAGE}.tasks", f"{PACKAGE}.rate"}
    assert imported() == {"farther", "words", "tasks"}
    assert validate(FinetuneRecipe, {"like": "rate"}, "r").updates == 1000
    assert get_task("rate").name == "rate"


def test_a_job_refuses_another_version_of_the_package(installed, tmp_path):
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(MergeRecipe(method="farther").model_dump(mode="json")))
    assert load_recipe(MergeRecipe, file).method == "farther"
    forget_all()
    (installed / PACKAGE / "farther.py").write_text(FILES["farther.py"] + "# edited\n")
    with pytest.raises(ConfigError, match=r"farther.py: has SHA-256"):
        load_recipe(MergeRecipe, file)


def test_names_that_two_have(installed, tmp_path):
    (tmp_path / "farther.py").write_text(FILES["farther.py"])
    with pytest.raises(ConfigError, match="registers the merge method 'farther', which the installed package my-speech-parts provides"):
        plugins.load(str(tmp_path / "farther.py"))
    install(installed, "others", {"speechft.merge_methods": {"farther": "others.farther:Farther"}})
    with pytest.raises(ConfigError, match="Several installed packages provide the merge method 'farther': .*others"):
        MergeRecipe(method="farther")


def test_a_package_that_fails(installed):
    install(installed, "broken", {"speechft.merge_methods": {"broken": "no_such_module:Broken"}})
    with pytest.raises(ConfigError, match=r"broken = no_such_module:Broken of the installed package broken cannot be loaded \(ModuleNot"):
        MergeRecipe(method="broken")
    assert MergeRecipe(method="ties").plugins == {}
