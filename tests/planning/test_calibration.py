"""Measuring: a tiny encoder, files that appear whole, refusals."""

import json

import pytest
import torch
from typer.testing import CliRunner

from speechft.cli import app
from speechft.encoders import random_encoder
from speechft.errors import ConfigError, TrainingError
from speechft.planning import calibration
from speechft.planning.calibration import calibrate
from speechft.planning.shapes import shape_of_directory
from speechft.planning.speeds import load_throughput
from speechft.tasks.catalog import HEAD_TASKS


@pytest.fixture
def tiny(tmp_path):
    return random_encoder("hubert", tmp_path / "tiny")


def test_a_tiny_encoder_is_measured_in_every_way(tiny, monkeypatch):
    monkeypatch.setattr(calibration, "HEAD_SECONDS", 1.0)
    state = torch.random.get_rng_state()
    found = calibrate("cpu", [str(tiny)], seconds=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    (speed,) = found.encoders.values()
    assert (list(found.encoders), speed.shape) == (["tiny"], shape_of_directory(tiny))
    # Machines are busy at times: only what no load changes is compared.
    assert set(speed.forward) == {"fp32"}
    assert 0 < speed.forward["fp32"] < 10_000
    assert 0 < speed.update["fp32"] < 10_000
    assert 0 < speed.step_seconds < 10
    assert set(found.heads) == set(HEAD_TASKS)
    # 43 million weights against 0.2 million.
    assert found.heads["pr"] > 2 * found.heads["asr"]
    assert set(found.pooled_steps) == {"ks", "sid"}
    assert found.search_frames > 1e3
    assert found.threads == torch.get_num_threads()


def test_the_fastest_of_several_repetitions_counts(monkeypatch):
    times = iter([0.0, 3.0, 3.0, 4.0, 4.0, 9.0] + [9.0, 14.0] * 20)
    monkeypatch.setattr(calibration, "_time", lambda device: next(times))
    monkeypatch.setattr(calibration, "MAX_REPETITIONS", 3)
    assert calibration._fastest(lambda: None, torch.device("cpu"), 1e9) == 1.0


def test_a_batch_is_as_large_as_memory_allows():
    heard = []

    def work(waveforms):
        heard.append(sum(map(len, waveforms)) / 16_000)
        if heard[-1] > 20:
            raise torch.OutOfMemoryError("full")

    assert calibration._speed(work, 100.0, torch.device("cpu"), 0.0) > 0
    assert heard[-1] <= 20 < heard[-2]
    with pytest.raises(TrainingError, match="a batch of 4 s does not fit"):
        calibration._speed(lambda waveforms: work([torch.zeros(16_000 * 21)]), 100.0, torch.device("cpu"), 0.0)


def test_wrong_devices_and_encoders_are_refused():
    with pytest.raises(ConfigError, match="--device tpu: unknown device. Choose cpu or cuda"):
        calibrate("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="torch sees no GPU here. Run this on a node with one"):
            calibrate("cuda")
    with pytest.raises(ConfigError, match=r"--encoder hubrt: neither a family \(hubert, .*\) nor an encoder directory"):
        calibrate("cpu", ["hubrt"])


def test_the_command_writes_one_file(toy, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(calibration, "calibrate", lambda *given, **options: asked.append((given, options)) or toy)
    monkeypatch.setattr("speechft.cli.planning.use_threads", lambda threads: asked.append(threads))
    out = tmp_path / "new" / "speeds.json"
    command = ["calibrate", "--device", "cpu", "--threads", "1", "--encoder", "hubert", "--out", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert asked == [1, (("cpu", ["hubert"]), {"seconds": 100.0})]
    assert load_throughput(out).devices == {"Toy, 1 thread": toy}
    assert "hubert_base, hours of audio per hour: forward 10 in fp32; forward and backward 2.5 in fp32" in done.output
    assert [path.name for path in out.parent.iterdir()] == ["speeds.json"]
    # A damaged file is refused before anything is measured, and stays.
    out.write_text(json.dumps({"devices": {}}))
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, ConfigError)
    assert len(asked) == 3
    assert out.read_text() == '{"devices": {}}'
