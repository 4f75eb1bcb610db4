"""`speechft doctor --gpu`; here the CPU is compared with itself, which is the same machinery."""

import pytest
import torch
from typer.testing import CliRunner

from speechft.cli import app
from speechft.doctor import gpu
from speechft.doctor.findings import OK, PROBLEM


@pytest.mark.slow
def test_every_check_passes_on_the_cpu():
    findings = list(gpu.check_results("cpu"))
    assert [finding.name for finding in findings if finding.status != OK] == []
    names = {"features, fp32", "features, bf16", "cell of sid, fp32", "cell of asr, bf16", "stage 1", "restart", "claims"}
    assert names <= {finding.name for finding in findings}
    found = {finding.name: finding.found for finding in findings}
    assert found["restart"].startswith("stopped by SIGTERM and resumed: relative distance 0 ")


def test_features_that_differ_are_a_problem(tmp_path, monkeypatch):
    gpu._prepare(tmp_path)
    monkeypatch.setattr(gpu, "FP32_TOLERANCE", -1.0)
    states = {finding.name: finding.status for finding in gpu._features(tmp_path, "cpu")}
    assert states == {"features, fp32": PROBLEM, "features, bf16": OK}


def test_devices_that_two_jobs_have_at_once_are_a_problem(tmp_path, monkeypatch):
    start, started = gpu.subprocess.Popen, []

    def apart(command, **options):
        """Each job with a folder of locks of its own, as on a machine whose temporary folder is not shared."""
        started.append(command)
        return start([*command[:-1], str(tmp_path / str(len(started)))], **options)

    monkeypatch.setattr(gpu.subprocess, "Popen", apart)
    (finding,) = gpu._claims(tmp_path)
    assert finding.status == PROBLEM


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_that_is_the_only_finding():
    done = CliRunner().invoke(app, ["doctor", "--gpu"])
    assert done.exit_code == 1
    assert "torch sees no GPU" in done.output
    assert "1 problem" in done.output
