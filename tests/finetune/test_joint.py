"""Several tasks jointly: one encoder, a head each, batches in turn."""

import json

import pytest
import torch
from finetune.watching import Updates, read_log

from speechft.errors import ConfigError, TaskError
from speechft.fairseq_plugin.trainer import import_fairseq
from speechft.finetune import finetune
from speechft.finetune.parts import take_turns
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.recipes.values import validate

VALUES = {
    "task": "pr",
    "updates": 12,
    "batch_size": 6,
    "accumulate": 3,
    "validate_every": 4,
    "peak_lr": 1e-3,
    "share": 2,
    "jointly": {"sid": {"task": "sid", "batch_size": 4}},
}
RECIPE = validate(FinetuneRecipe, VALUES, "test")


def test_turns_keep_to_the_shares_after_every_batch():
    assert take_turns([1, 1], 6) == [0, 1, 0, 1, 0, 1]
    assert take_turns([2, 1], 6) == [0, 1, 0, 0, 1, 0]
    for shares in ([1, 1, 1], [5, 2, 1], [0.7, 0.1, 0.2]):
        turns = take_turns(shares, 300)
        for number in range(1, 301):
            for part, share in enumerate(shares):
                assert abs(turns[:number].count(part) - number * share / sum(shares)) < 1.0


def test_each_batch_trains_its_own_head_and_the_mean_error_chooses(theta0, corpus, tmp_path, monkeypatch):
    import_fairseq()
    from speechft.fairseq_plugin.criterion import TaskLoss

    seen = []
    forward = TaskLoss.forward

    def watched(criterion, model, sample, reduce=True):
        if model.training:
            seen.append((sample["part"], len(sample["ids"])))
        return forward(criterion, model, sample, reduce)

    monkeypatch.setattr(TaskLoss, "forward", watched)
    updates = Updates(monkeypatch)
    finetune(theta0, RECIPE, corpus, tmp_path / "out", jointly={"sid": corpus})
    assert [part for part, _ in seen[:3]] == ["pr", "sid", "pr"]
    assert sum(part == "sid" for part, _ in seen) == 12
    assert {size for part, size in seen if part == "sid"} <= {4, 2}
    heads = {name.split(".")[1] for name in updates.states[0] if name.startswith("head.")}
    assert heads == {"head_pr", "head_sid"}
    moved = updates.moved(1, 12)
    assert all(any(name.startswith(f"head.{head}.") for name in moved) for head in heads)
    assert any("attention" in name for name in moved)

    rows = [row for row in read_log(tmp_path / "out") if row["dev_loss"]]
    assert [int(row["update"]) for row in rows] == [4, 8, 12]
    for row in rows:
        expected = (float(row["dev_PR"]) + 1 - float(row["dev_SID"])) / 2
        assert float(row["dev_MEAN_ERROR"]) == pytest.approx(expected, abs=2e-3)
    best = min(rows, key=lambda row: float(row["dev_MEAN_ERROR"]))
    provenance = json.loads((tmp_path / "out/provenance.json").read_text())["recipe"]
    assert (provenance["best_update"], provenance["selected_by"]) == (int(best["update"]), "dev MEAN_ERROR")


def test_an_update_follows_the_mean_of_the_losses_of_its_batches(theta0, corpus, tmp_path, monkeypatch):
    """Gradients of the encoder are those of both tasks: without the other task they are different ones."""
    plain = RECIPE.model_copy(update={"updates": 2, "validate_every": 2, "head_only": 0.0, "accumulate": 2, "share": 1.0})
    updates = Updates(monkeypatch)
    finetune(theta0, plain, corpus, tmp_path / "both", jointly={"sid": corpus})
    finetune(theta0, plain.model_copy(update={"jointly": {}}), corpus, tmp_path / "alone")
    both, _, alone, _ = updates.gradients
    assert all(both[f"head.head_{part}.projector.weight"].abs().max() > 0 for part in ("pr", "sid"))
    assert read_log(tmp_path / "both")[0]["loss"] != read_log(tmp_path / "alone")[0]["loss"]
    key = "encoder.backbone.encoder.layers.0.attention.q_proj.weight"
    assert not torch.equal(both[key], alone[key])


def test_two_tasks_of_one_kind_are_told_apart(theta0, corpus, tmp_path):
    recipe = validate(FinetuneRecipe, {**VALUES, "task": "sid", "updates": 4, "jointly": {"other": {"task": "sid"}}}, "test")
    finetune(theta0, recipe, corpus, tmp_path / "out", jointly={"other": corpus})
    assert {"dev_SID_sid", "dev_SID_other", "dev_MEAN_ERROR"} < set(read_log(tmp_path / "out")[0])


def test_words_without_pronunciation_are_told_of_both_splits_before_training(theta0, corpus, tmp_path):
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("TWO T UW1\n")
    values = {**VALUES, "task_options": {"lexicon": [str(lexicon)]}}
    with pytest.raises(TaskError) as caught:
        finetune(theta0, validate(FinetuneRecipe, values, "test"), corpus, tmp_path / "out", jointly={"sid": corpus})
    heading, *lines = str(caught.value).splitlines()
    assert heading.startswith(f"pr: 1 word(s) are in none of the lexicons {lexicon} (train 1, dev 1). ")
    assert lines == ["  ONE: train0, train1, train2 and 24 more"]
    assert not (tmp_path / "out").exists()


def test_tasks_and_manifests_must_fit(theta0, corpus, tmp_path):
    with pytest.raises(ConfigError, match="the recipe has sid besides pr, manifests are given for none"):
        finetune(theta0, RECIPE, corpus, tmp_path / "out")
