"""Whole runs on a tiny encoder; what happens inside is watched at fairseq's optimizer step."""

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
from filelock import FileLock

from speechft.corpora import load_split
from speechft.encoders import load_encoder
from speechft.encoders.directory.random_encoders import random_encoder
from speechft.errors import ConfigError, CorpusError, TrainingError
from speechft.fairseq_plugin.trainer import import_fairseq
from speechft.files.hashes import sha256_file
from speechft.files.locks import LOCK_SECONDS
from speechft.finetune import finetune, stage1
from speechft.finetune.batches import CutDataset
from speechft.finetune.method import multiplier
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.tasks import get_task

RECIPE = FinetuneRecipe(task="sid", updates=20, batch_size=4, accumulate=2, validate_every=4, peak_lr=2e-3, clip_norm=0.5, seed=3)


class Spy:
    """Stands in for `FinetuneTask.optimizer_step`: remembers every update, and can do something before one of them."""

    def __init__(self, monkeypatch, before=None):
        import_fairseq()
        from speechft.fairseq_plugin.task import FinetuneTask

        self.states, self.heads, self.rates, self.norms, self.models = [], [], [], [], []
        original = FinetuneTask.optimizer_step

        def step(task, optimizer, model, update_num):
            if before is not None:
                before(update_num + 1)
            if not self.heads:
                self.heads.append(clone(model.head.state_dict()))
            gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
            self.norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))
            self.rates.append(optimizer.param_groups[0]["lr"])
            original(task, optimizer, model, update_num)
            self.states.append(clone(model.encoder.backbone.state_dict()))
            self.heads.append(clone(model.head.state_dict()))

        monkeypatch.setattr(FinetuneTask, "optimizer_step", step)


def clone(state):
    return {name: tensor.clone() for name, tensor in state.items()}


def read_log(out):
    with (out / "training.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(theta0, corpus, tmp_path_factory):
    """One uninterrupted run and what the spy saw."""
    out = tmp_path_factory.mktemp("finished") / "out"
    with pytest.MonkeyPatch.context() as patch:
        spy = Spy(patch)
        finetune(theta0, RECIPE, corpus, out)
    return out, spy


def test_head_learns_alone_then_all_but_the_extractor(finished, theta0):
    _, spy = finished
    encoder = load_encoder(theta0)
    start = encoder.backbone.state_dict()
    assert len(spy.states) == 20
    for state in spy.states[:2]:
        assert all(torch.equal(state[name], start[name]) for name in start)
    assert not torch.equal(spy.heads[2]["projector.weight"], spy.heads[0]["projector.weight"])
    extractor = set(encoder.extractor_parameter_names())
    assert len(extractor) == 9
    for state in spy.states:
        assert all(torch.equal(state[name], start[name]) for name in extractor)
    # No masking, so no gradient; biases of the keys cancel in the softmax, so theirs is rounding noise.
    exempt = {name for name in start if name == "masked_spec_embed" or name.endswith("k_proj.bias")}
    moved = {name for name in start if not torch.equal(spy.states[2][name], start[name])}
    assert moved - exempt == set(start) - extractor - exempt
    assert torch.equal(spy.states[-1]["masked_spec_embed"], start["masked_spec_embed"])


def test_rates_are_the_multipliers_times_the_peak(finished):
    out, spy = finished
    expected = [2e-3 * multiplier(k, 20) for k in range(20)]
    assert spy.rates == pytest.approx(expected, abs=1e-15)
    assert [float(row["lr"]) for row in read_log(out)] == pytest.approx(expected, rel=1e-5)


def test_gradients_are_clipped_jointly(finished):
    out, spy = finished
    logged = [float(row["grad_norm"]) for row in read_log(out)]
    assert max(logged) > 0.5
    assert spy.norms == pytest.approx([min(norm, 0.5) for norm in logged], abs=2e-3)


def test_best_encoder_on_dev_is_the_output(finished, theta0):
    out, spy = finished
    rows = read_log(out)
    assert [int(row["update"]) for row in rows] == list(range(1, 21))
    assert [row["phase"] for row in rows] == ["head"] * 2 + ["all"] * 18
    scores = {int(row["update"]): float(row["dev_SID"]) for row in rows if row["dev_SID"]}
    assert list(scores) == [4, 8, 12, 16, 20]
    best = max(scores, key=scores.get)
    provenance = json.loads((out / "provenance.json").read_text())
    assert (provenance["recipe"]["best_update"], provenance["recipe"]["dev_score"]) == (best, scores[best])
    assert provenance["kind"] == "finetune"
    assert provenance["inputs"]["base"]["sha256"] == sha256_file(theta0 / "model.safetensors")
    weights = load_encoder(out).backbone.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in spy.states[best - 1].items())


def test_finished_training_is_not_trained_again(theta0, corpus, tmp_path, monkeypatch):
    recipe = RECIPE.model_copy(update={"updates": 3, "validate_every": 2})
    finetune(theta0, recipe, corpus, tmp_path / "out", tmp_path / "work", keep_work=True)
    spy = Spy(monkeypatch)
    finetune(theta0, recipe, corpus, tmp_path / "again", tmp_path / "work")
    assert not spy.states
    assert sha256_file(tmp_path / "again/model.safetensors") == sha256_file(tmp_path / "out/model.safetensors")
    assert (tmp_path / "again/training.csv").read_text() == (tmp_path / "out/training.csv").read_text()


def test_importing_the_package_is_cheap():
    code = "import sys, speechft.finetune; assert not {'torch', 'fairseq', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_work_directory_is_gone(finished):
    out, _ = finished
    assert not any(path.is_dir() for path in (out.parent / ".work").iterdir())


@pytest.mark.parametrize("how", ["exception", "sigterm", "damage"])
def test_interrupted_run_ends_with_the_same_weights(how, finished, theta0, corpus, tmp_path, monkeypatch):
    expected, _ = finished

    def interrupt(update):
        if update == 11:
            if how != "sigterm":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)

    out, work = tmp_path / "out", tmp_path / "work"
    with monkeypatch.context() as patch:
        Spy(patch, interrupt)
        with pytest.raises(TrainingError if how == "sigterm" else KeyboardInterrupt):
            finetune(theta0, RECIPE, corpus, out, work)
    assert not out.exists()
    if how == "damage":
        for path in [
            work / "checkpoints/checkpoint_last.pt",
            work / "checkpoints/checkpoint_1_8.pt",
            work / "checkpoints/checkpoint_best.pt",
        ]:
            path.write_bytes(path.read_bytes()[:1000])
        with (work / "training.csv").open("a") as file:
            file.write("11,0.")
    with monkeypatch.context() as patch:
        spy = Spy(patch)
        finetune(theta0, RECIPE, corpus, out, work)
    assert len(spy.states) == {"exception": 12, "sigterm": 9, "damage": 16}[how]
    assert sha256_file(out / "model.safetensors") == sha256_file(expected / "model.safetensors")
    assert (out / "training.csv").read_text() == (expected / "training.csv").read_text()


def test_updates_equal_a_plain_loop_with_torch_adam(corpus, tmp_path, monkeypatch):
    """Mean over accumulated batches, joint clipping, Adam, schedule and freezing, all against twenty lines of torch."""
    base = random_encoder("hubert", tmp_path / "base", seed=1, dropout=0.0, attention_dropout=0.0)
    recipe = RECIPE.model_copy(update={"updates": 10, "validate_every": 10, "head_only": 0.2, "warmup": 0.2, "accumulate": 3})
    spy = Spy(monkeypatch)
    finetune(base, recipe, corpus, tmp_path / "out")

    task = get_task("sid")
    cuts = load_split(corpus, "train")
    labels = task.label_set(cuts)
    data = CutDataset(cuts, "train", task, labels, batch_size=4, max_batch_seconds=400.0, num_batches=30, seed=recipe.seed)
    batches = iter([data.collater([data[index] for index in batch]) for batch in data.batch_by_size(data.ordered_indices())])
    encoder = load_encoder(base).train()
    head = task.build_head(encoder.hidden_size, labels)
    head.load_state_dict(spy.heads[0])
    extractor = set(encoder.extractor_parameter_names())
    rest = [parameter for name, parameter in encoder.backbone.named_parameters() if name not in extractor]
    optimizer = torch.optim.Adam([*head.parameters(), *rest], lr=1.0)
    for update in range(10):
        for parameter in rest:
            parameter.requires_grad_(update >= 2)
        for batch in itertools.islice(batches, 3):
            output = encoder.encode(batch["waveforms"])
            logits, lengths = head(output.hidden_states[-1], output.lengths)
            (task.loss(logits, lengths, batch["targets"]) / 3).backward()
        torch.nn.utils.clip_grad_norm_([*head.parameters(), *rest], 0.5)
        optimizer.param_groups[0]["lr"] = 2e-3 * multiplier(update, 10, 0.2, 0.4)
        optimizer.step()
        optimizer.zero_grad()
    for name, parameter in head.named_parameters():
        torch.testing.assert_close(parameter.data, spy.heads[-1][name], rtol=0, atol=2e-6)
    # A bias of the keys moves by rounding noise that Adam blows up.
    for name, parameter in encoder.backbone.named_parameters():
        if not name.endswith("k_proj.bias"):
            difference = (parameter.data - spy.states[-1][name]).abs()
            assert difference.mean() < 1e-7, name
            assert difference.max() < 1e-4, name


def test_ctc_and_bfloat16_and_everything_trainable_from_the_start(theta0, corpus, tmp_path, monkeypatch):
    spy = Spy(monkeypatch)
    changes = {
        "task": "pr",
        "updates": 2,
        "validate_every": 1,
        "precision": "bf16",
        "head_only": 0.0,
        "warmup": 0.0,
        "freeze_extractor": False,
    }
    finetune(theta0, RECIPE.model_copy(update=changes), corpus, tmp_path / "out")
    start = load_encoder(theta0).backbone.state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in spy.states[0].values())
    still = {name for name in start if torch.equal(spy.states[0][name], start[name]) and not name.endswith("k_proj.bias")}
    assert still == {"masked_spec_embed"}
    assert [bool(row["dev_PR"]) for row in read_log(tmp_path / "out")] == [True, True]


def test_nan_names_update_and_utterances(theta0, corpus, tmp_path, monkeypatch):
    from speechft.tasks.sid import SpeakerIdentification

    seen = []

    def loss(task, logits, lengths, targets):
        seen.append(len(targets))
        return logits.sum() * (float("nan") if len(seen) == 5 else 1.0)

    monkeypatch.setattr(SpeakerIdentification, "loss", loss)
    with pytest.raises(TrainingError, match=r"Update 3: the loss is nan\. Utterances of the batch: train\d+, train\d+"):
        finetune(theta0, RECIPE, corpus, tmp_path / "out", tmp_path / "work")
    assert not (tmp_path / "work/checkpoints/crash.pt").exists()
    assert not (tmp_path / "out").exists()


def test_nan_gradient_names_update_and_utterances(theta0, corpus, tmp_path, monkeypatch):
    from speechft.tasks.sid import SpeakerIdentification

    seen = []

    def loss(task, logits, lengths, targets):
        seen.append(len(targets))
        return (logits * 0.0).abs().sum().sqrt() if len(seen) == 5 else logits.pow(2).sum()

    monkeypatch.setattr(SpeakerIdentification, "loss", loss)
    with pytest.raises(TrainingError, match=r"Update 3: gradients are Nan/Inf\. Utterances of the batch: (train\d+(, )?){8}\."):
        finetune(theta0, RECIPE, corpus, tmp_path / "out", tmp_path / "work")


def test_work_directory_in_use_or_of_another_job_is_refused(theta0, corpus, tmp_path):
    with FileLock(tmp_path / "work.lock"), pytest.raises(Exception, match="another process is fine-tuning"):
        finetune(theta0, RECIPE, corpus, tmp_path / "out", tmp_path / "work")
    (tmp_path / "work").mkdir()
    (tmp_path / "work/identity.json").write_text('{"job": "another"}')
    with pytest.raises(TrainingError, match="another recipe or other inputs"):
        finetune(theta0, RECIPE, corpus, tmp_path / "out", tmp_path / "work")


def test_bad_inputs_are_named(theta0, corpus, tmp_path):
    with pytest.raises(CorpusError, match="dev"):
        finetune(theta0, RECIPE, {"train": corpus / "train.jsonl.gz"}, tmp_path / "out")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="fp16"):
            finetune(theta0, RECIPE.model_copy(update={"precision": "fp16"}), corpus, tmp_path / "out")


def test_who_waited_for_another_process_finds_its_work_done_and_does_not_train(theta0, corpus, tmp_path, monkeypatch):
    finetune(theta0, RECIPE, corpus, tmp_path / "out", tmp_path / "work")
    before = sha256_file(tmp_path / "out/model.safetensors")
    trained = []
    monkeypatch.setattr(stage1, "_train", lambda *arguments: trained.append(1))
    monkeypatch.setattr(stage1, "_write_output", lambda *arguments: None)
    monkeypatch.setenv(LOCK_SECONDS, "60")

    def after_another(recipe):
        other = FileLock(tmp_path / "work.lock", thread_local=False)
        other.acquire()
        threading.Timer(1, other.release).start()
        finetune(theta0, recipe, corpus, tmp_path / "out", tmp_path / "work")

    after_another(RECIPE)
    assert not trained
    assert sha256_file(tmp_path / "out/model.safetensors") == before
    after_another(RECIPE.model_copy(update={"seed": 99}))
    assert trained, "what is there was made by another recipe"
    trained.clear()
    finetune(theta0, RECIPE, corpus, tmp_path / "out", tmp_path / "work2")
    assert trained, "who did not wait was asked to train"
