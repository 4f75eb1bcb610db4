"""`speechft doctor`: every line, with programs of a cluster that only pretend."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import ANY, Mock

import pytest
import torch
import yaml
from conftest import ROOT
from typer.testing import CliRunner

from speechft.cli import app
from speechft.corpora.checking import CorpusCheck, SplitCheck
from speechft.doctor import check_all, cluster, experiment, machine
from speechft.doctor.findings import Finding, ask, careful
from speechft.encoders import random_encoder
from speechft.files.hashes import sha256_file
from speechft.requirements import MissingPackageError

SINFO = "cpu*|(null)|1-00:00:00|4|up\ngpu|gpu:a100:4|2-00:00:00|2|up\ngpu|gpu:h100:8|2-00:00:00|1|up\n"
GPU = "NVIDIA A100-SXM4-80GB, 550.54.15, 81920 MiB\n"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH with nothing on it but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name, output="", status=0, complaint="", sleep=0):
        code = f"import sys, time; time.sleep({sleep}); sys.stdout.write({output!r}); sys.stderr.write({complaint!r}); sys.exit({status})"
        (folder / name).write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, '-c', code])}\n")
        (folder / name).chmod(0o755)

    return add


@pytest.fixture
def profile(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    monkeypatch.setattr(cluster, "PROFILE", path)

    def write(default, *others):
        of_rules = {f"r{n}": {"slurm_partition": partition} for n, partition in enumerate(others)}
        path.write_text(yaml.safe_dump({"default-resources": {"slurm_partition": default}, "set-resources": of_rules}))

    return write


def by_name(found):
    return {finding.name: finding for finding in found}


def on_cluster(gpus=True):
    return by_name(cluster.check_slurm(gpus))


def test_a_cluster_in_order(programs, profile):
    programs("sinfo", SINFO)
    programs("sacct", "12\n")
    programs("sbatch")
    profile("cpu", "gpu")
    found = on_cluster()
    assert {finding.status for finding in found.values()} == {"ok"}
    assert found["Slurm"].found == "partitions cpu (1-00:00:00, 4 nodes), gpu (2-00:00:00, 3 nodes)"
    assert found["GRES"].found == "gpu: gpu:a100:4, gpu:h100:8"
    assert set(found) == {"Slurm", "GRES", "profile", "sacct"}


def test_a_cluster_out_of_order(programs, profile):
    programs("sinfo", "main*|(null)|infinite|4|up\ncpus|(null)|1:00:00|n/a|up\n")
    programs("sacct", status=1, complaint="Slurm accounting storage is disabled\n")
    profile("cpu", "main")
    found = on_cluster()
    assert (found["GRES"].status, found["GRES"].found) == ("warning", "no partition has GPUs")
    assert "gpu: 0" in found["GRES"].remedy
    assert on_cluster(gpus=False)["GRES"].status == "ok"
    assert (found["profile"].status, "names partition 'cpu', which does not exist" in found["profile"].found) == ("problem", True)
    assert "must be one of main, cpus. Did you mean 'cpus'?" in found["profile"].remedy
    assert (found["sbatch"].status, found["sacct"].status) == ("problem", "warning")
    assert found["sacct"].found == "Slurm accounting storage is disabled"
    assert "slurm-status-command: squeue" in found["sacct"].remedy


def test_no_cluster_and_no_controller(programs):
    (found,) = cluster.check_slurm(True)
    assert (found.status, "not on this machine" in found.found) == ("ok", True)
    programs("sinfo", status=1, complaint="slurm_load_partitions: Unable to contact slurm controller\n")
    (found,) = cluster.check_slurm(True)
    assert (found.status, found.found) == ("warning", "sinfo: slurm_load_partitions: Unable to contact slurm controller")
    programs("sinfo", sleep=60)
    assert ask("sinfo", patience=0.5) == (False, "no response within 0.5 s")


def test_a_profile_that_is_missing_or_damaged(programs, profile):
    programs("sinfo", SINFO)
    found = on_cluster()
    assert (found["profile"].status, found["sacct"].found) == ("warning", "not found")
    profile("cpu")
    cluster.PROFILE.write_text("jobs: [\n")
    assert "is not valid YAML" in on_cluster()["profile"].found


@pytest.mark.parametrize(
    ("built", "available", "status", "said"),
    [(None, False, "problem", "is a CPU build"), ("12.8", False, "problem", "cannot use it"), ("12.8", True, "ok", "CUDA 12.8")],
)
def test_a_gpu_and_a_build_of_torch(programs, monkeypatch, built, available, status, said):
    programs("nvidia-smi", GPU)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    (found,) = machine.check_gpu(needed=True, must=True)
    assert (found.status, said in found.found) == (status, True)
    assert found.found.startswith("NVIDIA A100-SXM4-80GB, 550.54.15")
    assert bool(found.remedy) == (status != "ok")


def test_no_gpu(programs, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = ((False, False), (True, False), (True, True))
    assert [next(machine.check_gpu(needed=needed, must=must)).status for needed, must in asked] == ["ok", "warning", "problem"]
    # On a login node jobs run elsewhere.
    programs("sinfo", SINFO)
    assert next(machine.check_gpu(needed=True, must=True)).status == "warning"
    programs("nvidia-smi", status=9, complaint="NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n")
    (found,) = machine.check_gpu(needed=False, must=False)
    assert (found.status, "couldn't communicate" in found.found) == ("problem", True)
    programs("nvidia-smi", GPU * 4)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "(4 GPUs)" in next(machine.check_gpu(needed=True, must=True)).found


def test_a_folder_that_is_slow_or_closed(tmp_path, monkeypatch):
    (found,) = machine.check_write_speed(tmp_path)
    assert found.found.startswith(f"{tmp_path}: ")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(machine, "write_speed", lambda folder: 3.0)
    assert next(machine.check_write_speed(tmp_path)).status == "warning"
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    (found,) = machine.check_write_speed(tmp_path / "file" / "results")
    assert (found.status, "cannot be written" in found.found) == ("problem", True)


def test_packages_against_the_lock_file(tmp_path, monkeypatch):
    lock = tmp_path / "lock"
    monkeypatch.setattr(machine, "LOCK", lock)

    def packages(*lines):
        lock.write_text("\n".join(lines) + "\n")
        return by_name(machine.check_installation())["packages"]

    packages("typer==0.0.1 \\", "    --hash=sha256:00", "rich==3 ; sys_platform == 'win32' \\",
             "numpy==1.0 ; python_full_version < '3' \\", "numpy==2.0 ; python_full_version >= '3' \\")  # fmt: skip
    assert machine.locked_versions() == {"typer": "0.0.1", "numpy": "2.0"}
    found = packages("typer==0.0.1 \\")
    assert (found.status, "(locked: 0.0.1)" in found.found, found.remedy) == ("warning", True, "Run `make environment`.")
    assert packages("typer==0.0.1 \\", "numpy==1.0 \\").status == "problem"
    assert packages("no-such-package==1 \\").found == "no-such-package missing (locked: 1)"
    lock.unlink()
    assert by_name(machine.check_installation())["packages"].status == "warning"


def test_an_installation_with_pip_may_be_of_any_supported_version_and_lack_extras(tmp_path, monkeypatch):
    """A clone has a lock file, which names one version of each package."""
    lock = tmp_path / "lock"
    lock.write_text("typer==0\n")
    monkeypatch.setattr(machine, "LOCK", lock)
    monkeypatch.setattr(machine, "find_spec", lambda _: None)
    monkeypatch.setattr(cluster, "PLUGIN", "no-such-plugin")
    monkeypatch.setattr(machine.sys, "version_info", (3, 13, 1))
    monkeypatch.setattr("torch.__version__", "2.9.1+cpu")
    checks = (machine.check_installation, machine.check_torch, machine.check_fairseq, cluster.check_snakemake)
    names = ("Python", "torch", "fairseq", "Slurm plugin")

    def statuses():
        found = by_name(finding for check in checks for finding in check())
        return [found[name].status for name in names], found["fairseq"].remedy

    assert statuses() == (["problem"] * 4, "Run `make environment`.")
    lock.unlink()
    assert statuses() == (["warning", "ok", "warning", "warning"], "If you need it: pip install 'speechft[train]'.")
    too_old = MissingPackageError("speechft needs torch>=2.4; 2.3 is installed: pip install 'torch>=2.4'")
    monkeypatch.setattr(machine, "check_versions", Mock(side_effect=too_old))
    (old,) = machine.check_torch()
    assert (old.status, old.remedy) == ("problem", str(too_old))


def test_the_plugin_is_looked_for_and_a_check_that_breaks_is_a_finding(monkeypatch):
    found = by_name(cluster.check_snakemake())
    assert {finding.status for finding in found.values()} <= {"ok", "warning"}
    monkeypatch.setattr(cluster, "PLUGIN", "no-such-plugin")
    assert by_name(cluster.check_snakemake())["Slurm plugin"].status == "problem"

    def check():
        raise RuntimeError("broken")

    assert list(careful("something", check)) == [Finding("something", "problem", "RuntimeError: broken", ANY)]


@pytest.fixture
def write_mine(tmp_path, monkeypatch):
    """Write an experiment in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def write(**values):
        values = {"name": "mine", "encoders": {}, "tasks": {}, "tables": {}} | values
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))

    return write


@pytest.fixture
def mine(tmp_path, write_mine):
    """One corpus of a table, one published, a checkpoint, a public encoder; returns an encoder directory."""
    corpora = {"table": {"kind": "csv", "path": "a.csv"}, "timit": {"kind": "timit", "path": "timit"}}
    checkpoints = {name: {"kind": "checkpoint", "path": path} for name, path in (("here", "model"), ("file", "c.pt"))}
    public = {"public": {"kind": "public", "name": "hubert_base"}, "fbank": {"kind": "fbank"}}
    write_mine(results="out", corpora=corpora, encoders=checkpoints | public)
    return random_encoder("hubert", tmp_path / "model")


def looked_at(named=True, corpora=True):
    _, _, found = experiment.check_experiment(Path("mine.yaml"), named=named, corpora=corpora)
    return by_name(found)


def test_what_is_absent_is_a_problem_of_the_experiment_that_was_named(mine, monkeypatch):
    found, default = looked_at(), looked_at(named=False)
    for name in ("encoder file", "encoder public", "corpus table", "corpus timit"):
        assert (found[name].status, default[name].status) == ("problem", "warning"), name
        assert found[name].remedy
    assert "speechft fetch hubert_base" in found["encoder public"].remedy
    assert found["encoder here"] == Finding("encoder here", "ok", "model: hashes as recorded")
    assert found["encoder fbank"].status == found["disk"].status == "ok"
    assert "the experiment mine takes 1 GB" in found["disk"].found
    assert looked_at(corpora=False)["corpora"].found == "not checked (--no-corpora)"
    monkeypatch.setattr(experiment.shutil, "disk_usage", lambda path: SimpleNamespace(free=2e8))
    disk = looked_at()["disk"]
    assert (disk.status, "speechft plan" in disk.remedy) == ("problem", True)


def test_hashes_of_encoders(mine, tmp_path):
    (tmp_path / "c.pt").write_bytes(b"weights")
    assert "no expected hash known" in looked_at()["encoder file"].found
    (tmp_path / "c.pt.sha256").write_text(sha256_file(tmp_path / "c.pt"))
    assert looked_at()["encoder file"].found == "c.pt: SHA-256 as expected"
    (tmp_path / "c.pt").write_bytes(b"other")
    found = looked_at()["encoder file"]
    assert (found.status, "expected" in found.found) == ("problem", True)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/hubert_base_ls960.pt").write_bytes(b"a part of it")
    found = looked_at()["encoder public"]
    assert (found.status, "12 bytes, expected 1136468879" in found.found) == ("problem", True)
    assert found.remedy == "Move it away and fetch it again, or use a file of your own as `kind: checkpoint` with its `path`."
    with (mine / "model.safetensors").open("ab") as file:
        file.write(b"x")
    assert "not as in its provenance" in looked_at()["encoder here"].found
    (mine / "config.json").unlink()
    assert "config.json missing" in looked_at()["encoder here"].found


@pytest.mark.parametrize(
    ("problems", "remarks", "notes", "status", "said"),
    [
        (("a.wav: damaged", "b.wav: damaged"), (), (), "problem", "a.wav: damaged and 1 more"),
        ((), ("train: 2 utterances, published are 3",), (), "warning", "published are 3"),
        ((), ("train: 2 utterances, published are 3",), ("in order of names. Copy the lists.",), "warning", "in order of names"),
        ((), (), (), "ok", "train 2 utterances"),
    ],
)
def test_corpora_in_one_line(problems, remarks, notes, status, said):
    row = SplitCheck("c", "train", "2 utterances", "", 1.0, len(problems))
    found = experiment.summary(CorpusCheck("c", (row,), problems, remarks, notes), "warning")
    assert (found.status, said in found.found, bool(found.remedy)) == (status, True, status != "ok")
    assert not notes or found.remedy == "Copy the lists."


def test_lexicons_of_pr(tmp_path, write_mine):
    public, mine = "lexicons/librispeech-lexicon-200k-g2p.txt", "words.txt"
    read = {"kind": "librispeech", "path": "LibriSpeech", "lexicon": [public, mine, "cmudict"]}
    write_mine(corpora={"read": read}, tasks={"pr": {"corpus": "read"}})
    found = looked_at(corpora=False)
    assert [name for name in found if name.startswith("lexicon")] == [f"lexicon {public}", f"lexicon {mine}"]
    assert (found[f"lexicon {public}"].status, found[f"lexicon {mine}"].found) == ("problem", "missing")
    assert found[f"lexicon {public}"].remedy == (
        f"`speechft fetch superb_lexicon_200k --out {public}` downloads it; so does Snakemake, if there is a network."
    )
    assert looked_at(named=False, corpora=False)[f"lexicon {public}"].status == "warning"
    (tmp_path / "lexicons").mkdir()
    for path in (public, mine):
        (tmp_path / path).write_text("A AH0\n")
    found = looked_at(corpora=False)
    assert (found[f"lexicon {public}"].status, found[f"lexicon {mine}"].status) == ("problem", "ok")
    assert "or give a file of your own another name" in found[f"lexicon {public}"].remedy


def test_a_broken_experiment_is_a_problem(write_mine):
    write_mine(nam="x")
    (finding,) = looked_at().values()
    assert (finding.name, finding.status, "did you mean 'name'?" in finding.found) == ("experiment", "problem", True)


def test_the_exit_status_follows_problems_alone(monkeypatch):
    lines = [Finding("a", "ok", "fine"), Finding("b", "warning", "odd [1]", "look")]
    monkeypatch.setattr("speechft.doctor.check_all", lambda chosen, corpora: iter(lines))
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0
    assert done.output.splitlines() == ["ok      a: fine", "warning b: odd [1]  -> look", "1 warning, 0 problems"]
    lines.append(Finding("c", "problem", "bad", "mend"))
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.output)[2] == {"name": "c", "status": "problem", "found": "bad", "remedy": "mend"}


def test_the_whole_command_on_a_pretended_cluster(tmp_path, programs):
    programs("sinfo", SINFO)
    programs("sacct")
    programs("sbatch")
    programs("nvidia-smi", GPU)
    command = [sys.executable, "-m", "speechft.cli", "doctor", "--no-corpora", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    found = by_name(Finding(**values) for values in json.loads(done.stdout))
    names = {"Python", "packages", "torch", "fairseq", "GPU", "writing", "Slurm", "GRES", "profile", "sacct", "disk", "encoder hubert_base"}
    assert set(found) >= names
    # This machine's torch is a CPU build, where it is, beside a GPU that is only pretended.
    assert (found["GPU"].status == "problem") == (torch.version.cuda is None or not torch.cuda.is_available())
    assert done.returncode == int(any(finding.status == "problem" for finding in found.values()))


def test_without_an_experiment_the_demo_is_what_room_is_needed_for(tmp_path, monkeypatch, programs):
    monkeypatch.chdir(tmp_path)
    found = by_name(check_all())
    assert "the environment and the demo take 5 GB" in found["disk"].found
    assert not [name for name in found if name.startswith(("corpus", "encoder"))]
