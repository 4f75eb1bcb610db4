"""Hours, disk and what is printed."""

import gzip
import json
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from planning.conftest import speeds
from typer.testing import CliRunner

from speechft.cli import app
from speechft.encoders import load_encoder, random_encoder
from speechft.encoders.directory.random_encoders import base_sizes
from speechft.encoders.families import FAMILIES
from speechft.errors import CheckpointError, ConfigError, SpeechFTError
from speechft.experiment.encoders import PublicEncoder
from speechft.experiment.schema import load_experiment
from speechft.planning.plan import KEPT_CHECKPOINTS, plan_experiment
from speechft.planning.shapes import base_shape, head_arithmetic, shape_of, shape_of_directory
from speechft.planning.speeds import EncoderSpeed, Throughput, load_throughput, save_device


@pytest.fixture
def file(toy, tmp_path):
    save_device(tmp_path / "speeds.json", toy)
    return tmp_path / "speeds.json"


@pytest.fixture
def small(tmp_path):
    """An experiment file: two published corpora, a fine-tuning, a merge, two tasks. A call changes keys of it."""
    values = {
        "name": "x",
        "results": "/nowhere",
        "corpora": {"libri": {"kind": "librispeech", "path": "x"}, "voice": {"kind": "voxceleb1", "use": "sid", "path": "x"}},
        "encoders": {"hubert_base": {"kind": "public", "name": "hubert_base"}},
        "finetunings": {"pr": {"corpus": "libri", "recipe": {"like": "pr"}}},
        "tasks": {"pr": {"corpus": "libri"}, "sid": {"corpus": "voice"}},
        "tables": {"t": {"title": "t", "encoders": ["hubert_base"], "finetunings": ["pr"], "tasks": ["pr", "sid"]}},
        "resources": {"finetune": {"gpu": 2, "runtime": 600}, "evaluate": {"gpu": 1}},
    }

    def write(**changes):
        (tmp_path / "x.yaml").write_text(yaml.safe_dump({**values, **changes}))
        return tmp_path / "x.yaml"

    return write


@pytest.fixture
def planned(small, toy):
    """Plan targets of the small experiment on the toy device or others."""

    def plan(*targets, devices=None, device=None, **changes):
        return plan_experiment(small(**changes), Throughput(devices=devices or {"a": toy}), list(targets), device=device)

    return plan


def test_hours_are_audio_over_speed(planned):
    plan = planned("hubert_base/none/pretrained/pr")
    (cell,) = plan.by_task()["pr"]
    # LibriSpeech, nothing of it is kept but what fits into 4 GB.
    assert cell.audio_hours == pytest.approx(11_764, rel=1e-4)
    assert cell.encoder_hours == pytest.approx(cell.audio_hours / 10)
    trained, scored = 7 * 3_200_000 / 28_539 * 100.6, 7 * 100 * 5.4 + 5.4
    assert cell.head_hours == pytest.approx((trained + scored / 3) / 100)
    assert {rule: len(costs) for rule, costs in plan.by_rule().items()} == {
        "recipe": 2, "fetch": 1, "import_checkpoint": 1, "manifests": 1, "evaluate": 1,
    }  # fmt: skip
    assert plan.total.disk_gb == pytest.approx(1.136468879 + 4 * 94.4e6 / 1e9, rel=2e-3)


def test_a_training_has_forward_and_backward_passes_steps_and_a_head(planned):
    (training,) = planned("hubert_base/pr/stable_ft").trainings
    heard = 50_000 * 2 * 16 * (3600 * 100.6 / 28_539) / 3600
    assert training.audio_hours == pytest.approx(heard + 25 * 5.4)
    encoder = (0.1 * heard + 25 * 5.4) / 10 + 0.9 * heard / 2.5 + 50_000 * 0.5 / 3600
    assert training.encoder_hours == pytest.approx(encoder)
    assert training.head_hours == pytest.approx(heard / 100)
    # The result, and the early checkpoint.
    assert training.disk_gb == pytest.approx(2 * 4 * 94.4e6 / 1e9, rel=2e-3)
    # Features of the frozen extractor fill what they may: 10 GB, or all that 106 hours have.
    assert training.work_gb == pytest.approx(3 * 4 * 94.4e6 / 1e9 * KEPT_CHECKPOINTS + 10, rel=2e-3)
    (roomy,) = planned("hubert_base/pr/stable_ft", resources={"finetune": {"cache_gb": 50}}).trainings
    assert roomy.work_gb - training.work_gb == pytest.approx(106 * 3600 * 50 * 512 * 4 / 1e9 - 10, rel=1e-2)


def test_a_connection_passes_a_split_at_every_alpha(planned):
    line = {"kind": "connection", "encoder": "hubert_base", "finetuning": "pr", "alphas": [0, 0.5, 1], "split": "test"}
    (job,) = planned("line", curves={"line": line}).by_rule()["connect"]
    assert job.audio_hours == pytest.approx(3 * 5.4)
    assert job.encoder_hours == pytest.approx(3 * 5.4 / 10)
    assert job.head_hours == pytest.approx(3 * 5.4 / 100 / 3)


def test_gpu_hours_count_the_gpus_of_a_job(planned):
    devices = {"cpu": speeds(), "gpu": speeds("cuda", "Fast", forward=1000.0)}
    plan = planned("hubert_base/pr/stable_ft", "hubert_base/none/pretrained/sid", devices=devices)
    (training,) = plan.trainings
    assert plan.device.name == "Fast"
    # A fine-tuning on two GPUs hears twice as much in an update.
    assert plan.device_hours(plan.jobs) == pytest.approx(plan.total.hours + training.hours)
    slow = planned(*plan.targets, devices=devices, device="cpu")
    assert slow.device_hours(slow.jobs) == pytest.approx(slow.total.hours)
    cells = [found.by_task()["sid"][0].encoder_hours for found in (slow, plan)]
    assert cells[0] == pytest.approx(100 * cells[1])


def test_cells_cost_what_the_precision_of_their_recipe_costs(planned):
    speed = EncoderSpeed(
        shape=base_shape("hubert"), forward={"fp32": 10.0, "bf16": 40.0}, update={"fp32": 2.5, "bf16": 5.0}, step_seconds=0.5
    )
    gpu = speeds("cuda", "Fast", encoders={"hubert_base": speed})

    def hours(**recipe):
        tasks = {"pr": {"corpus": "libri"}, "sid": {"corpus": "voice", "recipe": recipe}}
        return planned("hubert_base/none/pretrained/sid", devices={"Fast": gpu}, tasks=tasks).by_task()["sid"][0].encoder_hours

    assert hours(protocol="quick") == pytest.approx(4 * hours(protocol="quick", precision="bf16"))
    # fp16 of a fine-tuning counts as bf16, and fp32 stands in for what was not measured.
    shape = base_shape("hubert")
    assert gpu.forward_hours(shape, 40.0, "fp16") == pytest.approx(1.0)
    assert speeds().forward_hours(shape, 40.0, "bf16") == pytest.approx(4.0)


def test_everything_is_the_sum_of_its_jobs(planned):
    plan = planned()
    value = plan.to_json()
    assert value["total"]["audio_hours"] == pytest.approx(sum(rule["audio_hours"] for rule in value["rules"].values()))
    assert value["total"]["jobs"] == sum(rule["jobs"] for rule in value["rules"].values()) == len(plan.jobs)
    assert value["tasks"]["sid"]["jobs"] == 3
    assert value["longest"] == "finetune hubert_base/pr/stable_ft"
    assert value["corpora"]["voice"]["source"] == "published"
    assert json.loads(json.dumps(value)) == value


def test_an_encoder_that_was_not_measured_is_scaled_by_its_arithmetic(toy):
    half = base_shape("hubert").model_copy(update={"layers": 6})
    expected = 10.0 * base_shape("hubert").arithmetic / half.arithmetic
    assert toy.forward_hours(half, 1.0) == pytest.approx(1 / expected)
    # The extractor learns too in a pre-training: its backward pass comes on top.
    shape = base_shape("hubert")
    assert toy.update_hours(shape, 2.5, "fp32") == pytest.approx(1.0)
    frozen = shape.extractor_arithmetic + 3 * shape.transformer_arithmetic
    assert toy.update_hours(shape, 2.5, "bf16", frozen_extractor=False) == pytest.approx(3 * shape.arithmetic / frozen)
    # A head of a quarter of the arithmetic takes a quarter of the time.
    small = {"projected": 128, "hidden": 128}
    ratio = head_arithmetic("asr", small, shape) / head_arithmetic("asr", {}, shape)
    assert toy.head_hours("asr", small, shape, 5.0) == pytest.approx(ratio)
    assert ratio < 0.1


@pytest.mark.parametrize("family", ["hubert", "wavlm", "decoar2"])
def test_shapes_are_those_of_models(family, tmp_path):
    model = random_encoder(family, tmp_path / "m", encoder_layers=3)
    shape = shape_of_directory(model)
    real = sum(value.numel() for value in load_encoder(model).parameters())
    assert (shape.layers, shape.width, shape.family) == (3, 64, family)
    assert shape.parameters == pytest.approx(real, rel=0.05)
    assert base_sizes(family)["encoder_layers"] == base_shape(family).layers == 12


@pytest.mark.parametrize("family", [family.name for family in FAMILIES.values() if family.directory_only])
def test_shapes_of_families_that_only_transformers_has(family, tmp_path):
    sizes = {"whisper": {"encoder_layers": 8}}.get(family, {"num_hidden_layers": 8})
    model = random_encoder(family, tmp_path / "m", **sizes)
    shape = shape_of_directory(model)
    encoder = load_encoder(model)
    real = sum(value.numel() for value in encoder.backbone.encoder.layers.parameters())
    assert (shape.layers, shape.width, shape.family) == (8, 64, family)
    assert shape.layers * shape._layer_weights == pytest.approx(real, rel=0.1)
    assert shape.frames_per_second == pytest.approx(16000 / encoder.frame_shift)


def test_public_checkpoints_have_their_sizes():
    """About the parameters that their papers give, in millions."""
    published = {"hubert_base": 95, "hubert_large": 317, "hubert_xlarge": 964, "wavlm_large": 316, "xls_r_300m": 317, "mms_1b": 965}
    for name, millions in published.items():
        shape, assumed = shape_of(PublicEncoder(kind="public", name=name))
        assert shape.parameters == pytest.approx(millions * 1e6, rel=0.02)
        assert not assumed


def test_shapes_of_entries(tmp_path):
    # 94.4 million in HuBERT base; norms and biases are left out.
    assert base_shape("hubert").parameters == pytest.approx(94.37e6, rel=2e-3)
    assert base_shape("hubert").frames_per_second == 50
    experiment = load_experiment(ROOT / "tests/experiment.yaml")
    shape, assumed = shape_of(experiment.encoders["hubert_demo"])
    assert (shape.layers, shape.width, assumed) == (3, 192, "")
    elsewhere = load_experiment(ROOT / "config/mini.yaml").encoders["hubert_mini"]
    inside = shape_of(elsewhere.model_copy(update={"path": ROOT / elsewhere.path}))[0]
    assert inside == shape.model_copy(update={"layers": 4})
    base, assumed = shape_of(elsewhere.model_copy(update={"path": tmp_path / "x.pt", "family": "wavlm"}))
    assert base == base_shape("wavlm")
    assert "counted as wavlm base" in assumed
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not the configuration of an encoder"):
        shape_of_directory(tmp_path)


def test_a_part_of_a_name_chooses_a_device():
    devices = {"Fast A100": speeds("cuda", "Fast A100"), "Toy, 1 thread": speeds()}
    found = Throughput(devices=devices)
    assert found.choose(None).kind == found.choose("cuda").kind == found.choose("a100").kind == "cuda"
    assert found.choose("cpu").name == found.choose("toy").name == "Toy"
    with pytest.raises(ConfigError, match="No measured device matches 'H200'. Measured: Fast A100; Toy, 1 thread. To measure"):
        found.choose("H200")
    with pytest.raises(ConfigError, match="No measured device matches 'cuda'"):
        Throughput(devices={"Toy, 1 thread": speeds()}).choose("cuda")


def test_the_file_keeps_other_devices_and_refuses_what_it_is_not(file):
    save_device(file, speeds("cuda", "Fast"))
    save_device(file, speeds(forward=20.0))
    found = load_throughput(file)
    assert set(found.devices) == {"Toy, 1 thread", "Fast"}
    assert found.devices["Toy, 1 thread"].encoders["hubert_base"].forward == {"fp32": 20.0}
    values = json.loads(file.read_text())
    del values["devices"]["Fast"]["heads"]["asr"]
    file.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="heads of asr were not measured; run `speechft calibrate` again"):
        load_throughput(file)
    del values["devices"]["Fast"]
    values["devices"]["Toy, 1 thread"]["encoders"]["hubert_base"]["forward"] = {"bf16": 1.0}
    file.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="hubert_base: has no fp32 speed; run `speechft calibrate` again"):
        load_throughput(file)
    file.write_text("{")
    with pytest.raises(SpeechFTError, match="is not valid JSON"):
        load_throughput(file)
    with pytest.raises(ConfigError, match=r"none\.json: no such file, needed for the speed of this machine. `speechft calibrate`"):
        load_throughput(file.with_name("none.json"))


def test_what_is_shipped_holds_cpus_alone():
    found = load_throughput(ROOT / "config/throughput.json")
    assert {device.kind for device in found.devices.values()} == {"cpu"}
    for label, device in found.devices.items():
        assert label == device.label
        assert {"hubert_base", "wavlm_base", "decoar2_base"} <= set(device.encoders)


@pytest.mark.parametrize("experiment", ["config/paper.yaml", "config/mini.yaml", "tests/experiment.yaml"])
def test_the_command_prints_tables(experiment, file, tmp_path, monkeypatch):
    # Elsewhere, so that what an experiment has made here before does not count.
    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load((ROOT / experiment).read_text())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**values, "results": "results"}))
    shown, as_json = (CliRunner().invoke(app, ["plan", "-e", "mine.yaml", "--throughput", str(file), *more]) for more in ([], ["--json"]))
    assert (shown.exit_code, as_json.exit_code) == (0, 0), shown.output
    rows = {line.split()[0]: line.split() for line in shown.stdout.splitlines() if line.strip()}
    values = json.loads(as_json.stdout)
    assert int(rows["evaluate"][1]) == values["rules"]["evaluate"]["jobs"]
    assert int(rows["total"][1]) == values["total"]["jobs"]
    assert "These are CPU hours" in shown.stdout
    assert "speechft calibrate --device cuda" in shown.stdout
    sources = {"published": "published", "table": "its", "unknown": "UNKNOWN", "manifests": "manifests"}
    assert all(rows[corpus][1] == sources[found["source"]] for corpus, found in values["corpora"].items())
    if experiment == "tests/experiment.yaml":
        assert "Sums exclude jobs on corpora of unknown size" in shown.stdout
        assert rows["evaluate"][2] == "0+?"
        assert values["jobs"][0]["hours"] is None


def test_planning_needs_neither_torch_nor_audio(file):
    code = (
        "import sys; from speechft.planning.plan import KEPT_CHECKPOINTS, plan_experiment; "
        "from speechft.planning.speeds import load_throughput; from speechft.planning.report import report; "
        f"plan = plan_experiment('config/paper.yaml', load_throughput({str(file)!r})); list(report(plan, 'x')); "
        "print({'torch', 'transformers', 'lhotse', 'soundfile', 'fairseq'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "set()", done.stderr


def test_manifests_are_used_where_they_are(planned, tmp_path):
    folder = tmp_path / "corpora/libri"
    folder.mkdir(parents=True)
    (folder / "corpus.json").write_text(json.dumps({"splits": {split: {} for split in ("train", "dev", "test")}}))
    for split in ("train", "dev", "test"):
        with gzip.open(folder / f"{split}.jsonl.gz", "wt") as file:
            file.write('{"id": "a", "duration": 3600}\n')
    plan = planned("hubert_base/none/pretrained/pr", results=str(tmp_path))
    assert plan.corpora["libri"].source == "manifests"
    assert plan.total.audio_hours == pytest.approx(3_200_000 + 100 + 1)
