"""The wheel, installed: the core in an environment of its own, and the workflow, from folders that are no clone."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from speechft.requirements import EXTRAS

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
RANGES = {"oldest": ("torch==2.4.*", "transformers==4.48.*", "numpy<2"), "newest": ("torch", "transformers", "numpy")}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=ROOT, check=True, capture_output=True)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def unpacked(wheel, tmp_path_factory):
    """What pip makes of the wheel, as a folder for PYTHONPATH."""
    out = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", out, wheel], check=True)
    return out


def needed(name, extras=frozenset()):
    """Names of all distributions that a distribution of this environment needs, itself included."""
    found, waiting = set(), [(name, frozenset(extras))]
    while waiting:
        name, wanted = waiting.pop()
        if (key := name.lower().replace("_", "-")) in found:
            continue
        found.add(key)
        try:
            lines = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:  # fairseq says that it needs torchaudio, and works without
            continue
        for line in lines:
            other = Requirement(line)
            if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in (wanted or {""})):
                waiting.append((other.name, frozenset(other.extras)))
    return found


@pytest.fixture(scope="session")
def core(wheel, unpacked, tmp_path_factory):
    """Python of an environment with the packages of the core alone: links to those that are installed here."""
    folder = tmp_path_factory.mktemp("core")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    lines = [Requirement(line) for line in metadata.Distribution.at(next(unpacked.glob("*.dist-info"))).requires]
    names = set().union(*(needed(line.name, line.extras) for line in lines if line.marker is None))
    for name in names:
        distribution = metadata.distribution(name)
        for top in {Path(file).parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(distribution.locate_file(top)).resolve())
    for entry in unpacked.iterdir():
        if entry.name != "bin":
            shutil.copytree(entry, site / entry.name)
    return folder / "bin/python"


@pytest.fixture
def empty(tmp_path):
    (tmp_path / "an empty folder").mkdir()
    return tmp_path / "an empty folder"


def run(python, *arguments, cwd, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_the_workflow_and_nothing_else_of_the_repository(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    shared = {
        file.relative_to(ROOT).as_posix()
        for folder in ("config", "rules", "slurm", "profiles")
        for file in (ROOT / folder).rglob("*")
        if file.is_file()
    }
    assert {name.removeprefix("speechft/share/") for name in names if name.startswith("speechft/share/")} == shared | {"Snakefile"}
    assert not [name for name in names if not name.startswith(("speechft/", "speechft-"))]
    assert wheel.stat().st_size < 2_000_000


def test_the_core_prepares_merges_and_evaluates(core, empty):
    done = run(core, HERE / "check.py", cwd=empty)
    assert done.returncode == 0, done.stderr
    assert "wavlm" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["finetune", "hubert0", "manifests", "--like", "sid", "--out", "tuned"], "train"),
        (["evaluate", "hubert0", "pr", "manifests", "--out", "pr.json"], "asr"),
        (["tables", "config/demo.yaml", "--out", "tables"], "tables"),
        (["run", "config/demo.yaml", "-n"], "workflow"),
        (["plan"], "workflow"),
    ],
)
def test_a_verb_names_the_extra_that_it_lacks(core, empty, arguments, extra):
    code = "from speechft.encoders import random_encoder; random_encoder('hubert', 'hubert0')"
    assert run(core, "-c", code, cwd=empty).returncode == 0
    done = run(core, "-m", "speechft.cli", *arguments, cwd=empty)
    assert done.returncode == 1
    assert f"pip install 'speechft[{extra}]'" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_torch_that_is_too_old_is_one_sentence(core, empty):
    (empty / "old/torch-2.2.0.dist-info").mkdir(parents=True)
    (empty / "old/torch-2.2.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.2.0\n")
    done = run(core, "-m", "speechft.cli", "inspect", "x.pt", cwd=empty, PYTHONPATH=str(empty / "old"))
    assert done.returncode == 1
    assert "speechft needs torch>=2.4; 2.2.0 is installed: pip install 'torch>=2.4'" in " ".join(done.stderr.split())


def test_extras_bring_the_modules_that_name_them(unpacked):
    homes = metadata.packages_distributions()
    lines = [Requirement(line) for line in metadata.Distribution.at(next(unpacked.glob("*.dist-info"))).requires]
    for extra, modules in EXTRAS.items():
        asked = [line.name for line in lines if line.marker and line.marker.evaluate({"extra": extra}) and line.name != "speechft"]
        brought = set().union(*map(needed, asked))
        assert [module for module in modules if not brought & {name.lower().replace("_", "-") for name in homes[module]}] == []


def test_the_workflow_runs_from_any_folder(unpacked, empty):
    environment = {"PYTHONPATH": str(unpacked)}
    made = run(sys.executable, "-m", "speechft.cli", "init", "mine", cwd=empty, **environment)
    assert made.returncode == 0, made.stderr
    planned = run(sys.executable, "-m", "snakemake", "-n", cwd=empty / "mine", **environment)
    assert planned.returncode == 0, planned.stderr
    again = run(sys.executable, "-m", "speechft.cli", "init", "mine", cwd=empty, **environment)
    assert again.returncode == 1
    assert "which is not overwritten" in again.stderr
    experiment = empty / "mine/config/experiment.yaml"
    for arguments in (
        ["speechft.cli", "run", experiment, "mine", "hubert_base/keywords/speech_ft/sid", "--cores", "1", "-n"],
        ["snakemake", "--snakefile", unpacked / "speechft/share/Snakefile", "--configfile", experiment, "--cores", "1", "-n"],
        ["speechft.cli", "plan", "-e", experiment],
        ["speechft.cli", "plan"],
        ["speechft.cli", "tables", "config/paper.yaml", "--out", "tables"],
    ):
        done = run(sys.executable, "-m", *arguments, cwd=empty / "mine", **environment)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"


def test_automation_calls_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for path in (ROOT / ".github").rglob("*.yml"):
        assert yaml.safe_load(path.read_text())["name"]
        called = re.findall(r"run: (?:sudo )?make (?:[A-Z]+=\S+(?: matrix.python }})? )*([a-z-]+)", path.read_text())
        assert set(called) <= targets, path


@pytest.mark.parametrize("versions", RANGES)
@pytest.mark.parametrize("version", PYTHONS)
def test_matrix(wheel, empty, version, versions):
    """Fresh environments by pip, several GB each: `make test-installation`."""
    if "SPEECHFT_MATRIX" not in os.environ:
        pytest.skip("installs several GB: `make test-installation`")
    candidates = [*sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")), shutil.which(f"python{version}")]
    python = next((python for python in candidates if python and run(python, "--version", cwd=empty).returncode == 0), None)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    subprocess.run([python, "-m", "venv", empty / "env"], check=True)
    index = ["--index-url", os.environ["TORCH_INDEX"]] if os.environ.get("TORCH_INDEX") else []
    pip = [empty / "env/bin/python", "-m", "pip", "install", "-q", "--no-cache-dir"]
    torch, *others = RANGES[versions]
    subprocess.run([*pip, *index, torch], check=True)
    subprocess.run([*pip, torch, *others, f"{wheel}[tables]"], check=True)
    try:
        done = run(empty / "env/bin/python", HERE / "check.py", "figure", cwd=empty)
        assert done.returncode == 0, done.stderr
        assert (empty / "tones.png").is_file()
        print(run(empty / "env/bin/python", "-m", "pip", "list", cwd=empty).stdout)
    finally:
        shutil.rmtree(empty / "env")


def test_the_steps_of_the_container(empty):
    """What `docker build` would do, in a folder instead of an image: the same copies and commands, but for the user that it makes."""
    if "SPEECHFT_MATRIX" not in os.environ:
        pytest.skip("installs several GB: `make test-installation`")
    subprocess.run([sys.executable, "-m", "venv", empty / "env"], check=True)
    image, here = empty / "image", empty / "image"
    path = {"PATH": f"{empty / 'env/bin'}:{os.environ['PATH']}"}
    try:
        for line in (ROOT / "envs/Dockerfile").read_text().splitlines():
            instruction, _, words = line.partition(" ")
            if instruction == "WORKDIR":
                here = image / words.lstrip("/")
                here.mkdir(parents=True)
            elif instruction == "COPY":
                *sources, target = words.split()
                for source in sources:
                    out = here / (source if target == "./" else target)
                    out.parent.mkdir(parents=True, exist_ok=True)
                    (shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile)(ROOT / source, out)
            elif instruction == "RUN" and not words.startswith("useradd"):
                done = subprocess.run(words, shell=True, cwd=here, env=os.environ | path, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr
        done = run(empty / "env/bin/speechft", "run", "config/paper.yaml", "-n", "--quiet", cwd=here, **path)
        assert done.returncode == 0, done.stderr
    finally:
        shutil.rmtree(empty / "env")
