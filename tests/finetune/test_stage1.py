"""Whole runs on a tiny encoder; what happens inside is watched at fairseq's optimizer step."""

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
from finetune.watching import Updates, differing, read_log, watch_steps

from speechft.corpora import load_split
from speechft.encoders import load_encoder
from speechft.encoders.directory.random_encoders import random_encoder
from speechft.errors import ConfigError, CorpusError, TrainingError
from speechft.files.hashes import sha256_file
from speechft.files.locks import LOCK_SECONDS
from speechft.finetune import finetune, stage1
from speechft.finetune.batches import CutDataset
from speechft.finetune.method import multiplier
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.tasks import get_task

RECIPE = FinetuneRecipe(task="sid", updates=20, batch_size=4, accumulate=2, validate_every=4, peak_lr=2e-3, clip_norm=0.5, seed=3)


@pytest.fixture(scope="module")
def finished(theta0, corpus, tmp_path_factory):
    """One uninterrupted run and its updates."""
    out = tmp_path_factory.mktemp("finished") / "out"
    with pytest.MonkeyPatch.context() as patch:
        updates = Updates(patch)
        finetune(theta0, RECIPE, corpus, out)
    return out, updates


def test_rates_are_the_multipliers_times_the_peak_and_gradients_are_clipped_jointly(finished):
    out, updates = finished
    rows = read_log(out)
    expected = [2e-3 * multiplier(k, 20) for k in range(20)]
    assert updates.rates == pytest.approx(expected, abs=1e-15)
    assert [float(row["lr"]) for row in rows] == pytest.approx(expected, rel=1e-5)
    logged = [float(row["grad_norm"]) for row in rows]
    assert max(logged) > 0.5
    norms = [float(torch.stack([gradient.norm() for gradient in gradients.values()]).norm()) for gradients in updates.gradients]
    assert norms == pytest.approx([min(norm, 0.5) for norm in logged], abs=2e-3)


def test_best_encoder_on_dev_is_the_output_and_no_work_is_left(finished, theta0):
    out, updates = finished
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
    assert not differing(updates.encoder(best), load_encoder(out).backbone.state_dict())
    assert not any(path.is_dir() for path in (out.parent / ".work").iterdir())


def test_finished_training_is_not_trained_again(theta0, corpus, tmp_path, monkeypatch):
    recipe = RECIPE.model_copy(update={"updates": 3, "validate_every": 2})
    finetune(theta0, recipe, corpus, tmp_path / "out", tmp_path / "work", keep_work=True)
    updates = Updates(monkeypatch)
    finetune(theta0, recipe, corpus, tmp_path / "again", tmp_path / "work")
    assert not updates.states
    assert sha256_file(tmp_path / "again/model.safetensors") == sha256_file(tmp_path / "out/model.safetensors")
    assert (tmp_path / "again/training.csv").read_text() == (tmp_path / "out/training.csv").read_text()


def test_importing_the_package_is_cheap():
    code = "import sys, speechft.finetune; assert not {'torch', 'fairseq', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sigterm_ends_the_run_after_its_update_and_the_next_one_resumes(finished, theta0, corpus, tmp_path, monkeypatch):
    out, work = tmp_path / "out", tmp_path / "work"
    with monkeypatch.context() as patch, pytest.raises(TrainingError):
        watch_steps(patch, lambda done, *_: os.kill(os.getpid(), signal.SIGTERM) if done == 10 else None)
        finetune(theta0, RECIPE, corpus, out, work)
    assert not out.exists()
    updates = Updates(monkeypatch)
    finetune(theta0, RECIPE, corpus, out, work)
    assert len(updates.gradients) == 9
    for file in ("model.safetensors", "training.csv"):
        assert sha256_file(out / file) == sha256_file(finished[0] / file)


def test_updates_equal_a_plain_loop_with_torch_adam(corpus, tmp_path, monkeypatch):
    """Mean over accumulated batches, joint clipping, Adam, schedule and freezing, all against twenty lines of torch."""
    base = random_encoder("hubert", tmp_path / "base", seed=1, dropout=0.0, attention_dropout=0.0)
    recipe = RECIPE.model_copy(update={"updates": 10, "validate_every": 10, "head_only": 0.2, "warmup": 0.2, "accumulate": 3})
    updates = Updates(monkeypatch)
    finetune(base, recipe, corpus, tmp_path / "out")

    task = get_task("sid")
    cuts = load_split(corpus, "train")
    labels = task.label_set(cuts)
    data = CutDataset(cuts, "train", task, labels, batch_size=4, max_batch_seconds=400.0, num_batches=30, seed=recipe.seed)
    batches = iter([data.collater([data[index] for index in batch]) for batch in data.batch_by_size(data.ordered_indices())])
    encoder = load_encoder(base).train()
    head = task.build_head(encoder.hidden_size, labels)
    head.load_state_dict(updates.part(0, "head."))
    extractor = set(encoder.extractor_parameter_names())
    rest = [parameter for name, parameter in encoder.backbone.named_parameters() if name not in extractor]
    optimizer = torch.optim.Adam([*head.parameters(), *rest], lr=1.0)
    for update in range(10):
        for parameter in rest:
            parameter.requires_grad_(update >= 2)
        for batch in itertools.islice(batches, 3):
            output = encoder.encode(batch["speech"])
            logits, lengths = head(output.hidden_states[-1], output.lengths)
            (task.loss(logits, lengths, batch["targets"]) / 3).backward()
        torch.nn.utils.clip_grad_norm_([*head.parameters(), *rest], 0.5)
        optimizer.param_groups[0]["lr"] = 2e-3 * multiplier(update, 10, 0.2, 0.4)
        optimizer.step()
        optimizer.zero_grad()
    for name, parameter in head.named_parameters():
        torch.testing.assert_close(parameter.data, updates.states[-1][f"head.{name}"], rtol=0, atol=2e-6)
    # A bias of the keys moves by rounding noise that Adam blows up.
    for name, parameter in encoder.backbone.named_parameters():
        if not name.endswith("k_proj.bias"):
            difference = (parameter.data - updates.encoder(10)[name]).abs()
            assert difference.mean() < 1e-7, name
            assert difference.max() < 1e-4, name


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda logits: logits.sum() * float("nan"), r"Update 3: the loss is nan\. Utterances of the batch: (train\d+(, )?){4}\."),
        # The gradient is finite here.
        (lambda logits: logits.sum() + float("inf"), r"Update 3: the loss is inf\. Utterances of the batch: (train\d+(, )?){4}\."),
        (
            lambda logits: (logits * 0.0).abs().sum().sqrt(),
            r"Update 3: gradients are Nan/Inf\. Utterances of the batch: (train\d+(, )?){8}\.",
        ),
    ],
)
def test_nan_names_update_and_utterances(loss, message, theta0, corpus, tmp_path, monkeypatch):
    from speechft.tasks.sid import SpeakerIdentification

    seen = []

    def fifth_is_bad(task, logits, lengths, targets):
        seen.append(len(targets))
        return loss(logits) if len(seen) == 5 else logits.pow(2).sum()

    monkeypatch.setattr(SpeakerIdentification, "loss", fifth_is_bad)
    with pytest.raises(TrainingError, match=message):
        finetune(theta0, RECIPE, corpus, tmp_path / "out", tmp_path / "work")
    assert not (tmp_path / "work/checkpoints/crash.pt").exists()
    assert not (tmp_path / "out").exists()


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
    out, work = tmp_path / "out", tmp_path / "work"
    finetune(theta0, RECIPE, corpus, out, work)
    before = sha256_file(out / "model.safetensors")
    trained = []
    monkeypatch.setattr(stage1, "_train", lambda *arguments: trained.append(1))
    monkeypatch.setattr(stage1, "_write_output", lambda *arguments: None)
    monkeypatch.setenv(LOCK_SECONDS, "60")

    def trains(recipe, work, waits=True):
        trained.clear()
        other = FileLock(tmp_path / "work.lock", thread_local=False)
        if waits:
            other.acquire()
            threading.Timer(1, other.release).start()
        finetune(theta0, recipe, corpus, out, work)
        return bool(trained)

    assert not trains(RECIPE, work)
    assert sha256_file(out / "model.safetensors") == before
    assert trains(RECIPE.model_copy(update={"seed": 99}), work), "what is there was made by another recipe"
    assert trains(RECIPE, tmp_path / "work2", waits=False), "who did not wait was asked to train"
