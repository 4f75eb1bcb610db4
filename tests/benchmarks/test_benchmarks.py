"""The benchmark scripts run, with a tiny model, and measure what they say."""

import json
import math
import sys

import numpy as np
import pytest
import torch

from speechft.encoders import load_encoder


@pytest.fixture
def benchmark(script):
    return script("encoder")


def test_our_side_encodes_what_it_is_given(benchmark, tmp_path):
    workload = benchmark.Workload.make("B", [0.5, 0.3, 1.0], tmp_path, seed=0)
    ours, _ = benchmark.make_models(tmp_path, small=True)
    worker = benchmark.Worker(sys.executable, "speechft", ours, "cpu", 1)
    try:
        assert 0 < worker.run(workload, tmp_path / "features.npy") < 60
        assert worker.peak_bytes() > 50e6
        assert worker.torch == torch.__version__
    finally:
        worker.close()
    with np.load(workload.path) as file:
        waveforms = [torch.from_numpy(file[name]) for name in file.files]
    with torch.inference_mode():
        expected = torch.stack(load_encoder(ours).encode(waveforms).hidden_states)
    assert np.allclose(np.load(tmp_path / "features.npy"), expected.numpy(), atol=1e-5)


def test_sides_take_turns_and_warming_up_does_not_count(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "PAUSE", 0)
    turns = []

    class Side:
        def __init__(self, name):
            self.name = name

        def run(self, workload):
            turns.append(self.name)
            return float(len(turns))

    times = benchmark.take_turns([Side("a"), Side("b")], None, warmup=1, repetitions=3)
    assert "".join(turns) in ("baabbaab", "abbaabba")
    assert sorted(times[0] + times[1]) == [3, 4, 5, 6, 7, 8]


def test_both_sides_agree_on_equal_lengths(run_script):
    options = ("--repetitions", 2, "--warmup", 1, "--threads", 1, "--longest", 3, "--devices", "cpu")
    assert "| CPU, fp32 | B |" in run_script("encoder.py", "--small", *options, needs_s3prl=True)


def test_a_merge_is_measured_beside_cp(run_script):
    options = ("--repetitions", 1, "--threads", 1, "--methods", "linear", "--mergekit-python", "none")
    rows = {line.split("|")[1].strip() for line in run_script("merge.py", "--small", *options).splitlines() if line.startswith("| ")}
    assert {"cp of both inputs", "cp, until on disk", "speechft, linear", "speechft, linear, with starting Python"} <= rows


def test_the_large_merge_has_two_billion_parameters(script):
    shapes = script("merge").shapes
    count = {size: sum(math.prod(shape) for shape in shapes(size).values()) for size in ("base", "billions")}
    assert 94e6 < count["base"] < 96e6
    assert 2e9 < count["billions"] < 2.3e9


def test_a_run_that_was_killed_twice_ends_like_an_undisturbed_one(run_script):
    shown = run_script("kill_finetuning.py", "--kills", 2, "--updates", 60)
    assert (shown.count("after the start"), shown.count("equal, byte for byte")) == (2, 3)


def test_both_sides_are_timed_on_the_same_work(run_script):
    shown = run_script("finetune.py", "--small", "--rounds", 1, "--updates", 6, "--seconds", 1, needs_s3prl=True)
    for side in ("s3prl", "speechft", "no_cache"):
        assert f"| cpu, fp32 | {side} |" in shown


@pytest.mark.slow
def test_the_script_for_gpus_runs_on_the_cpu(run_script, tmp_path):
    out = tmp_path / "gpu"
    shown = run_script("gpu.py", "--small", "--device", "cpu", "--out", out, "--skip", "right", "--s3prl-python", "none")
    for row in (
        "stage 1: fp32",
        "stage 1: bf16",
        "cell: ks, fp32",
        "cell: sd, bf16",
        "cell: qbe, fp32",
        "calibrate: ",
        "s3prl: encoder.py: left out",
    ):
        assert row in shown
    assert "failed" not in shown
    rows = json.loads((out / "gpu.json").read_text())["rows"]
    assert all(row["updates_per_second"] > 0 for row in rows if row["section"] == "stage 1")
    assert (out / "throughput.json").is_file()
